"""The server's end of the render process: started, listened to, started again should it die."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from sparkvsr.child_processes import start_module
from sparkvsr.spinning import worker_environment
from sparkvsr.studio.messages import Message, Pipe

_log = logging.getLogger(__name__)

MAX_QUICK_DEATHS = 3
QUICK_SECONDS = 20.0
CLOSE_SECONDS = 3.0


class RenderClient:
    """Starts the render process and passes messages.

    Args:
        settings: see ``Workbench``.
        on_message: gets what it says, in a thread; and ``{"event": "died"}`` when it ended by itself, after which it
            is started again and everything has to be said again.
    """

    def __init__(self, settings: Message, on_message: Callable[[Message], None]) -> None:
        self._settings = settings
        self._on_message = on_message
        self._pipe: Pipe | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sparkvsr-render-client", daemon=True)

    def start(self) -> None:
        """Start the process; messages can be sent from now on."""
        self._launch()
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    def send(self, message: Message) -> None:
        """Say something; lost when the process has just died (``died`` follows)."""
        pipe = self._pipe
        if pipe is not None:
            with suppress(OSError):
                pipe.send(message)

    def close(self) -> None:
        """End the process: what it was rendering is dropped, finished segments stay."""
        self._closing.set()
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _launch(self) -> None:
        self._process, connection = start_module("sparkvsr.studio.render_process", worker_environment())
        self._pipe = Pipe(connection)
        self.send(self._settings)

    def _run(self) -> None:
        deaths = 0
        while not self._closing.is_set():
            started = time.monotonic()
            assert self._pipe is not None
            with suppress(EOFError, OSError):
                while True:
                    message = self._pipe.receive()
                    try:
                        self._on_message(message)
                    except Exception:  # noqa: BLE001  (one bad answer must not end the listening)
                        _log.exception("a message of the render process could not be used: %s", message.get("event"))
            if self._closing.is_set():
                return
            deaths = deaths + 1 if time.monotonic() - started < QUICK_SECONDS else 1
            code = self._process.wait() if self._process is not None else None
            _log.warning("the render process ended (exit code %s)", code)
            if deaths >= MAX_QUICK_DEATHS:
                self._on_message({"event": "gave_up", "code": code})
                return
            self._launch()
            self._on_message({"event": "died", "code": code})
