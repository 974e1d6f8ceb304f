"""What the fuzzers share: hostile values for JSON and YAML, and what makes a refusal one."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator
from typing import Any

LONGEST_MESSAGE = 2000

TEXTS = (
    "../outside/precious.png", "/etc/passwd", "..", ".", "", "~/x.png", "lr/00000.png", "..\\x.png", "C:x.png",
    "con.png", "a\0b.png", "\ud800.png", "x" * 10_000, "%s%n%05d.png", "00000.png\n", "file:///etc/passwd",
    "http://localhost/x.png", "00004.png", "contact_sheet.png", "keyframes.json", "-1", "NaN", "\u202e00000.png",
    "０.png", "🎬.png",
)  # fmt: skip
NUMBERS = (
    -1, 1, 2, 4, 11, 12, 2**31, 2**63, 10**30, 10**400, -(10**18), 0.5, 1.5, 1e308, float("nan"), float("inf"), -0.0,
)  # fmt: skip
OTHERS = (None, True, False, [], {}, [[]], {"": {}}, ["x"] * 5, {"_target_": "os.system"})


def places(tree: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Keys and numbers that lead to every value of a tree, the tree itself first."""
    yield path
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in items:
        yield from places(value, (*path, key))


def spoil_value(tree: Any, rng: random.Random) -> Any:
    """The tree with one of its values replaced, in place unless that is the tree itself."""
    path = rng.choice(list(places(tree)))
    # The tree may be changed again, the values are everybody's.
    value = copy.deepcopy(rng.choice(rng.choice((TEXTS, TEXTS, NUMBERS, NUMBERS, OTHERS))))
    if not path:
        return value
    parent_of(tree, path)[path[-1]] = value
    return tree


def parent_of(tree: Any, path: tuple[Any, ...]) -> Any:
    """The dictionary or list that holds a value."""
    for key in path[:-1]:
        tree = tree[key]
    return tree


def is_refused(step: Callable[[], object]) -> bool:
    """Whether a step ends in an error of our own instead of a result; anything else goes through.

    Raises:
        AssertionError: the message is not one short line.
    """
    from sparkvsr.errors import SparkVSRError

    try:
        step()
    except SparkVSRError as exc:
        message = str(exc)
        if "\n" in message or not message or len(message) > LONGEST_MESSAGE:
            msg = f"a message is not one line, or empty or long: {message[:300]!r}"
            raise AssertionError(msg) from exc
        return True
    return False
