"""Renaming a file on every system."""

from __future__ import annotations

import os
import time
from pathlib import Path

_WAITS = (0.02, 0.05, 0.1, 0.2, 0.5)


def give_name(partial: Path, final: Path) -> None:
    """Rename a file, replacing what is there.

    Windows refuses while another process reads the old file (the studio, a virus scanner), so that is waited for.

    Raises:
        OSError: the name cannot be given.
    """
    for seconds in _WAITS if os.name == "nt" else ():
        try:
            partial.replace(final)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    partial.replace(final)
