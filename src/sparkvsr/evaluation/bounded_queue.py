"""Frames from the restoring thread to the measuring one, in bounded memory."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class ByteQueue(Generic[T]):
    """A queue limited by the bytes of what it holds.

    Args:
        limit_bytes: ``put`` waits while more than this is queued (one item always fits).
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._items: deque[tuple[T, int]] = deque()
        self._held = 0
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T, num_bytes: int) -> None:
        """Add an item, waiting for room.

        Raises:
            BaseException: whatever the other side failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or not self._items or self._held + num_bytes <= self._limit)
            if self._error:
                raise self._error
            self._items.append((item, num_bytes))
            self._held += num_bytes
            self._changed.notify_all()

    def get(self) -> T:
        """Take the oldest item, waiting for one.

        Raises:
            BaseException: whatever the other side failed with.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._error or bool(self._items))
            if self._error:
                raise self._error
            item, num_bytes = self._items.popleft()
            self._held -= num_bytes
            self._changed.notify_all()
            return item

    def fail(self, error: BaseException) -> None:
        """Make every further ``put`` and ``get`` raise ``error``."""
        with self._changed:
            self._error = error
            self._changed.notify_all()
