"""What `-v`, `-vv` and `--log-file` do: the library's log on stderr, in a file, and its end kept for a crash report.

The library only logs (`logging.getLogger(__name__)` below "sparkvsr"); levels and handlers are chosen here.
"""

from __future__ import annotations

import inspect
import logging
import os
import re
import shlex
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.printable import printable
from sparkvsr.version import __version__

from .console import command_line, write_stderr

LOG_PANEL = "Log"
KEPT_LINES = 60
"""Last log lines that a crash report shows."""

_FILE_FORMAT = "%(asctime)s.%(msecs)03d %(levelname)s %(name)s [%(processName)s %(threadName)s] %(message)s"
_FIRST_LINE = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3} [A-Z]+ sparkvsr")
_LOG_SUFFIXES = {"", ".log", ".txt", ".out", ".err"}
"""Of files that others may write their lines into as well; a line of a log in any other file could damage it."""
_STARTED = time.time()
_LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)

Verbose = Annotated[
    int,
    typer.Option(
        "-v",
        "--verbose",
        count=True,
        help="Say on stderr what is done; -vv in detail.",
        rich_help_panel=LOG_PANEL,
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        metavar="FILE",
        help="Append a detailed log to a file.",
        rich_help_panel=LOG_PANEL,
    ),
]


def observed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options ``-v``, ``-vv`` and ``--log-file``."""

    @wraps(command)
    def wrapper(*arguments: Any, verbose: int, log_file: Path | None, **options: Any) -> Any:
        if log_file is not None:
            check_log_file(expanded(log_file), [*arguments, *options.values()])
        start_logging(verbose, log_file)
        return command(*arguments, **options)

    # Typer reads the signature and the annotations; both are the command's with two more options.
    keyword = inspect.Parameter.KEYWORD_ONLY
    added = [
        inspect.Parameter("verbose", keyword, default=0, annotation=Verbose),
        inspect.Parameter("log_file", keyword, default=None, annotation=LogFile),
    ]
    signature = inspect.signature(command, eval_str=True)
    signature = signature.replace(parameters=[*signature.parameters.values(), *added])
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {name: parameter.annotation for name, parameter in signature.parameters.items()}
    return wrapper


class PlainFormatter(logging.Formatter):
    """One record, one line: whatever is in a name cannot begin another one."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """See ``logging.Formatter``."""
        record.message = printable(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  (logging's name)
        """See ``logging.Formatter``; a traceback has lines of its own."""
        return printable(super().formatException(ei), keep_lines=True)


class LogFileHandler(logging.FileHandler):
    """Says once, on stderr, that the log could not be written further; the work goes on."""

    _has_failed = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (logging's name)
        """See ``logging.Handler``."""
        del record
        if not self._has_failed:
            self._has_failed = True
            reason = getattr(sys.exc_info()[1], "strerror", None) or "unknown reason"
            name = printable(self.baseFilename)
            write_stderr(f"Warning: --log-file {name} cannot be written any more ({reason}); the log ends there")


def _is_same(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, also to one that is not there yet."""
    if one.exists() and other.exists():
        return one.samefile(other)
    return os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100 (resolves .. where nothing exists)


def check_log_file(log_file: Path, values: Iterable[Any]) -> None:
    """Refuse to append the log to a file that the command reads or writes, or that is no text.

    Args:
        log_file: as given.
        values: of the command's arguments and options.

    Raises:
        ConfigError: it is one of them, or holds something else than a log.
    """
    for value in values:
        for item in value if isinstance(value, list | tuple) else [value]:
            with suppress(OSError, ValueError):
                if isinstance(item, str | Path) and _is_same(expanded(item), log_file):
                    msg = f"--log-file {log_file} is {item} of the same command; give another file"
                    raise ConfigError(msg)
    try:
        with log_file.open("rb") as file:
            start = file.read(4096)
    except OSError:
        return  # it is new, or cannot be read: opening it for writing says so
    if b"\0" in start:
        msg = f"--log-file {log_file} is there and is no text file; give another file"
        raise ConfigError(msg)
    is_log = not start or _FIRST_LINE.match(start) or log_file.suffix.lower() in _LOG_SUFFIXES
    if not is_log:
        msg = f"--log-file {log_file} is there and is no log: it would be damaged; give another file"
        raise ConfigError(msg)


class StderrHandler(logging.Handler):
    """Lines on stderr that do not tear the progress bar apart."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Leave out what the user was told already."""
        return not getattr(record, "shown", False)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            write_stderr(self.format(record))
        except Exception:  # noqa: BLE001  (the way of the logging package: a log that cannot be written stops nothing)
            self.handleError(record)


class LastLines(logging.Handler):
    """Keeps the last lines in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=KEPT_LINES)
        self.setFormatter(
            PlainFormatter("%(asctime)s %(levelname)s %(name)s [%(processName)s] %(message)s", "%H:%M:%S")
        )

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one record."""
        self.lines.append(self.format(record))


_last_lines = LastLines()


def last_lines() -> list[str]:
    """The end of the log, oldest first."""
    return list(_last_lines.lines)


def start_logging(verbose: int = 0, log_file: Path | None = None) -> None:
    """Set up the log of one command; an earlier set-up in the same process is replaced.

    Args:
        verbose: 0 warnings, 1 what is done, 2 and more everything, on stderr.
        log_file: gets everything, appended.

    Raises:
        ConfigError: the file cannot be written.
    """
    logger = logging.getLogger("sparkvsr")
    for handler in [*logger.handlers]:
        if isinstance(handler, StderrHandler | LastLines | logging.FileHandler):
            logger.removeHandler(handler)
            handler.close()
    logger.setLevel(logging.DEBUG)
    logging.raiseExceptions = False  # a log file on a full disk is no reason for a traceback
    _last_lines.lines.clear()
    logger.addHandler(_last_lines)
    screen = StderrHandler(_LEVELS[min(verbose, 2)])
    screen.setFormatter(_ScreenFormatter())
    logger.addHandler(screen)
    if log_file is None:
        return
    log_file = expanded(log_file)
    try:
        log_file.parent.mkdir(parents=True, exist_ok=True)
        file = LogFileHandler(log_file, mode="a", encoding="utf-8", errors="backslashreplace")
    except OSError as exc:
        msg = f"--log-file {log_file} cannot be written ({exc.strerror}); give another file"
        raise ConfigError(msg) from exc
    file.setFormatter(PlainFormatter(_FILE_FORMAT, "%Y-%m-%dT%H:%M:%S"))
    logger.addHandler(file)
    logging.getLogger("sparkvsr.cli").info("sparkvsr %s: %s", __version__, shlex.join(command_line))


class _ScreenFormatter(PlainFormatter):
    """Short lines for people: warnings in one word, the rest with the module's name."""

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        if record.levelno >= logging.WARNING:
            return f"{record.levelname.capitalize()}: {text}"
        return f"{record.created - _STARTED:8.2f} s  {record.name.removeprefix('sparkvsr.')}: {text}"
