"""Where files lie that are kept for the user between runs and may be deleted at any time."""

from __future__ import annotations

from pathlib import Path

import platformdirs

from sparkvsr.home import expanded


def user_cache(*parts: str) -> Path:
    """A folder below the platform's cache: ``~/.cache/sparkvsr`` on Linux, or below ``$XDG_CACHE_HOME``; not made."""
    return expanded(platformdirs.user_cache_path("sparkvsr", appauthor=False)).joinpath(*parts)
