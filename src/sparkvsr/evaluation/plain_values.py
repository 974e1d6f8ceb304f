"""What values of a file have to look like, written as plain Python, and the first place where they do not.

A shape is a type (``float`` takes whole numbers, too, but no infinities), ``None``, a tuple of alternatives, a list of
one shape for all items, or a dictionary: keys with ``?`` may be missing, the key ``*`` stands for all others. Keys that
a shape does not name are not looked at.
"""

from __future__ import annotations

import math
from typing import Any

_WORDS = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a mapping",
    list: "a list",
}


def misfit(value: Any, shape: Any, where: str = "") -> str | None:
    """The first place of a value that does not have its shape, None if all do.

    Args:
        value: of JSON or YAML.
        shape: see the module.
        where: name of the value in the answer.

    Returns:
        One line such as ``clips[0].frames is 'x', not a whole number``.
    """
    if isinstance(shape, tuple):
        found = [misfit(value, one, where) for one in shape]
        return None if None in found else found[0]
    if isinstance(shape, list):
        if not isinstance(value, list):
            return _line(value, list, where)
        return _first(misfit(item, shape[0], f"{where}[{index}]") for index, item in enumerate(value))
    if isinstance(shape, dict):
        return _misfit_mapping(value, shape, where)
    return None if _is(value, shape) else _line(value, shape, where)


def _misfit_mapping(value: Any, shape: dict[str, Any], where: str) -> str | None:
    if not isinstance(value, dict):
        return _line(value, dict, where)
    named = {key.removesuffix("?") for key in shape}
    for key, inner in shape.items():
        name = key.removesuffix("?")
        if key == "*":
            rest = {other: item for other, item in value.items() if other not in named}
            found = _first(misfit(item, inner, f"{where}.{other}".lstrip(".")) for other, item in rest.items())
        elif name in value:
            found = misfit(value[name], inner, f"{where}.{name}".lstrip("."))
        else:
            found = None if key.endswith("?") else f"{where}.{name}".lstrip(".") + " is missing"
        if found is not None:
            return found
    return None


def _first(found: Any) -> str | None:
    return next((line for line in found if line is not None), None)


def _is(value: Any, kind: Any) -> bool:
    if kind is None:
        return value is None
    if kind is float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and abs(value) < 1e300 and not math.isnan(value)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return isinstance(value, kind)


def _line(value: Any, kind: Any, where: str) -> str:
    is_plain = isinstance(value, int | float | str | None)
    shown = repr(value) if is_plain else _WORDS.get(type(value), f"a {type(value).__name__}")
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return f"{where or 'it'} is {shown}, not {_WORDS.get(kind, 'nothing')}"
