"""HTML pages, each one file that loads nothing: the templates beside this file, filled by jinja2.

Every value is escaped where it is put in, so names and labels may hold anything.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from sparkvsr.printable import printable


def render(template: str, **values: Any) -> str:
    """Fill a template.

    Args:
        template: name of a file of this folder.
        values: by the names that the template uses.
    """
    return _environment().get_template(template).render(**values)


def _shown(value: Any) -> Any:
    """A text of ours or of a file's, without what turns or hides other text; markup of our own stays as it is."""
    return printable(value, keep_lines=True) if type(value) is str else value


@cache
def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        finalize=_shown,
    )
