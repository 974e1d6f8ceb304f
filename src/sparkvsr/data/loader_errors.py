"""What goes wrong in a loader process, said as if it had happened in this one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sparkvsr.errors import ResourceError, SparkVSRError

_TRACE = "Original Traceback (most recent call last)"


@contextmanager
def plain_worker_errors() -> Iterator[None]:
    """Take the traceback out of the errors that torch's loader passes on.

    Raises:
        SparkVSRError: of the class that the loader process raised, with its own message.
        ResourceError: a loader process was killed, or the shared memory that samples pass through is full.
    """
    try:
        yield
    except SparkVSRError as exc:
        text = str(exc.args[0]) if exc.args else ""  # the whole of it: as a string an error is one line and cut short
        if _TRACE not in text:
            raise
        raise type(exc)(text.rpartition(f"{type(exc).__name__}: ")[2].strip()) from exc
    except RuntimeError as exc:
        text = str(exc)
        if "Bus error" in text or "shared memory" in text or "shm" in text:
            msg = (
                "the loader processes have too little shared memory (/dev/shm); give it more (docker --shm-size), or "
                "set data.prefetch, data.num_workers or data.batch_size lower"
            )
            raise ResourceError(msg) from exc
        if "DataLoader worker" in text and ("killed" in text or "exited unexpectedly" in text):
            msg = "a loader process was killed, most likely for want of memory; set data.num_workers lower"
            raise ResourceError(msg) from exc
        raise
