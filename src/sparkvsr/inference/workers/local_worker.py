"""Workers as processes of this machine, spoken to through a socket.

They run ``python -m sparkvsr.inference.workers.local_worker``.

A program of its own instead of ``multiprocessing``: scripts that call ``sparkvsr.upscale`` need no ``__main__`` guard.
What goes through the socket is pickled; both ends are this program.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from sparkvsr.child_processes import connect, is_running, start_module
from sparkvsr.errors import SparkVSRError
from sparkvsr.inference.clip.other_load import count_as_part_of
from sparkvsr.spinning import worker_environment

if TYPE_CHECKING:
    from sparkvsr.inference.workers.tasks import Emit, Prepared, Request, WorkerSettings

_log = logging.getLogger(__name__)

CLOSE_SECONDS = 5.0
PARENT_CHECK_SECONDS = 1.0


class WorkerLost(Exception):  # noqa: N818  (no error yet: the work is given to another worker)
    """A worker died; what it was doing has to be done again."""


class WorkerCrashError(RuntimeError):
    """An exception that nobody expected in a worker.

    Attributes:
        kind: name of the exception's type.
    """

    def __init__(self, kind: str, trace: str) -> None:
        super().__init__(f"in a worker: {trace.strip()}")
        self.kind = kind


def final_answer(messages: Iterable[tuple[str, Any]], emit: Emit, name: str) -> Prepared | None:
    """Pass the events and log records of a worker on, until its answer comes.

    Raises:
        WorkerLost: the messages end before it.
        WorkerCrashError: it met an exception that is not ours.
        SparkVSRError: its own.
    """
    for kind, value in messages:
        if kind == "event":
            emit(value)
        elif kind == "log":
            value.processName = name
            logging.getLogger(value.name).handle(value)
        elif kind == "error":
            raise value
        elif kind == "crash":
            raise WorkerCrashError(*value)
        else:
            answer: Prepared | None = value
            return answer
    msg = f"{name} ended without an answer"
    raise WorkerLost(msg)


class LocalWorker:
    """One worker process; started by the first ``answer``.

    Args:
        settings: of the worker.
        name: for the log.
    """

    returns_bytes = False

    def __init__(self, settings: WorkerSettings, name: str) -> None:
        self.name = name
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def answer(self, request: Request, emit: Emit) -> Prepared | None:
        """See ``RenderWorker.answer``.

        Raises:
            WorkerLost: the process died.
            WorkerCrashError: it met an exception that is not ours.
            SparkVSRError: its own.
        """
        if self._connection is None:
            self._start()
        assert self._connection is not None
        try:
            self._connection.send(request)
            return final_answer(iter(self._connection.recv, None), emit, self.name)
        except (EOFError, ConnectionError) as exc:
            how = self._how_it_ended()
            self.kill()
            msg = f"{self.name} died ({how})"
            raise WorkerLost(msg) from exc

    def _how_it_ended(self) -> str:
        """Exit code or signal; the socket may close a moment before the process is gone."""
        if self._process is None:
            return "it was ended"
        try:
            code = self._process.wait(CLOSE_SECONDS)
        except subprocess.TimeoutExpired:
            return "it closed its connection"
        if code >= 0:
            return f"exit code {code}"
        try:
            return signal.Signals(-code).name
        except ValueError:
            return f"signal {-code}"

    @property
    def pid(self) -> int | None:
        """Of the process, None before it is started."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        """End the process, politely if it is idle."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._process is not None:
            try:
                self._process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill()
            self._process = None

    def kill(self) -> None:
        """End the process now; the next ``answer`` starts another."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _start(self) -> None:
        environment = worker_environment()
        if self._settings.threads is not None:
            # Libraries read it when they are loaded, before anybody can tell them.
            environment["OMP_NUM_THREADS"] = str(self._settings.threads)
        # Ctrl-C reaches every process of the terminal, also one that has not come as far as to ignore it.
        with ExitStack() as stack:
            if sys.platform != "win32":
                before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
                stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, before)
            self._process, (self._connection,) = start_module("sparkvsr.inference.workers.local_worker", environment)
        self._connection.send(self._settings)
        _log.info("started %s, process %d, on %s", self.name, self._process.pid, self._settings.device)


def serve(connection: Connection) -> None:
    """Answer requests until the other end closes."""
    # Ctrl-C reaches every process of the terminal; the first process decides what becomes of this one.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), name="sparkvsr-parent", daemon=True).start()
    sending = threading.Lock()

    def send(kind: str, value: Any) -> None:
        with sending:
            connection.send((kind, value))

    try:
        settings = connection.recv()
        forward_log(send)
        from sparkvsr.inference.workers.tasks import RenderWorker

        worker = RenderWorker(settings)
        while True:
            request = connection.recv()
            try:
                answer = worker.answer(request, lambda event: send("event", event))
            except SparkVSRError as exc:
                send("error", exc)
            except (EOFError, ConnectionError):
                raise
            except Exception as exc:  # noqa: BLE001  (the first process reports it)
                send("crash", (type(exc).__name__, traceback.format_exc()))
            else:
                send("answer", answer)
    except (EOFError, ConnectionError):
        # The first process ended, perhaps in the middle of a request: threads that still work must not keep us.
        os._exit(0)


def _end_with_parent(parent: int) -> None:
    """End this process soon after the one that started it, however that ended and whatever is being computed."""
    while is_running(parent):
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)


def forward_log(send: Callable[[str, Any], None]) -> None:
    """Send log records to the first process instead of writing them."""

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Text instead of objects: arguments and tracebacks may not travel.
            record.msg, record.args = self.format(record), None
            record.exc_info, record.exc_text = None, None
            send("log", record)

    logger = logging.getLogger("sparkvsr")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Forward())


if __name__ == "__main__":
    (connection,) = connect(sys.argv[1:])
    count_as_part_of(os.getppid())
    serve(connection)
