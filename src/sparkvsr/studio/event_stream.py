"""Events to the pages that are open: server-sent events, numbered, the last ones kept for a page that comes back."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

KEPT_EVENTS = 400
HEARTBEAT_SECONDS = 10.0
QUEUE_LIMIT = 2000


class EventStream:
    """Events of one clip; ``send`` may be called from any thread.

    Args:
        snapshot: gives the whole state, for a page that was not there before.
    """

    def __init__(self, snapshot: Callable[[], dict[str, Any]]) -> None:
        self._snapshot = snapshot
        self._kept: deque[tuple[int, str]] = deque(maxlen=KEPT_EVENTS)
        self._number = 0
        self._listeners: list[tuple[asyncio.AbstractEventLoop, asyncio.Queue[str | None]]] = []
        self._lock = threading.Lock()
        self._closed = False

    def send(self, event: dict[str, Any]) -> None:
        """Tell every open page."""
        with self._lock:
            self._number += 1
            text = _frame(self._number, event)
            self._kept.append((self._number, text))
            listeners = list(self._listeners)
        for loop, queue in listeners:
            with suppress(RuntimeError):  # the loop of a server that ends
                loop.call_soon_threadsafe(_put, queue, text)

    def close(self) -> None:
        """End all streams: the server stops."""
        with self._lock:
            self._closed = True
            listeners = list(self._listeners)
        for loop, queue in listeners:
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(queue.put_nowait, None)

    async def listen(self, last: int | None) -> AsyncIterator[str]:
        """What one page gets: what it missed, or the whole state, and everything from then on.

        Args:
            last: number of the last event that the page has.
        """
        queue: asyncio.Queue[str | None] = asyncio.Queue()
        entry = (asyncio.get_running_loop(), queue)
        with self._lock:
            self._listeners.append(entry)
            number = self._number
            missed = [text for one, text in self._kept if last is not None and one > last]
            is_known = last is not None and last <= number and (number == last or self._kept[0][0] <= last + 1)
        try:
            yield "retry: 700\n\n"
            if is_known:
                for text in missed:
                    yield text
            else:
                snapshot = await asyncio.to_thread(self._snapshot)
                yield _frame(number, {"event": "state", "state": snapshot})
            while not self._closed:
                try:
                    following = await asyncio.wait_for(queue.get(), HEARTBEAT_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if following is None:
                    return
                yield following
        finally:
            with self._lock:
                self._listeners.remove(entry)


def _put(queue: asyncio.Queue[str | None], text: str) -> None:
    # A page that does not read is cut off; it asks for the whole state when it comes back.
    queue.put_nowait(text if queue.qsize() < QUEUE_LIMIT else None)


def _frame(number: int, event: dict[str, Any]) -> str:
    return f"id: {number}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n"
