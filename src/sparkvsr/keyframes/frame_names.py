"""Which frame a file is meant for, by its name."""

from __future__ import annotations

import re
from pathlib import Path

MAX_INDEX = 10**9


def frame_of_name(path: Path) -> int | None:
    """The last number in a file's name, None when there is none or it cannot be a frame."""
    numbers = re.findall(r"\d+", path.stem)
    if not numbers or len(numbers[-1]) > len(str(MAX_INDEX)) + 8:
        return None
    return int(numbers[-1])
