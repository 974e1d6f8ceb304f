"""Ctrl-C in the first and the last moments of the process: before the commands are loaded, and after their work.

Only where the process is ours; a program that imports the commands keeps its own handling.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from typing import Any

EXIT_INTERRUPTED = 130


def is_own_process() -> bool:
    """Whether this is `sparkvsr` or `python -m sparkvsr`, in its main thread."""
    folder, name = os.path.split(sys.argv[0] if sys.argv else "")
    is_module = name == "__main__.py" and os.path.basename(folder) == "sparkvsr"  # noqa: PTH119  (pathlib takes its time)
    is_script = name.removesuffix(".exe").removesuffix("-script.py") == "sparkvsr"
    return (is_module or is_script) and threading.current_thread() is threading.main_thread()


def listens() -> bool:
    """Whether Ctrl-C is for this thread of this process to answer.

    Lightning starts the other processes of a training with the same command line. Ctrl-C reaches all of them, the first
    decides, and must not find them dead: it would be killed for that. Once they train they stop together.
    """
    is_started_by_lightning = os.environ.get("LOCAL_RANK", "0") != "0" and "TORCHELASTIC_RUN_ID" not in os.environ
    return threading.current_thread() is threading.main_thread() and not is_started_by_lightning


def guard_the_start() -> None:
    """Answer Ctrl-C while modules load, which takes some tenths of a second, without a traceback."""
    if not is_own_process():
        return
    signal.signal(signal.SIGINT, _nothing_begun if listens() else signal.SIG_IGN)
    # At the very end Python puts back the handling that kills, though nothing is left to be stopped.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def guard_the_end(code: int) -> None:
    """Answer Ctrl-C while libraries are put away with the exit code of the work, which is over."""
    if is_own_process():
        signal.signal(signal.SIGINT, lambda _number, _frame: os._exit(code))


def _nothing_begun(_number: int, _frame: Any) -> None:
    # An exception in the middle of somebody's import would be shown as a traceback, or even be swallowed there.
    with contextlib.suppress(OSError):
        os.write(2, b"Error: interrupted; nothing was written\n")
    os._exit(EXIT_INTERRUPTED)
