"""Memory that is free but still held by the C library."""

from __future__ import annotations

import ctypes
import sys
from functools import lru_cache
from typing import Any


def release_free_memory() -> bool:
    """Give free pages of the heap back to the system.

    Large tensors come and go in several threads at once (reading, motion, network, encoder). glibc keeps what they
    leave behind in its heaps, in pieces that seldom fit again, so the resident set of a long run creeps upward although
    nothing is held. Takes about 20 ms; benchmarks/memory.py shows the effect.

    Returns:
        Whether the C library can do so (glibc can; macOS, Windows and musl give memory back by themselves or not).
    """
    trim = _malloc_trim()
    if trim is None:
        return False
    trim(0)
    return True


@lru_cache(maxsize=1)
def _malloc_trim() -> Any:
    if not sys.platform.startswith("linux"):
        return None
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim
