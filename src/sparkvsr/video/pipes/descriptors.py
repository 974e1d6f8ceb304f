"""Bytes from and to a pipe by its descriptor, in a way that another thread can end at any time.

A thread that waits inside the system for a pipe cannot be stopped; so both sides ask first whether the pipe is ready
(where the system can tell) and look in between whether they were told to stop.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
import threading
import time

from sparkvsr.errors import EncodeError, ReaderGoneError

_WAIT_SECONDS = 0.2
_LAST_SECONDS = 1.0
_READ_BYTES = 1 << 20
_SAFE_BYTES = 4096
"""What a pipe that is ready for writing takes without waiting (`PIPE_BUF`)."""

_CAN_ASK = sys.platform != "win32"  # select() knows only sockets there


class PipeReader:
    """Reads a descriptor to its end.

    Args:
        descriptor: of a pipe, a file or a device; it is not closed.
        name: for messages.

    Attributes:
        num_bytes: read so far.
    """

    def __init__(self, descriptor: int, name: str = "stdin") -> None:
        self.name = name
        self.num_bytes = 0
        self._descriptor = descriptor
        self._waiting = bytearray()
        self._is_stopped = threading.Event()

    def stop(self) -> None:
        """End a reading that waits, from any thread: it sees the end of the stream."""
        self._is_stopped.set()

    @property
    def is_stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._is_stopped.is_set()

    def peek(self, count: int) -> bytes:
        """The next `count` bytes, or fewer at the end; they are read again."""
        self._fill(count)
        return bytes(self._waiting[:count])

    def read(self, count: int) -> bytes:
        """Exactly `count` bytes, or fewer at the end."""
        self._fill(count)
        taken = bytes(self._waiting[:count])
        del self._waiting[:count]
        self.num_bytes += len(taken)
        return taken

    def read_line(self, limit: int) -> bytes:
        """Up to and with the next line feed; without one at the end, or where there is none within `limit` bytes."""
        while (end := self._waiting.find(b"\n", 0, limit)) < 0 and len(self._waiting) < limit:
            if not self._more():
                break
        return self.read(end + 1 if end >= 0 else min(limit, len(self._waiting)))

    def _fill(self, count: int) -> None:
        while len(self._waiting) < count and self._more(count - len(self._waiting)):
            pass

    def _more(self, wanted: int = 1) -> bool:
        while _CAN_ASK and not self._is_stopped.is_set():
            if select.select([self._descriptor], [], [], _WAIT_SECONDS)[0]:
                break
        if self._is_stopped.is_set():
            return False
        got = os.read(self._descriptor, max(_READ_BYTES, min(wanted, 1 << 26)))
        self._waiting += got
        return bool(got)


class PipeWriter:
    """Writes to a descriptor; what FFmpeg's bindings take for a file that cannot seek.

    Args:
        descriptor: of a pipe or a file; it is not closed.
        name: for messages.

    Attributes:
        num_bytes: written so far.
    """

    def __init__(self, descriptor: int, name: str = "stdout") -> None:
        self.name = name
        self.num_bytes = 0
        self._descriptor = descriptor
        self._is_stopped = threading.Event()
        self._stopped_at = 0.0
        kind = os.fstat(descriptor).st_mode
        self._may_wait = _CAN_ASK and (stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind))

    def stop(self) -> None:
        """End the writing, from any thread: what is begun is finished if somebody reads it, what follows is dropped."""
        self._stopped_at = time.monotonic()
        self._is_stopped.set()

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Write all of `data`.

        Raises:
            ReaderGoneError: nobody reads any more.
            EncodeError: the disk is full, or another failure.
        """
        view = memoryview(data).cast("B")
        done = 0
        while done < len(view) and not self._gives_up(has_begun=done > 0):
            try:
                if self._may_wait and not select.select([], [self._descriptor], [], _WAIT_SECONDS)[1]:
                    continue
                done += os.write(self._descriptor, view[done : done + _SAFE_BYTES] if self._may_wait else view[done:])
            except BlockingIOError:
                continue  # somebody else made the pipe non-blocking
            except OSError as exc:
                raise self._error(exc) from exc
        self.num_bytes += done
        return len(view)

    def _gives_up(self, *, has_begun: bool) -> bool:
        if not self._is_stopped.is_set():
            return False
        return not has_begun or time.monotonic() - self._stopped_at > _LAST_SECONDS

    def _error(self, exc: OSError) -> EncodeError:
        if exc.errno in (errno.EPIPE, errno.ECONNRESET):
            return ReaderGoneError(f"the program that reads {self.name} went away (broken pipe); see what it says")
        what = "the disk is full" if exc.errno in (errno.ENOSPC, errno.EDQUOT) else exc.strerror
        return EncodeError(f"{self.name} cannot be written: {what}")
