"""Several clips, or the shots of one, on several workers: GPUs or processes of this machine, or a Ray cluster.

Only shots are independent of each other: within one, models carry their state from frame to frame, or may. So the
unit of work is a run of neighbouring missing segments of one shot. Segments have the same keys and lie in the same work
folder as those of a run in one process, so that the result is the same, and either can go on where the other stopped.

This process decides nothing about pixels and holds no model: the first request of each clip asks a worker to read it
through and decide.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.hooks import Event, Hook, ProgressReporter, for_input
from sparkvsr.inference.clip.render import missing_runs
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.inference.clip.work import ClipWork, UpscaleResult
from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.inference.workers.fleet import Fleet, Worker
from sparkvsr.inference.workers.local_worker import LocalWorker
from sparkvsr.inference.workers.ray_worker import RayCluster
from sparkvsr.inference.workers.tasks import Prepared, PrepareRequest, Request, WorkerSettings, render_request
from sparkvsr.models.device import resolve_device
from sparkvsr.video.own_files import refuse_source

_log = logging.getLogger(__name__)

MOST_DEVICES = 256
MAX_ATTEMPTS = 3
"""How often missing segments of a clip are looked for again."""


@dataclass(frozen=True)
class Workers:
    """Where to compute.

    Attributes:
        devices: number of workers; None for one for each GPU, or machine without GPUs.
        ray: address of a Ray cluster; None stays on this machine.
    """

    devices: int | None = None
    ray: str | None = None

    def check(self) -> None:
        """Refuse numbers that make no sense.

        Raises:
            ConfigError: out of range.
        """
        if self.devices is not None and not 1 <= self.devices <= MOST_DEVICES:
            msg = (
                f"--devices {self.devices} is out of range; give a number of GPUs or processes from 1 to {MOST_DEVICES}"
            )
            raise ConfigError(msg)


@dataclass(frozen=True)
class ClipOutcome:
    """What became of one clip.

    Attributes:
        number: of the clip in the order they were given.
        result: None when it failed.
        error: None when it did not.
    """

    number: int
    result: UpscaleResult | None
    error: BaseException | None


@dataclass
class _Clip:
    """One clip on its way."""

    number: int
    path: Path
    hook: Hook
    prepared: Prepared | None = None
    work: ClipWork | None = None
    progress: ProgressReporter | None = None
    waiting: set[Future[Any]] = field(default_factory=set)
    failure: BaseException | None = None
    rounds: int = 0


class ScaleOut:
    """Upscales clips on workers.

    Args:
        options: for all clips.
        workers: where.
        hook: gets the events of all clips, one at a time, each with its ``input``.
    """

    def __init__(self, options: UpscaleOptions, workers: Workers, hook: Hook) -> None:
        workers.check()
        self._options = options
        self._workers = workers
        self._lock = threading.RLock()
        self._plain_hook = hook
        self._owners: dict[Path, Path] = {}
        self._paths: Sequence[Path] = ()

    def run(
        self, paths: Sequence[Path], output: Path | None, *, into_folder: bool
    ) -> Generator[ClipOutcome, None, None]:
        """Do it.

        Args:
            paths, output, into_folder: as for ``prepare``.

        Yields:
            An outcome for each clip as it is finished.

        Raises:
            ConfigError: there are no such workers.
        """
        self._paths = paths
        clips = [_Clip(number, path, for_input(self._hook, path)) for number, path in enumerate(paths)]
        with ExitStack() as stack:
            # Last of all, when no worker writes any more.
            stack.push(partial(_leave_all, clips))
            fleet = stack.enter_context(self._fleet(stack))
            finishing = ThreadPoolExecutor(max_workers=2, thread_name_prefix="sparkvsr-finish")
            stack.callback(finishing.shutdown, wait=True, cancel_futures=True)
            owners: dict[Future[Any], tuple[str, _Clip]] = {}
            for clip in clips:
                request = PrepareRequest(clip.path, output, self._options, into_folder)
                future = fleet.submit(partial(_as_is, request), clip.hook, priority=(clip.number, 1))
                owners[future] = ("prepare", clip)
            while owners:
                for future in wait(owners, return_when=FIRST_COMPLETED).done:
                    step, clip = owners.pop(future)
                    more, outcome = self._advance(step, clip, future, fleet, finishing)
                    owners.update(more)
                    if outcome is not None:
                        yield outcome

    def _advance(
        self, step: str, clip: _Clip, future: Future[Any], fleet: Fleet, finishing: ThreadPoolExecutor
    ) -> tuple[dict[Future[Any], tuple[str, _Clip]], ClipOutcome | None]:
        """What follows when a request of a clip has ended: new requests, or the clip's outcome."""
        clip.waiting.discard(future)
        more: dict[Future[Any], tuple[str, _Clip]] = {}
        try:
            answer = None if future.cancelled() else future.result()
            if step == "finish":
                _leave(clip, None)
                return more, ClipOutcome(clip.number, answer, None)
            if step == "prepare" and answer is not None:
                for later in self._begin(clip, answer, fleet):
                    more[later] = ("render", clip)
        except Exception as exc:  # noqa: BLE001  (belongs to this clip; the others go on)
            clip.failure = clip.failure or exc
            for other in clip.waiting:
                other.cancel()
        if clip.waiting:
            return more, None
        if clip.failure is not None:
            _leave(clip, clip.failure)
            return more, ClipOutcome(clip.number, None, clip.failure)
        assert clip.work is not None
        left = clip.work.still_missing()
        if left and clip.rounds < MAX_ATTEMPTS:
            # A disk may have lost a segment since; nothing incomplete is joined.
            clip.rounds += 1
            more |= dict.fromkeys(self._render(clip, left, fleet), ("render", clip))
        else:
            more[finishing.submit(clip.work.finish)] = ("finish", clip)
        return more, None

    def _begin(self, clip: _Clip, prepared: Prepared, fleet: Fleet) -> list[Future[Any]]:
        """Open the work folder of a clip and queue what is missing in it."""
        output = prepared.job.output.absolute()
        if self._owners.setdefault(output, clip.path) != clip.path:
            msg = f"its output {output} is that of {self._owners[output]}; rename one, or give them different folders"
            raise EncodeError(msg)
        for target in prepared.job.outputs:
            refuse_source(target, self._paths)
        work = ClipWork(prepared.job, prepared.segments, self._hook)
        work.report_plan()
        work.__enter__()
        clip.prepared, clip.work = prepared, work
        runs = work.missing()
        clip.progress = ProgressReporter(clip.hook, sum(segment.num_frames for run in runs for segment in run))
        return self._render(clip, runs, fleet)

    def _render(self, clip: _Clip, missing: Sequence[Sequence[Segment]], fleet: Fleet) -> list[Future[Any]]:
        """Queue missing segments, shot by shot."""
        runs = [part for run in missing for part in _by_shot(run)]
        if runs and len(runs) < len(fleet.workers):
            _log.info("%s has work for %d of %d workers at most", clip.path, len(runs), len(fleet.workers))
        # Long shots first: a long one that begins last would keep one worker busy while the others wait.
        runs.sort(key=lambda run: -sum(segment.num_frames for segment in run))
        for run in runs:
            clip.waiting.add(self._submit(clip, tuple(run), fleet))
        return list(clip.waiting)

    def _submit(self, clip: _Clip, run: tuple[Segment, ...], fleet: Fleet) -> Future[Any]:
        assert clip.prepared is not None
        assert clip.work is not None
        assert clip.progress is not None
        prepared, store, progress = clip.prepared, clip.work.store, clip.progress
        counted = 0

        def make(worker: Worker) -> Request | None:
            left = missing_runs(run, store)[0]
            return render_request(prepared, tuple(left[0]), store, returns_bytes=worker.returns_bytes) if left else None

        def emit(event: Event) -> None:
            nonlocal counted
            if event["event"] == "frames":
                counted += event["frames"]
                progress.advance(event["frames"])
            elif event["event"] == "segment":
                if "segment" in event:
                    prepared.job.check_unchanged()
                    store.receive(event["key"], event["segment"], event["frames"], event["state"])
                _log.info("%s: segment %s is there, %d frames", clip.path, event["key"][:12], event["frames"])
            else:
                clip.hook(event)

        def lost() -> None:
            nonlocal counted
            # What was rendered but not stored is done again.
            stored = sum(segment.num_frames for segment in run if store.has(segment.key, segment.num_frames))
            progress.advance(min(0, stored - counted))
            counted = min(counted, stored)

        return fleet.submit(make, emit, priority=(clip.number, 0), lost=lost)

    def _hook(self, event: Event) -> None:
        with self._lock:
            self._plain_hook(event)

    def _note(self, text: str) -> None:
        self._hook({"event": "note", "text": text})

    def _fleet(self, stack: ExitStack) -> Fleet:
        """The workers, not started yet, and an event about them."""
        cpus = torch.get_num_threads()
        if self._workers.ray is None:
            workers, where = _local_workers(self._options.device, self._workers.devices, cpus)
        else:
            cluster = stack.enter_context(RayCluster(self._workers.ray, cpus))
            workers, where = _ray_workers(cluster, self._options.device, self._workers.devices)
        self._hook({"event": "workers", "count": len(workers), "where": where, "ray": self._workers.ray})
        return Fleet(workers, self._note)


def _local_workers(device: str, count: int | None, cpus: int) -> tuple[list[Worker], str]:
    """Workers of this machine: one for each GPU, or processes that share its cores."""
    resolved = resolve_device(device)
    if resolved.type == "cuda":
        there = torch.cuda.device_count()
        wanted = there if count is None else count
        if wanted > there:
            msg = f"--devices {wanted}: this machine has {there} CUDA devices; give at most {there}"
            raise ConfigError(msg)
        if resolved.index is not None and wanted > 1:
            msg = f"--device {device} is one GPU, --devices {wanted} wants several; write --device cuda"
            raise ConfigError(msg)
        first = resolved.index or 0
        settings = [WorkerSettings(f"cuda:{first + k}", max(1, cpus // wanted)) for k in range(wanted)]
        where = f"{wanted} GPU{'s' if wanted > 1 else ''}"
    elif resolved.type == "mps" and (count or 1) > 1:
        msg = f"--devices {count}: there is one Apple GPU; leave --devices out, or use --device cpu"
        raise ConfigError(msg)
    else:
        wanted = 1 if count is None else count
        threads = max(1, cpus // wanted)
        settings = [WorkerSettings(str(resolved), threads, 1 / wanted) for _ in range(wanted)]
        where = f"{wanted} process{'es' if wanted > 1 else ''} with {threads} thread{'s' if threads > 1 else ''} each"
    return [LocalWorker(one, f"worker-{k}") for k, one in enumerate(settings)], where


def _ray_workers(cluster: RayCluster, device: str, count: int | None) -> tuple[list[Worker], str]:
    """Workers of a cluster: one for each GPU, or for each machine without GPUs."""
    gpus = 0 if device == "cpu" else cluster.num_gpus()
    if device.startswith("cuda") and not gpus:
        msg = f"--device {device}: the Ray cluster {cluster.address} has no GPUs; use --device cpu"
        raise ConfigError(msg)
    if gpus:
        wanted = gpus if count is None else count
        if wanted > gpus:
            msg = f"--devices {wanted}: the Ray cluster {cluster.address} has {gpus} GPUs; give at most {gpus}"
            raise ConfigError(msg)
        settings, cpus = WorkerSettings("cuda:0"), 1.0  # Ray shows each worker only its own GPU
    else:
        machines = cluster.num_machines()
        wanted = machines if count is None else count
        each = -(-wanted // machines)
        threads = max(1, cluster.cpus_per_machine() // each)
        settings = WorkerSettings("cpu", threads, 1 / each)
        # All of them have to fit at once: one that waits for a core which an idle one holds would wait for ever.
        cpus = min(threads, math.floor(1000 * cluster.cpus_per_machine() / each) / 1000)
    workers: list[Worker] = [cluster.worker(settings, f"ray-worker-{k}", cpus, 1 if gpus else 0) for k in range(wanted)]
    machine_count = cluster.num_machines()
    where = f"{wanted} {'GPU' if gpus else 'process'}{'' if wanted == 1 else 's' if gpus else 'es'} on {machine_count}"
    return workers, f"{where} machine{'s' if machine_count > 1 else ''} of a Ray cluster"


def _as_is(request: Request, worker: Worker) -> Request:  # noqa: ARG001
    """A request that is the same for every worker."""
    return request


def _by_shot(run: Sequence[Segment]) -> list[list[Segment]]:
    """Cut a run of neighbouring segments where a shot begins."""
    parts: list[list[Segment]] = []
    for segment in run:
        if segment.previous is None or not parts:
            parts.append([])
        parts[-1].append(segment)
    return parts


def _leave_all(clips: Sequence[_Clip], kind: type[BaseException] | None, exc: BaseException | None, _: object) -> None:
    """Close the work folders that are still open, after an interruption."""
    for clip in clips:
        _leave(clip, exc or RuntimeError(kind))


def _leave(clip: _Clip, failure: BaseException | None) -> None:
    """Close the work folder of a clip, once."""
    work, clip.work = clip.work, None
    if work is not None:
        work.__exit__(None if failure is None else type(failure), failure, None)
