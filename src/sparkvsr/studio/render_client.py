"""The server's end of the render process: started, told, asked, started again should it die."""

from __future__ import annotations

import logging
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sparkvsr.child_processes import start_module
from sparkvsr.spinning import worker_environment
from sparkvsr.studio.asking import Asker
from sparkvsr.studio.messages import Message, Pipe

_log = logging.getLogger(__name__)

MAX_QUICK_DEATHS = 3
QUICK_SECONDS = 20.0
CLOSE_SECONDS = 3.0


class RenderClient:
    """Starts the render process, passes messages and asks questions."""

    def __init__(self) -> None:
        self._settings: Message | None = None
        self._on_message: Callable[[Message], None] = lambda _: None
        self._asker = Asker()
        self._pipe: Pipe | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sparkvsr-render-client", daemon=True)

    def start(self) -> None:
        """Start the process: it answers questions from now on."""
        self._launch()

    def load(self, settings: Message, on_message: Callable[[Message], None]) -> None:
        """Have it load the model; from now on messages can be sent.

        Args:
            settings: see ``Workbench``.
            on_message: gets what it says, in a thread; and ``{"event": "died"}`` when it ended by itself, after which
                it is started again and everything has to be said again.
        """
        self._settings, self._on_message = settings, on_message
        self.send({"settings": settings})
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Of the process."""
        return None if self._process is None else self._process.pid

    def ask(self, name: str, /, **values: Any) -> Any:
        """See ``Pictures.ask``."""
        return self._asker.ask(name, **values)

    def send(self, message: Message) -> None:
        """Say something; lost when the process has just died (``died`` follows)."""
        pipe = self._pipe
        if pipe is not None:
            with suppress(OSError):
                pipe.send(message)

    def close(self) -> None:
        """End the process: what it was rendering is dropped, finished segments stay."""
        self._closing.set()
        self._asker.end("the studio is being stopped")
        process = self._process
        if process is not None:
            process.terminate()
            try:
                process.wait(CLOSE_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _launch(self) -> None:
        self._process, (commands, questions) = start_module(
            "sparkvsr.studio.render_process", worker_environment(), connections=2
        )
        self._pipe = Pipe(commands)
        self._asker.attach(questions)

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
            if deaths > MAX_QUICK_DEATHS:
                self._asker.end(f"the render process ended again and again ({code}); start the studio again")
                return
            self._launch()
            if deaths == MAX_QUICK_DEATHS:
                # Without the model there are still pictures to look at.
                why = f"the render process ended again and again ({code})"
                self.send({"settings": None, "why_not": why})
                self._on_message({"event": "gave_up", "error": why})
            else:
                self.send({"settings": self._settings})
                self._on_message({"event": "died", "code": code})
