"""Run the stages of a stream at the same time: each in a thread, bounded queues between them.

PyTorch and the video libraries release the interpreter while they work, so threads are enough. The wall time comes
close to that of the slowest stage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Any

_END = object()
_POLL_SECONDS = 0.05


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


def run_overlapped(items: Iterable[Any], stages: Iterable[Callable[[Any], Any]], depth: int = 2) -> Iterator[Any]:
    """Send every item through all stages and yield the results in order.

    Args:
        items: read in a thread of its own: the first stage may be the reading itself.
        stages: functions of one item.
        depth: items waiting between two stages.

    Raises:
        Exception: whatever a stage raised, after the results before it. Closing the iterator stops all threads.
    """
    stop = Event()
    queues: list[Queue[Any]] = [Queue(maxsize=depth)]
    threads = [Thread(target=_feed, args=(items, queues[0], stop), daemon=True)]
    for stage in stages:
        queues.append(Queue(maxsize=depth))
        threads.append(Thread(target=_work, args=(stage, queues[-2], queues[-1], stop), daemon=True))
    for thread in threads:
        thread.start()
    try:
        while True:
            result = queues[-1].get()
            if result is _END:
                return
            if isinstance(result, _Failure):
                raise result.error
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _feed(items: Iterable[Any], target: Queue[Any], stop: Event) -> None:
    try:
        for item in items:
            if not _put(target, item, stop):
                return
    except BaseException as exc:  # noqa: BLE001  (handed to the consumer)
        _put(target, _Failure(exc), stop)
        return
    _put(target, _END, stop)


def _work(stage: Callable[[Any], Any], source: Queue[Any], target: Queue[Any], stop: Event) -> None:
    while not stop.is_set():
        try:
            item = source.get(timeout=_POLL_SECONDS)
        except Empty:
            continue
        last = item is _END or isinstance(item, _Failure)
        if not last:
            try:
                item = stage(item)
            except BaseException as exc:  # noqa: BLE001  (handed to the consumer)
                item, last = _Failure(exc), True
        if not _put(target, item, stop) or last:
            return


def _put(target: Queue[Any], item: Any, stop: Event) -> bool:
    while not stop.is_set():
        try:
            target.put(item, timeout=_POLL_SECONDS)
        except Full:
            continue
        return True
    return False
