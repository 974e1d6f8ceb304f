"""The process that holds torch and the model: pictures, plans, previews, renders, reference images, exports.

It runs as ``python -m sparkvsr.studio.render_process ADDRESS ADDRESS``: over the first connection it is told what to do
and tells what happens (`messages.py`), over the second it answers questions (`asking.py`, `pictures.py`), also while it
renders. Images go through the project folder. It ends when the other end does, however that ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from multiprocessing.connection import Connection
from queue import Queue
from typing import Any

from sparkvsr.child_processes import connect
from sparkvsr.errors import SparkVSRError
from sparkvsr.studio.asking import answer_questions
from sparkvsr.studio.messages import Message, Pipe

PLANNING_THREADS = 2


class RenderProcess:
    """Answers commands until the other end closes.

    Args:
        pipe: to the server.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe
        self._renders: Queue[Message] = Queue()
        self._pool = ThreadPoolExecutor(PLANNING_THREADS, "sparkvsr-studio")
        self._bench: Any = None
        self._why_not = ""
        self._loaded = threading.Event()

    def serve(self) -> None:
        """Read commands; long ones are done in other threads."""
        threading.Thread(target=self._load, args=(self._pipe.receive(),), name="sparkvsr-render", daemon=True).start()
        self._loaded.wait()
        while True:
            message = self._pipe.receive()
            if self._bench is None:
                self._failed(message, self._why_not)
            else:
                self._start(message)

    def _load(self, message: Message) -> None:
        """Load the model, then render what is asked for, one after the other; without it there are still pictures."""
        if message["settings"] is None:
            self._why_not = message["why_not"]
            self._loaded.set()
            return
        try:
            from sparkvsr.studio.workbench import Workbench

            bench = Workbench(message["settings"], self._pipe.send)
        except Exception as exc:  # noqa: BLE001  (the server tells the user)
            is_ours = isinstance(exc, SparkVSRError)
            self._why_not = str(exc) if is_ours else traceback.format_exc(limit=-1).strip()
            self._pipe.send({"event": "failed_to_load", "error": self._why_not})
            self._loaded.set()
            return
        self._bench = bench
        self._loaded.set()
        self._pipe.send({"event": "ready", **bench.facts()})
        while True:
            self._guarded(bench.render, self._renders.get())

    def _start(self, message: Message) -> None:
        name = message["do"]
        bench = self._bench
        if name == "cancel":
            bench.cancel(message["id"])
        elif name == "preview":
            # Between two chunks of what is being rendered, or at once when nothing is.
            bench.ask_preview(message)
            self._renders.put({"do": "previews"})
        elif name == "render":
            self._renders.put(message)
        else:
            works: dict[str, Callable[[Message], None]] = {
                "open": bench.open,
                "plan": bench.plan,
                "make": bench.make,
                "suggest": bench.suggest,
            }
            self._pool.submit(self._guarded, works[name], message)

    def _guarded(self, work: Callable[[Message], None], message: Message) -> None:
        try:
            work(message)
        except SparkVSRError as exc:
            self._failed(message, str(exc))
        except Exception:  # noqa: BLE001  (told in the page; the process goes on)
            self._failed(message, f"a defect of sparkvsr: {traceback.format_exc(limit=-2).strip()}")

    def _failed(self, message: Message, error: str) -> None:
        self._pipe.send({"event": "failed", "what": message, "error": error, "clip": message.get("clip")})


def _answer(connection: Connection) -> None:
    """Answer questions about pictures until the server is gone."""
    from sparkvsr.studio.pictures import Pictures

    with suppress(EOFError, OSError):
        answer_questions(connection, Pictures().ask)


def main() -> None:
    """Serve the two connections that the arguments name."""
    # Ctrl-C reaches every process of the terminal; the server decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands, questions = connect(sys.argv[1:3])
    threading.Thread(target=_answer, args=(questions,), name="sparkvsr-questions", daemon=True).start()
    try:
        RenderProcess(Pipe(commands)).serve()
    except (EOFError, OSError):
        # The server ended, perhaps in the middle of a render: threads that still work must not keep us.
        os._exit(0)


if __name__ == "__main__":
    main()
