"""Weights are read once, and named by a hash of the same files: both have to be of the same content.

A rerun goes on with what is stored under the hash, so a file that is replaced between the two would bring one network's
frames under another's name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sparkvsr.errors import WeightsError

T = TypeVar("T")


def read_and_named(read: Callable[[], T], name: Callable[[], str], where: object) -> tuple[T, str]:
    """What a folder or file of weights holds, and its hash.

    Args:
        read: reads it.
        name: hashes it.
        where: for the message.

    Raises:
        WeightsError: it was changed while it was read.
    """
    before = name()
    found = read()
    if name() != before:
        msg = f"{where} was changed while it was read; run the same again when nothing writes into it"
        raise WeightsError(msg)
    return found, before
