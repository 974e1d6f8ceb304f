"""Workers that share a queue: all requests are answered, a worker that dies does its request again, others go on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from sparkvsr.errors import ConfigError, ResourceError
from sparkvsr.inference.workers.fleet import MOST_ATTEMPTS, Fleet
from sparkvsr.inference.workers.local_worker import WorkerLost


class FakeWorker:
    """Answers a request by calling it."""

    returns_bytes = False

    def __init__(self, name: str = "fake") -> None:
        self.name = name
        self.state = "new"

    def answer(self, request: Any, emit: Callable[[dict[str, Any]], None]) -> Any:
        return request(emit)

    def close(self) -> None:
        self.state = "closed"

    def kill(self) -> None:
        self.state = "killed"


def nothing(event: dict[str, Any]) -> None:
    pass


def test_requests_run_at_the_same_time_and_small_priorities_first() -> None:
    both = threading.Barrier(2, timeout=10)
    order: list[int] = []
    workers = [FakeWorker(), FakeWorker()]
    with Fleet(workers, lambda text: None) as fleet:  # type: ignore[arg-type]
        pair = [fleet.submit(lambda _: lambda emit: both.wait(), nothing, priority=(0,)) for _ in range(2)]  # type: ignore[arg-type, return-value]
        assert sorted(future.result(10) for future in pair) == [0, 1]
    with Fleet([FakeWorker()], lambda text: None) as fleet:  # type: ignore[list-item]
        held = threading.Event()
        first = fleet.submit(lambda _: lambda emit: held.wait(10), nothing, priority=(0,))  # type: ignore[arg-type, return-value]
        time.sleep(0.1)
        rest = [
            fleet.submit(lambda _, k=k: lambda emit: order.append(k), nothing, priority=(k,))  # type: ignore[misc]
            for k in (3, 1, 2)
        ]
        held.set()
        for future in (first, *rest):
            future.result(10)
    assert order == [1, 2, 3]
    assert [worker.state for worker in workers] == ["closed", "closed"]


def test_a_lost_worker_does_its_request_again() -> None:
    tries: list[int] = []
    told: list[str] = []
    lost: list[int] = []

    def request(emit: Callable[[dict[str, Any]], None]) -> str:
        tries.append(1)
        if len(tries) < 3:
            raise WorkerLost("fake died")
        return "answer"

    with Fleet([FakeWorker()], told.append) as fleet:  # type: ignore[list-item]
        future = fleet.submit(lambda _: request, nothing, priority=(0,), lost=lambda: lost.append(1))  # type: ignore[arg-type, return-value]
        assert future.result(10) == "answer"
    assert len(lost) == 2
    assert told == ["fake died; what it was doing is done again"] * 2


def test_a_request_that_ends_every_worker_is_given_up_and_others_go_on() -> None:
    tries: list[int] = []

    def deadly(emit: object) -> None:
        tries.append(1)
        raise WorkerLost("fake died")

    with Fleet([FakeWorker()], lambda text: None) as fleet:  # type: ignore[list-item]
        bad = fleet.submit(lambda _: deadly, nothing, priority=(0,))  # type: ignore[arg-type, return-value]
        good = fleet.submit(lambda _: lambda emit: 5, nothing, priority=(1,))  # type: ignore[arg-type, return-value]
        with pytest.raises(ResourceError, match="fewer --devices"):
            bad.result(10)
        assert good.result(10) == 5
    assert len(tries) == MOST_ATTEMPTS


def test_errors_and_nothing_to_do_come_back() -> None:
    def refuse(emit: object) -> None:
        raise ConfigError("no")

    with Fleet([FakeWorker()], lambda text: None) as fleet:  # type: ignore[list-item]
        failing = fleet.submit(lambda _: refuse, nothing, priority=(0,))  # type: ignore[arg-type, return-value]
        with pytest.raises(ConfigError, match="no"):
            failing.result(10)
        assert fleet.submit(lambda _: None, nothing, priority=(0,)).result(10) is None


def test_leaving_by_an_exception_kills_workers_and_drops_what_waits() -> None:
    worker = FakeWorker()
    held = threading.Event()
    worker.kill = lambda: held.set()  # type: ignore[method-assign]

    def use() -> None:
        with Fleet([worker], lambda text: None) as fleet:  # type: ignore[list-item]
            fleet.submit(lambda _: lambda emit: held.wait(10), nothing, priority=(0,))  # type: ignore[arg-type, return-value]
            waiting.append(fleet.submit(lambda _: lambda emit: 1, nothing, priority=(1,)))  # type: ignore[arg-type, return-value]
            raise KeyboardInterrupt

    waiting: list[Any] = []
    with pytest.raises(KeyboardInterrupt):
        use()
    assert held.is_set()
    assert not waiting[0].done() or waiting[0].cancelled()
