"""Threads between reading, restoring and writing: order, bounds, errors, no thread left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sparkvsr.threads import BackgroundSink, prefetch

_before: set[threading.Thread] = set()


@pytest.fixture(autouse=True)
def _threads_of_other_tests() -> None:
    """Pools of other tests in this process may still be there."""
    _before.clear()
    _before.update(threading.enumerate())


def _own_threads() -> int:
    return sum(thread.name.startswith("sparkvsr-") for thread in set(threading.enumerate()) - _before)


def test_prefetch_keeps_the_order() -> None:
    assert list(prefetch(range(50), depth=3)) == list(range(50))
    assert _own_threads() == 0


def test_prefetch_is_bounded() -> None:
    asked = threading.Semaphore(0)

    def source() -> Iterator[int]:
        for value in range(100):
            asked.release()
            yield value

    items = prefetch(source(), depth=4)
    next(items)
    # One consumed, four waiting, one in the thread's hand: those come. One more may be in the making, an eighth is not.
    assert all(asked.acquire(timeout=60) for _ in range(6))
    taken = 6 + sum(asked.acquire(timeout=0.1) for _ in range(3))
    assert taken <= 7
    items.close()
    assert _own_threads() == 0


def test_prefetch_passes_errors_on_after_the_items_before() -> None:
    def source() -> Iterator[int]:
        yield 1
        msg = "broken"
        raise ValueError(msg)

    items = prefetch(source(), depth=4)
    assert next(items) == 1
    with pytest.raises(ValueError, match="broken"):
        next(items)


def test_prefetch_closes_its_source() -> None:
    closed = []

    def source() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.append(True)

    items = prefetch(source(), depth=2)
    next(items)
    items.close()
    assert closed == [True]


def test_sink_consumes_in_order_and_waits_at_the_end() -> None:
    seen: list[int] = []

    def slow(value: int) -> None:
        time.sleep(0.005)
        seen.append(value)

    with BackgroundSink(slow, depth=2) as sink:
        for value in range(20):
            sink.put(value)
    assert seen == list(range(20))
    assert _own_threads() == 0


def test_sink_error_reaches_the_producer() -> None:
    def refuse(value: int) -> None:
        msg = f"no {value}"
        raise ValueError(msg)

    def produce() -> None:
        with BackgroundSink(refuse, depth=2) as sink:
            for value in range(100):
                sink.put(value)

    with pytest.raises(ValueError, match="no 0"):
        produce()
    assert _own_threads() == 0


def test_sink_drops_what_waits_when_the_producer_fails() -> None:
    seen: list[int] = []

    def slow(value: int) -> None:
        time.sleep(0.05)
        seen.append(value)

    def produce() -> None:
        with BackgroundSink(slow, depth=50) as sink:
            for value in range(50):
                sink.put(value)
            msg = "stop"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="stop"):
        produce()
    assert len(seen) < 50
    assert _own_threads() == 0
