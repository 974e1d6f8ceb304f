"""Where files lie that are kept for the user between runs and may be deleted at any time."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def user_cache(*parts: str) -> Path:
    """A folder below the platform's cache: ``~/.cache/sparkvsr`` on Linux, or below ``$XDG_CACHE_HOME``; not made."""
    folder = os.path.expanduser(platformdirs.user_cache_path("sparkvsr", appauthor=False))  # noqa: PTH111  (never raises)
    return Path(folder).joinpath(*parts)
