"""Where the process begins: what Ctrl-C does before the commands are loaded, which takes some tenths of a second."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import threading
from typing import Any

EXIT_INTERRUPTED = 130


def _nothing_begun(_number: int, _frame: Any) -> None:
    # An exception in the middle of somebody's import would be shown as a traceback, or even be swallowed there.
    with contextlib.suppress(OSError):
        os.write(2, b"Error: interrupted; nothing was written\n")
    os._exit(EXIT_INTERRUPTED)


def listens() -> bool:
    """Whether Ctrl-C is for this thread of this process to answer.

    Lightning starts the other processes of a training with the same command line. Ctrl-C reaches all of them, the first
    decides, and must not find them dead: it would be killed for that. Once they train they stop together.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    is_started_by_lightning = os.environ.get("LOCAL_RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" not in os.environ
    if is_started_by_lightning:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    return not is_started_by_lightning


def run() -> None:
    """Entry point of the console script and of `python -m sparkvsr`."""
    if listens():
        signal.signal(signal.SIGINT, _nothing_begun)
        # At the very end Python puts back the handling that kills, though nothing is left to be stopped.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    from .main import run as run_commands

    run_commands()
