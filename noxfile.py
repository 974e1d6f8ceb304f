"""The tests with every Python that is supported and here: `nox`, or `nox -s tests-3.12 -- tests/video`."""

from __future__ import annotations

import nox

PYTHONS = ["3.11", "3.12", "3.13", "3.14"]

nox.options.default_venv_backend = "uv|virtualenv"
nox.options.error_on_missing_interpreters = False


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """The test suite, or the part of it that is named."""
    session.install("-e", ".[dev]")
    session.run("pytest", *session.posargs)


@nox.session(python=PYTHONS, default=False)
def quick(session: nox.Session) -> None:
    """What a version of Python can break without a picture being made: imports, commands, packaging, docs."""
    session.install("-e", ".[dev]")
    session.run("sparkvsr", "--version")
    session.run("pytest", "-q", "tests/test_platforms.py", "tests/test_layers.py", "tests/cli/test_metrics.py",
                *session.posargs)  # fmt: skip
