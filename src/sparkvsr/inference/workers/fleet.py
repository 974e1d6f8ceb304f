"""Several workers that share a queue of requests. A worker that dies is started anew and does its request again."""

from __future__ import annotations

import itertools
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from sparkvsr.errors import ResourceError
from sparkvsr.inference.workers.local_worker import WorkerLost

if TYPE_CHECKING:
    from sparkvsr.inference.workers.tasks import Emit, Prepared, Request

_log = logging.getLogger(__name__)

MOST_ATTEMPTS = 4
"""How often a request may take its worker down before it is given up."""


class Worker(Protocol):
    """Something that answers requests, one at a time, elsewhere."""

    name: str
    returns_bytes: bool
    """Whether it does not see our folders, so that segments come back as bytes."""

    def answer(self, request: Request, emit: Emit) -> Prepared | None:
        """Do it; raises ``WorkerLost`` when the worker died, and can be called again then."""

    def close(self) -> None:
        """End it."""

    def kill(self) -> None:
        """End it now."""


@dataclass(order=True)
class _Item:
    priority: tuple[int, ...]
    number: int
    make: Callable[[Worker], Request | None] = field(compare=False)
    emit: Callable[[dict[str, Any]], None] = field(compare=False)
    lost: Callable[[], None] = field(compare=False)
    future: Future[Any] = field(compare=False)
    attempts: int = field(default=0, compare=False)


class Fleet:
    """A context manager around some workers.

    Args:
        workers: not started yet.
        tell: gets one line when a worker died.
    """

    def __init__(self, workers: Sequence[Worker], tell: Callable[[str], None]) -> None:
        self.workers = list(workers)
        self._note = tell
        self._queue: queue.PriorityQueue[_Item] = queue.PriorityQueue()
        self._numbers = itertools.count()
        self._ending = threading.Event()
        self._threads = [
            threading.Thread(target=self._serve, args=(worker,), name=f"sparkvsr-{worker.name}", daemon=True)
            for worker in self.workers
        ]

    def __enter__(self) -> Fleet:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *failure: object) -> None:
        self._ending.set()
        for _ in self._threads:
            self._queue.put(_Item((10**9,), next(self._numbers), lambda _: None, _ignore, lambda: None, Future()))
        if kind is not None:
            for worker in self.workers:
                worker.kill()
        for thread in self._threads:
            thread.join()
        for worker in self.workers:
            worker.close()

    def submit(
        self,
        make: Callable[[Worker], Request | None],
        emit: Callable[[dict[str, Any]], None],
        *,
        priority: tuple[int, ...],
        lost: Callable[[], None] = lambda: None,
    ) -> Future[Any]:
        """Queue a request.

        Args:
            make: gives the request when a worker is free, and again after a worker died; None means that nothing is
                left to do.
            emit: gets the worker's events, in a thread of its own.
            priority: small goes first.
            lost: called when a worker died with it.

        Returns:
            Gives the answer, or raises what the worker raised.
        """
        future: Future[Any] = Future()
        self._queue.put(_Item(priority, next(self._numbers), make, emit, lost, future))
        return future

    def _serve(self, worker: Worker) -> None:
        while True:
            item = self._queue.get()
            if self._ending.is_set():
                item.future.cancel()
                return
            if item.future.set_running_or_notify_cancel():
                self._attempt(worker, item)

    def _attempt(self, worker: Worker, item: _Item) -> None:
        while True:
            item.attempts += 1
            try:
                request = item.make(worker)
                answer = None if request is None else worker.answer(request, item.emit)
            except WorkerLost as exc:
                if self._ending.is_set():
                    item.future.set_exception(exc)
                    return
                item.lost()
                _log.warning("%s; attempt %d of %d", exc, item.attempts, MOST_ATTEMPTS)
                if item.attempts < MOST_ATTEMPTS:
                    self._note(f"{exc}; what it was doing is done again")
                    continue
                msg = (
                    f"the same piece of work ended {MOST_ATTEMPTS} workers ({exc}), probably for lack of memory; use "
                    f"fewer --devices, a smaller --tile or --chunk-frames"
                )
                item.future.set_exception(ResourceError(msg))
                return
            except BaseException as exc:  # noqa: BLE001  (raised again where the result is taken)
                item.future.set_exception(exc)
                return
            item.future.set_result(answer)
            return


def _ignore(event: dict[str, Any]) -> None:
    """No event is expected."""
