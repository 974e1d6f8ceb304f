"""Workers on the machines of a Ray cluster (extra ``ray``). Ray places them and carries requests, events and segments.

Inputs, references and weights are read by the workers themselves and have to lie under the same paths on all machines;
finished segments come back through Ray.
"""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from sparkvsr.errors import ConfigError, SparkVSRError
from sparkvsr.inference.workers.local_worker import WorkerLost, final_answer

if TYPE_CHECKING:
    from sparkvsr.inference.workers.tasks import Emit, Prepared, RenderWorker, Request, WorkerSettings

_log = logging.getLogger(__name__)

LOCAL = "local"
KNOCK_SECONDS = 10.0


class RayCluster:
    """A connection to a cluster; a context manager.

    Args:
        address: ``local`` starts a cluster on this machine that ends with the program, ``auto`` finds a running one,
            anything else is an address as Ray writes it (``host:6379``, ``ray://host:10001``).
        local_cpus: cores of a local cluster.

    Raises:
        ConfigError: Ray is not installed, or there is no cluster at the address.
    """

    def __init__(self, address: str, local_cpus: int) -> None:
        self._ray = _import_ray()
        self.address = address
        self._cpus = local_cpus

    def __enter__(self) -> RayCluster:
        options: dict[str, Any] = {"address": self.address, "log_to_driver": False, "configure_logging": False}
        if self.address == LOCAL:
            options |= {"num_cpus": self._cpus, "include_dashboard": False}
        # It tells of its defaults on stderr, above the progress.
        logging.getLogger("ray").setLevel(logging.ERROR)
        try:
            _knock(self.address)
            self._ray.init(**options)
        except Exception as exc:  # Ray raises many kinds, ConnectionError and RuntimeError among them
            reason = (str(exc).strip().splitlines() or [type(exc).__name__])[0]
            msg = (
                f"--ray {self.address}: no Ray cluster could be reached ({reason}); "
                f"start one with `ray start --head`, or use --ray local"
            )
            raise ConfigError(msg) from exc
        _log.info("Ray %s, %s: %s", self._ray.__version__, self.address, self._ray.cluster_resources())
        return self

    def __exit__(self, *failure: object) -> None:
        self._ray.shutdown()

    def num_gpus(self) -> int:
        """GPUs of all machines."""
        return int(self._ray.cluster_resources().get("GPU", 0))

    def num_machines(self) -> int:
        """Machines that are alive."""
        return max(1, sum(1 for node in self._ray.nodes() if node.get("Alive")))

    def cpus_per_machine(self) -> int:
        """Cores of the smallest machine."""
        counts = [int(node.get("Resources", {}).get("CPU", 0)) for node in self._ray.nodes() if node.get("Alive")]
        return max(1, min((count for count in counts if count > 0), default=1))

    def worker(self, settings: WorkerSettings, name: str, cpus: float, gpus: int) -> RayWorker:
        """A worker somewhere in the cluster, which takes so many cores and GPUs there."""
        return RayWorker(self._ray, settings, name, cpus, gpus)


class RayWorker:
    """One actor; started by the first ``answer``.

    Args:
        ray: the module.
        settings: of the worker.
        name: for the log.
        cpus, gpus: what it takes of its machine; a share of a core where there are more workers than cores.
    """

    returns_bytes = True

    def __init__(self, ray: Any, settings: WorkerSettings, name: str, cpus: float, gpus: int) -> None:
        self.name = name
        self._ray, self._settings, self._cpus, self._gpus = ray, settings, cpus, gpus
        self._actor: Any = None

    def answer(self, request: Request, emit: Emit) -> Prepared | None:
        """See ``RenderWorker.answer``.

        Raises:
            WorkerLost: the actor or its machine died.
            WorkerCrashError: it met an exception that is not ours.
            SparkVSRError: its own.
        """
        errors = self._ray.exceptions
        try:
            if self._actor is None:
                actor_class = self._ray.remote(num_cpus=self._cpus, num_gpus=self._gpus)(RayActor)
                self._actor = actor_class.remote(self._settings)
            references = self._actor.answer.options(num_returns="streaming").remote(request)
            return final_answer(map(self._ray.get, references), emit, self.name)
        except (errors.RayActorError, errors.ObjectLostError, errors.NodeDiedError, errors.WorkerCrashedError) as exc:
            self.kill()
            msg = f"{self.name} died ({type(exc).__name__})"
            raise WorkerLost(msg) from exc

    def close(self) -> None:
        """End the actor."""
        self.kill()

    def kill(self) -> None:
        """End the actor now; the next ``answer`` starts another."""
        if self._actor is not None:
            with suppress(Exception):  # it may be gone, and its cluster with it
                self._ray.kill(self._actor)
            self._actor = None


class RayActor:
    """What runs on the machines of the cluster."""

    def __init__(self, settings: WorkerSettings) -> None:
        from sparkvsr.inference.workers.tasks import RenderWorker

        self._worker: RenderWorker = RenderWorker(settings)
        self._box: queue.Queue[tuple[str, Any]] = queue.Queue()
        from sparkvsr.inference.workers.local_worker import forward_log

        forward_log(lambda kind, value: self._box.put((kind, value)))

    def answer(self, request: Request) -> Iterator[tuple[str, Any]]:
        """Events as they come, then the answer; see ``RenderWorker.answer``."""

        def work() -> None:
            try:
                answer = self._worker.answer(request, lambda event: self._box.put(("event", event)))
            except SparkVSRError as exc:
                self._box.put(("error", exc))
            except BaseException as exc:  # noqa: BLE001  (the first process reports it)
                self._box.put(("crash", (type(exc).__name__, traceback.format_exc())))
            else:
                self._box.put(("answer", answer))

        # A thread, because a generator hands over what it has only when it is asked for more.
        thread = threading.Thread(target=work, name="sparkvsr-answer", daemon=True)
        thread.start()
        while True:
            kind, value = self._box.get()
            yield kind, value
            if kind in ("error", "crash", "answer"):
                thread.join()
                return

    def where(self) -> tuple[str, int]:
        """Host name and process."""
        return socket.gethostname(), os.getpid()


def _knock(address: str) -> None:
    """Find out in seconds that nobody answers; Ray itself tries for minutes.

    Raises:
        OSError: nobody answers at ``host:port`` or ``ray://host:port``.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), KNOCK_SECONDS).close()


def _import_ray() -> Any:
    # Nothing is sent anywhere unless the user asks for it.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as exc:
        msg = "--ray needs Ray, which is not installed; install it with: pip install 'sparkvsr[ray]'"
        raise ConfigError(msg) from exc
    return ray
