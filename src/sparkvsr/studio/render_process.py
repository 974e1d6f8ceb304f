"""The process that holds the model: plans, previews, renders, makes reference images, exports.

It runs as ``python -m sparkvsr.studio.render_process FD`` and speaks JSON objects over a socket (`messages.py`). Images
go through the project folder. It ends when the other end does, however that ended.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import Any

from sparkvsr.child_processes import connect
from sparkvsr.errors import SparkVSRError
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
        self._loaded = threading.Event()

    def serve(self) -> None:
        """Read commands; long ones are done in other threads."""
        settings = self._pipe.receive()
        threading.Thread(target=self._load, args=(settings,), name="sparkvsr-render", daemon=True).start()
        self._loaded.wait()
        while True:
            self._start(self._pipe.receive())

    def _load(self, settings: Message) -> None:
        """Load the model, then render what is asked for, one after the other."""
        try:
            from sparkvsr.studio.workbench import Workbench

            bench = Workbench(settings, self._pipe.send)
            self._bench = bench
        except SparkVSRError as exc:
            self._pipe.send({"event": "failed_to_load", "error": str(exc)})
            os._exit(1)
        except Exception:  # noqa: BLE001  (the server tells the user)
            self._pipe.send({"event": "failed_to_load", "error": traceback.format_exc(limit=-1).strip()})
            os._exit(1)
        self._loaded.set()
        self._pipe.send({"event": "ready", "model": bench.model_name, "device": bench.device})
        while True:
            message = self._renders.get()
            self._guarded(bench.render, message)

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


def main() -> None:
    """Serve the socket whose number is the only argument."""
    # Ctrl-C reaches every process of the terminal; the server decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        RenderProcess(Pipe(connect(sys.argv[1]))).serve()
    except (EOFError, OSError):
        # The server ended, perhaps in the middle of a render: threads that still work must not keep us.
        os._exit(0)


if __name__ == "__main__":
    main()
