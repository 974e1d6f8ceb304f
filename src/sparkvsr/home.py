"""Paths as people type them, which may begin with ``~``."""

from __future__ import annotations

import os
from pathlib import Path


def expanded(path: str | Path) -> Path:
    """A path with ``~`` and ``~user`` filled in; a name like ``~x.mp4``, which is no user's, stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path.expanduser raises where there is no such user)


def is_there(path: str | Path) -> bool:
    """Whether a file or folder has this name; for text that need not be a path at all, such as a long command."""
    return os.path.exists(path)  # noqa: PTH110  (Path.exists raises for names that are too long)
