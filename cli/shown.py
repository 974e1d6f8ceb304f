"""Events whose texts a terminal may show."""

from __future__ import annotations

from typing import Any

from sparkvsr.printable import printable


def printable_event(event: dict[str, Any]) -> dict[str, Any]:
    """An event whose texts can be shown, at any depth."""
    return {name: _printable_value(value) for name, value in event.items()}


def _printable_value(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, dict):
        return printable_event(value)
    if isinstance(value, list | tuple):
        return [_printable_value(item) for item in value]
    return value
