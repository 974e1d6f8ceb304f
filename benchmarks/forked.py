"""`sparkvsr` in forks of a process that has all modules loaded: hundreds of runs in the time that imports would take.

Such a run can be ended at any moment, right before one of its changes to files, or be held to small files.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import mmap
import os
import resource
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

LOADED = ("sparkvsr.inference.batch", "sparkvsr.models.bicubic", "scenedetect", "rich.progress", "sparkvsr.cli.crash")
"""What the command would import on its way."""


def entry_point() -> Callable[[], None]:
    entry: Callable[[], None] = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load()
    return entry


def load_everything() -> None:
    """Import what the command needs, as far as parsing its options and refusing a missing file do."""
    for name in LOADED:
        importlib.import_module(name)
    before, sys.argv = sys.argv, ["sparkvsr", "upscale", "missing.mp4", "--model", "bicubic"]
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.suppress(SystemExit):
            entry_point()()
    finally:
        sys.argv = before


class Steps:
    """Counts the changes that a process makes to the files of a folder, and ends it right before one of them.

    Python itself tells of them (https://docs.python.org/3/library/audit_events.html), all but fsync. FFmpeg's own
    writing is not seen; those moments are left to the clock.

    Args:
        folder: whose changes count.
    """

    NAMES = ("open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "shutil.rmtree", "os.truncate", "fsync")

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._shared = mmap.mmap(-1, 24)  # seen by the parent, whatever becomes of the process
        self._flushed: set[int] = set()
        self._is_synced = False

    @property
    def done(self) -> int:
        """Changes so far."""
        return int(struct.unpack_from("q", self._shared, 0)[0])

    @property
    def last(self) -> str:
        """The kind of the last one."""
        return self.NAMES[struct.unpack_from("q", self._shared, 8)[0]]

    @property
    def unflushed(self) -> int:
        """Files that got another name before their data were flushed: a power failure may leave them empty."""
        return int(struct.unpack_from("q", self._shared, 16)[0])

    def watch(self, stop_before: int | None) -> None:
        """From now on, in this process: end it before the change of this number."""
        flush, sync = os.fsync, os.sync

        def noted_flush(descriptor: int) -> None:
            self._note("fsync", stop_before)
            flush(descriptor)
            self._flushed.add(os.fstat(descriptor).st_ino)

        def noted_sync() -> None:
            sync()
            self._is_synced = True

        os.fsync, os.sync = noted_flush, noted_sync
        sys.addaudithook(lambda event, arguments: self._see(event, arguments, stop_before))

    def _see(self, event: str, arguments: tuple[Any, ...], stop_before: int | None) -> None:
        if event not in self.NAMES or not arguments:
            return
        if event == "open" and not (isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)):
            return
        place = arguments[0]
        if isinstance(place, int) or not os.fspath(place):
            return
        if os.path.abspath(os.fsdecode(place)).startswith(self._folder):  # noqa: PTH100 - no Path in a hook
            self._note(event, stop_before)
            if event == "os.rename" and os.path.isfile(place):  # noqa: PTH113
                is_safe = self._is_synced or os.stat(place).st_ino in self._flushed  # noqa: PTH116
                struct.pack_into("q", self._shared, 16, self.unflushed + (not is_safe))

    def _note(self, event: str, stop_before: int | None) -> None:
        number = self.done
        struct.pack_into("qq", self._shared, 0, number + 1, self.NAMES.index(event))
        if number == stop_before:
            os.kill(os.getpid(), signal.SIGKILL)


class Command:
    """A command of `sparkvsr` in a fork of this process.

    Args:
        arguments: behind `sparkvsr`.
        log: gets its stderr.
        steps: counts what it does to files.
        limit: largest file in bytes, as on a full disk.
        stop_before: number of the change of a file before which it ends.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        log: Path,
        steps: Steps | None = None,
        limit: int | None = None,
        stop_before: int | None = None,
    ) -> None:
        self._log = log
        self.code: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            if steps is not None:
                steps.watch(stop_before)
            self._run(arguments, limit)

    def _run(self, arguments: Sequence[str], limit: int | None) -> None:
        """In the fork; does not come back."""
        code = 1
        try:
            with self._log.open("w") as log, Path(os.devnull).open("w") as nothing:
                os.dup2(log.fileno(), 2)
                os.dup2(nothing.fileno(), 1)
            if limit is not None:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            sys.argv = ["sparkvsr", *arguments]
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            entry_point()()
            code = 0
        except SystemExit as exc:
            code = exc.code if isinstance(exc.code, int) else 1
        finally:
            sys.stderr.flush()
            os._exit(code)

    def wait(self, seconds: float) -> bool:
        """Whether it ended within a time; ``code`` is known then."""
        end = time.monotonic() + seconds
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
                return True
            if time.monotonic() > end:
                return False
            time.sleep(0.005)

    def kill(self) -> None:
        """SIGKILL, to it and to workers that it started."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait(60)

    @property
    def error(self) -> str:
        """What it wrote to stderr."""
        return self._log.read_text()
