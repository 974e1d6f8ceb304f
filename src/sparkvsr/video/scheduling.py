"""Undo what SVT-AV1 does to the scheduling of the process that opens it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def kept_scheduling() -> Iterator[None]:
    """Give this thread, and threads started inside the block, the scheduling policy that this thread has now.

    SVT-AV1 raises itself to SCHED_FIFO 99 when it is opened and never gives that back (seen with 4.1). Where it is
    permitted, which means for root and so in most containers, the encoder and all that the process does later would
    come before every other process of the machine, whatever their niceness.

    Does nothing but on Linux; the encoder asks on no other system that we know of.
    """
    if sys.platform != "linux":
        yield
        return
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    before = _thread_ids()
    try:
        yield
    finally:
        for thread in [0, *sorted(_thread_ids() - before)]:
            # A thread may have ended in between; and what cannot be lowered was not raised by us.
            with suppress(OSError):
                if (os.sched_getscheduler(thread), os.sched_getparam(thread)) != (policy, parameters):
                    os.sched_setscheduler(thread, policy, parameters)


def _thread_ids() -> set[int]:
    try:
        return {int(path.name) for path in _THREADS.iterdir()}
    except OSError:  # no /proc
        return set()
