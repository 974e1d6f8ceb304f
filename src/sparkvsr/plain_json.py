"""JSON objects out of files that others may have written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def parse_object(text: str | bytes) -> dict[str, Any]:
    """A JSON object.

    Args:
        text: JSON; bytes are UTF-8.

    Raises:
        ValueError: it is not JSON, nested too deeply, or not an object; the message is one line.
    """
    try:
        found = json.loads(text)
    except RecursionError as exc:
        msg = "it is nested too deeply"
        raise ValueError(msg) from exc
    if not isinstance(found, dict):
        msg = f"it holds a {type(found).__name__}, not an object"
        raise ValueError(msg)
    return found


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: see `parse_object`.
    """
    return parse_object(path.read_bytes())
