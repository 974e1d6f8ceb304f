# ruff: noqa: E402  (Ctrl-C is answered before anything else is loaded)
"""The `sparkvsr` command: registers the subcommands and turns errors into text and exit codes.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted, 141 nobody reads the pipe. Importing this imports
no torch; each command imports what it needs when it runs. An exception that nobody expected leaves a report in a file
(crash.py) instead of a traceback on the screen.
"""

from __future__ import annotations

from .start import EXIT_INTERRUPTED, guard_the_end, guard_the_start, listens

guard_the_start()  # before anything that takes time to load

import errno
import logging
import os
import signal
import sys
from collections import namedtuple
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparkvsr.errors import ConfigError, ReaderGoneError, SparkVSRError
from sparkvsr.spinning import sleep_between_tasks
from sparkvsr.version import __version__

from .clean import clean
from .compare import compare
from .console import command_line, print_error, private_paths
from .crash import crash_message
from .doctor import doctor
from .eval import eval_app
from .export import export
from .keyframes import keyframes
from .logs import observed
from .metrics import metrics
from .models import models
from .pipes import EXIT_READER_GONE
from .profile import bench, profile
from .schema import schema
from .steady import steady_output
from .studio import studio
from .train import train
from .upscale import upscale


class ErrorBoundary(TyperGroup):
    """Turns every error of the library into one line on stderr and an exit code."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        """Remember the words of the command line for the log and for crash reports."""
        command_line[:] = sys.argv[1:] if args is None else args
        private_paths.clear()
        return super().main(args, *more, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; ``SPARKVSR_DEBUG=1`` or ``--debug`` lets tracebacks through."""
        is_debugging = ctx.params.get("debug", False) or os.environ.get("SPARKVSR_DEBUG") == "1"
        try:
            return super().invoke(ctx)
        except SparkVSRError as exc:
            if is_debugging:
                raise
            _log.debug("where it comes from", exc_info=exc)
            print_error(str(exc))
            raise typer.Exit(_exit_code(exc)) from None
        except KeyboardInterrupt:
            print_error("interrupted; nothing is left under an output's name, what was finished is kept")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except Exception as exc:
            # Typer's own ways out (usage errors, Exit) are exceptions, too.
            if _is_out_of_memory(exc):
                print_error("memory ran out; use a smaller --tile or --chunk-frames, or fewer --devices (`ulimit -v`?)")
                raise typer.Exit(1) from None
            if (place := _full_disk(exc)) is not None:
                print_error(f"the disk is full{place}; free some space and run the same again")
                raise typer.Exit(1) from None
            if (unusable := _unusable_name(exc)) is not None:
                print_error(unusable)
                raise typer.Exit(1) from None
            is_typers = type(exc).__module__.partition(".")[0] in ("typer", "click")
            if is_debugging or is_typers or isinstance(exc, BrokenPipeError):
                raise
            print_error(crash_message(exc))
            raise typer.Exit(1) from None


def _exit_code(error: SparkVSRError) -> int:
    if isinstance(error, ReaderGoneError):
        return EXIT_READER_GONE
    return 2 if isinstance(error, ConfigError) else 1


def _is_out_of_memory(exc: BaseException) -> bool:
    text = f"{getattr(exc, 'kind', '')} {exc}"
    return isinstance(exc, MemoryError) or any(
        mark in text for mark in ("MemoryError", "bad_alloc", "can't allocate memory", "Cannot allocate memory")
    )


def _full_disk(exc: BaseException) -> str | None:
    """Where the disk was full, as far as that is known; None if it was something else.

    What writes for us (torch, safetensors, Lightning, TensorBoard) tells of it in kinds of errors of its own.
    """
    seen: list[BaseException] = []
    cause: BaseException | None = exc
    while cause is not None and cause not in seen:
        seen.append(cause)
        cause = cause.__cause__ or cause.__context__
    for error in seen:
        if isinstance(error, OSError) and error.errno in _FULL:
            return f" ({error.filename})" if error.filename else ""
    is_told = any(os.strerror(code) in str(error) for error in seen for code in _FULL)
    return "" if is_told or any("PytorchStreamWriter failed" in str(error) for error in seen) else None


def _unusable_name(exc: Exception) -> str | None:
    """What is wrong with the name of a file or folder where the system says so; None if it was something else."""
    if not isinstance(exc, OSError) or exc.errno not in _UNUSABLE or not isinstance(exc.filename, str | bytes):
        return None
    name = os.fsdecode(exc.filename)
    shown = f"{name[:60]}..." if len(name) > 200 else name
    return f"{shown} cannot be used ({os.strerror(exc.errno).lower()}); {_UNUSABLE[exc.errno]}"


_UNUSABLE = {
    errno.ENAMETOOLONG: "a name may have 255 bytes, give a shorter one",
    errno.EACCES: "give another, or allow it to be read and written",
    errno.EROFS: "give one that can be written",
    errno.ELOOP: "its links lead in a circle",
}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

_log = logging.getLogger("sparkvsr.cli")

app = typer.Typer(
    name="sparkvsr",
    cls=ErrorBoundary,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Keyframe-driven video super-resolution: upscale a few frames well, propagate them through the clip.",
)


def _show_version(value: bool) -> None:
    if value:
        sys.stdout.write(f"sparkvsr {__version__}\n")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Keyframe-driven video super-resolution."""


_BEFORE_EVAL: list[Callable[..., None]] = [upscale, studio, keyframes, compare]
_AFTER_EVAL: list[Callable[..., None]] = [metrics, train, export, models, profile, doctor, schema, clean]
for command in _BEFORE_EVAL:
    app.command()(observed(command))
app.add_typer(eval_app, name="eval")
for command in _AFTER_EVAL:
    app.command()(observed(command))
app.command("bench", hidden=True)(observed(bench))


_WORKING = ("upscale", "keyframes", "compare", "eval", "train", "export")
"""Commands whose result is a file: a stdout that cannot be written takes nothing from it."""

_ANSWERS = frozenset({"--json", "--dry-run", "--plan", "--print-config", "--check"})
"""Options with which what is printed is the result."""


def _interrupt(number: int, frame: Any) -> None:
    """Ctrl-C; while torch or another large library loads, an exception would end in an abort within its own code."""
    for name in ("torch", "cv2", "av", "numpy"):
        spec = getattr(sys.modules.get(name), "__spec__", None)
        if getattr(spec, "_initializing", False):
            print_error("interrupted; nothing was written")
            os._exit(EXIT_INTERRUPTED)
    signal.default_int_handler(number, frame)


def run() -> None:
    """Run the command line that the process was started with, and end the process."""
    sleep_between_tasks(os.environ)
    if listens():
        signal.signal(signal.SIGINT, _interrupt)
    out, _ = steady_output()
    code: int | str | None = 0
    try:
        app()
    except SystemExit as ending:
        code = ending.code
    except KeyboardInterrupt:  # between two commands of typer's own; commands tell of what they keep
        print_error("interrupted")
        code = EXIT_INTERRUPTED
    # CPython remembers an interrupt that passed through an `exec` (a dataclass that was being imported) though it was
    # caught, and would end `python -m` by the signal instead of by the code; the next one makes it forget, and a named
    # tuple is made by one.
    namedtuple("Forgotten", "")
    out.flush()
    is_answer = (
        not command_line
        or command_line[0] not in _WORKING
        or any(word.partition("=")[0] in _ANSWERS for word in command_line)
    )
    # Who closes stdout (cron) wants no report; but an answer that nobody can read is one line, and no success.
    if out.is_lost or (out.is_missing and is_answer):
        why = out.failure.strerror if out.failure else "it is closed"
        print_error(f"stdout could not be written ({why}); the work was done")
        code = 1 if is_answer and not code else code
    if isinstance(code, int):
        guard_the_end(code)
    sys.exit(code)
