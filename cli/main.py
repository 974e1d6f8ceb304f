"""The `sparkvsr` command: registers the subcommands and turns errors into text and exit codes.

Exit codes: 0 done, 1 the work failed, 2 wrong usage, 130 interrupted. Importing this imports no torch;
each command imports what it needs when it runs.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from sparkvsr import __version__
from sparkvsr.errors import ConfigError, SparkVSRError

from .clean import clean
from .compare import compare
from .console import print_error
from .eval import eval_app
from .export import export
from .keyframes import keyframes
from .metrics import metrics
from .models import bench, models
from .train import train
from .upscale import upscale

EXIT_INTERRUPTED = 130


class ErrorBoundary(TyperGroup):
    """Turns every error of the library into one line on stderr and an exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; ``SPARKVSR_DEBUG=1`` or ``--debug`` lets tracebacks through."""
        try:
            return super().invoke(ctx)
        except ConfigError as exc:
            self._report(exc, debug=ctx.params.get("debug", False))
            raise typer.Exit(2) from None
        except SparkVSRError as exc:
            self._report(exc, debug=ctx.params.get("debug", False))
            raise typer.Exit(1) from None
        except KeyboardInterrupt:
            print_error("interrupted; nothing is left under an output's name, what was finished is kept")
            raise typer.Exit(EXIT_INTERRUPTED) from None

    @staticmethod
    def _report(exc: SparkVSRError, *, debug: bool) -> None:
        if debug or os.environ.get("SPARKVSR_DEBUG") == "1":
            raise exc
        print_error(str(exc))


app = typer.Typer(
    name="sparkvsr",
    cls=ErrorBoundary,
    no_args_is_help=True,
    add_completion=False,
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


app.command()(upscale)
app.command()(keyframes)
app.command()(compare)
app.add_typer(eval_app, name="eval")
app.command()(metrics)
app.command()(train)
app.command()(export)
app.command()(models)
app.command()(bench)
app.command()(clean)


def run() -> None:
    """Entry point of the console script."""
    app()
