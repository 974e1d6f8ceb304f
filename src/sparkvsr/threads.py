"""Reading, restoring and writing at the same time, with bounded queues: memory does not grow with the clip."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from typing import Generic, TypeVar

T = TypeVar("T")

_END = object()
_POLL_SECONDS = 0.1


def prefetch(items: Iterable[T], depth: int) -> Generator[T, None, None]:
    """Iterate in a thread of its own, at most ``depth`` items ahead.

    An exception of the source is raised here, after the items before it. Closing this generator (or an
    exception in its consumer) stops the thread.
    """
    box: queue.Queue[object] = queue.Queue(maxsize=max(1, depth))
    stop = threading.Event()
    failure: list[BaseException] = []

    def put(item: object) -> bool:
        while not stop.is_set():
            try:
                box.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
        except BaseException as exc:  # noqa: BLE001  (handed to the consumer's thread)
            failure.append(exc)
        finally:
            put(_END)

    thread = threading.Thread(target=work, name="sparkvsr-read", daemon=True)
    thread.start()
    try:
        while (item := box.get()) is not _END:
            yield item  # type: ignore[misc]
        if failure:
            raise failure[0]
    finally:
        stop.set()
        thread.join()
        close = getattr(items, "close", None)
        if close is not None:
            close()


class BackgroundSink(Generic[T]):
    """Hand items to ``consume`` in a thread of its own, at most ``depth`` items waiting.

    Used as a context manager: leaving it waits for everything and raises what the thread raised; leaving it
    by an exception drops what waits.
    """

    def __init__(self, consume: Callable[[T], None], depth: int) -> None:
        self._consume = consume
        self._box: queue.Queue[object] = queue.Queue(maxsize=max(1, depth))
        self._failure: BaseException | None = None
        self._abandoned = threading.Event()
        self._thread = threading.Thread(target=self._work, name="sparkvsr-write", daemon=True)

    def __enter__(self) -> BackgroundSink[T]:
        self._thread.start()
        return self

    def put(self, item: T) -> None:
        """Queue an item; raises what an earlier item's consumption raised."""
        while True:
            if self._failure is not None:
                raise self._failure
            try:
                self._box.put(item, timeout=_POLL_SECONDS)
            except queue.Full:
                continue
            return

    def __exit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: object) -> None:
        if exc_type is not None:
            self._abandoned.set()
        while self._thread.is_alive():
            try:
                self._box.put(_END, timeout=_POLL_SECONDS)
                break
            except queue.Full:
                continue
        self._thread.join()
        if exc_type is None and self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        while (item := self._box.get()) is not _END:
            if self._abandoned.is_set() or self._failure is not None:
                continue
            try:
                self._consume(item)  # type: ignore[arg-type]
            except BaseException as exc:  # noqa: BLE001  (raised again in the producer's thread)
                self._failure = exc


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
