"""One run at a time into one output: two that write the same names would mix their frames."""

from __future__ import annotations

import hashlib
import os
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from sparkvsr.errors import EncodeError

if sys.platform == "win32":
    _OPENING = os.O_NOINHERIT
else:
    _OPENING = os.O_CLOEXEC | os.O_NOFOLLOW


class OutputLock:
    """Held while a run makes an output and gives it its name; a context manager.

    A hidden file beside the output, which goes with the run; the system frees it when a process dies. Where no file can
    be locked (some network disks, a full disk), there is no lock, and writing says what is wrong.

    Args:
        output: file, folder or pattern.
        option: how the user named it.

    Raises:
        EncodeError: another process writes there.
    """

    def __init__(self, output: Path, option: str = "--output") -> None:
        self._output = output
        self._option = option
        name = hashlib.sha256(os.fsencode(output.name)).hexdigest()[:16]
        self.path = output.parent / f".sparkvsr-{name}.lock"
        self._handle: int | None = None
        self._made_folder = False

    def __enter__(self) -> OutputLock:
        try:
            self._acquire()
        except BlockingIOError as exc:
            msg = f"another sparkvsr writes {self._output}; wait for it, or give another {self._option}"
            raise EncodeError(msg) from exc
        except OSError:
            self._release()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._release()

    def _acquire(self) -> None:
        if not self.path.parent.exists():
            self.path.parent.mkdir(parents=True)
            self._made_folder = True
        while True:
            handle = os.open(self.path, os.O_CREAT | os.O_RDWR | _OPENING, 0o600)
            try:
                _lock(handle)
            except BaseException:
                os.close(handle)
                raise
            self._handle = handle
            # Who held it before may have taken the name away between opening and locking.
            with suppress(OSError):
                if os.fstat(handle).st_ino == self.path.stat().st_ino:
                    return
            os.close(handle)
            self._handle = None

    def _release(self) -> None:
        if self._handle is not None:
            if sys.platform != "win32":
                self.path.unlink(missing_ok=True)
            os.close(self._handle)
            self._handle = None
            if sys.platform == "win32":  # which removes no open file; who opened it meanwhile keeps it
                with suppress(OSError):
                    self.path.unlink(missing_ok=True)
        if self._made_folder:
            with suppress(OSError):  # the result lies in it
                self.path.parent.rmdir()


def _lock(handle: int) -> None:
    """Lock an open file until it is closed.

    Raises:
        BlockingIOError: another process has it.
        OSError: this file system locks no files.
    """
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        except PermissionError as exc:
            raise BlockingIOError from exc
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
