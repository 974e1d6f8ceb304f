"""What workers are asked for, as plain values that can go to another process or machine, and how they do it."""

from __future__ import annotations

import hashlib
import json
import logging
import socket
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.hooks import Event
from sparkvsr.inference.clip.job import ClipJob, UpscaleJob, prepare
from sparkvsr.inference.clip.own_keyframes import completed_maker
from sparkvsr.inference.clip.render import missing_runs, pixel_settings, render_segments, segment_suffix, segments_of
from sparkvsr.inference.clip.segments import Segment
from sparkvsr.inference.clip.store import SEGMENTS, WorkStore
from sparkvsr.inference.options import ModelChoice, UpscaleOptions
from sparkvsr.keyframes.references import make_reference_maker
from sparkvsr.models.interface import RestorationModel

_log = logging.getLogger(__name__)

Emit = Callable[[Event], None]


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker computes.

    Attributes:
        device: replaces ``UpscaleOptions.device``.
        threads: of torch and OpenCV; None leaves them as they are.
        memory_share: of the machine's free memory.
    """

    device: str
    threads: int | None = None
    memory_share: float = 1.0


@dataclass(frozen=True)
class PrepareRequest:
    """Decide everything about one clip.

    Attributes:
        path, output, options, into_folder: see ``prepare``.
    """

    path: Path
    output: Path | None
    options: UpscaleOptions
    into_folder: bool


@dataclass(frozen=True)
class Prepared:
    """Answer to a ``PrepareRequest``.

    Attributes:
        job: everything decided.
        segments: its segments with their keys.
        settings: digest of what decides all pixels, which every worker must share.
    """

    job: ClipJob
    segments: tuple[Segment, ...]
    settings: str


@dataclass(frozen=True)
class RenderRequest:
    """Render neighbouring segments of one shot.

    Attributes:
        job: with the record of the frames that rendering these segments reads.
        segments: neighbours; those that are in the store are passed over.
        settings: as in ``Prepared``.
        store: work folder that the worker writes into; None sends segments back as bytes.
        state: of the model before the first segment, where the worker does not see the store.
    """

    job: ClipJob
    segments: tuple[Segment, ...]
    settings: str
    store: Path | None = None
    state: bytes | None = None


Request = PrepareRequest | RenderRequest


def render_request(
    prepared: Prepared, segments: tuple[Segment, ...], store: WorkStore, *, returns_bytes: bool
) -> Request:
    """The request for some segments.

    Args:
        segments: neighbours of one shot that are missing.
        store: of the clip.
        returns_bytes: the worker does not see the store.
    """
    previous = segments[0].previous
    first, last = segments[0], segments[-1]
    keyframes = [k for k in prepared.job.selection.indices if first.shot.start <= k < last.shot.stop]
    record = prepared.job.record.part(first.start, last.stop, keyframes)
    if returns_bytes and record.identity is not None:
        # Another machine may see another time of the same file; here it is looked at when the segment comes.
        record = replace(record, identity=replace(record.identity, time_ns=None))
    return RenderRequest(
        job=replace(prepared.job, record=record),
        segments=segments,
        settings=prepared.settings,
        store=None if returns_bytes else store.folder,
        state=store.state_bytes(previous) if returns_bytes and previous is not None else None,
    )


class RenderWorker:
    """Answers requests with a model that stays loaded. Lives in a worker process; not for several threads.

    Args:
        settings: device, threads, memory.
    """

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        if settings.threads is not None:
            torch.set_num_threads(settings.threads)
            cv2.setNumThreads(settings.threads)
        self._models: dict[str, RestorationModel] = {}

    def answer(self, request: Request, emit: Emit) -> Prepared | None:
        """Do what is asked for.

        Args:
            request: what.
            emit: gets events, ``frames`` (so many more are done) and ``segment`` (one is finished) among them.

        Raises:
            SparkVSRError: as the single-process run would.
        """
        if isinstance(request, PrepareRequest):
            return self._prepare(request, emit)
        self._render(request, emit)
        return None

    def _prepare(self, request: PrepareRequest, emit: Emit) -> Prepared:
        options = replace(request.options, device=self._settings.device)
        job = prepare(
            request.path,
            request.output,
            options,
            self._model(options.model_choice),
            emit,
            into_folder=request.into_folder,
            memory_share=self._settings.memory_share,
        )
        return Prepared(job.clip, tuple(segments_of(job)), settings_digest(job))

    def _render(self, request: RenderRequest, emit: Emit) -> None:
        path = request.job.info.path
        if not path.exists():
            msg = (
                f"{path} cannot be seen on {socket.gethostname()}; inputs have to lie on a disk that all machines share"
            )
            raise DecodeError(msg)
        model = self._model(request.job.model)
        maker = make_reference_maker(request.job.maker, model.device)
        maker.check_clip(path)
        job = UpscaleJob(request.job, model, completed_maker(maker, request.job.settings.own_keyframes, model))
        if settings_digest(job) != request.settings:
            msg = (
                f"the worker on {socket.gethostname()} would give other pixels than the first one (another version of "
                f"sparkvsr, PyAV or the weights, or another precision); install the same everywhere, or give --dtype"
            )
            raise ConfigError(msg)
        if request.store is not None:
            with _ReportingStore(request.store, emit, segment_suffix(job.clip.output)) as store:
                self._render_into(job, request, store, emit)
            return
        with tempfile.TemporaryDirectory(prefix="sparkvsr-") as folder:
            (Path(folder) / SEGMENTS).mkdir()
            with _ReturningStore(Path(folder), emit, segment_suffix(job.clip.output)) as returning:
                if request.state is not None and request.segments[0].previous is not None:
                    returning.put_state(request.segments[0].previous, request.state)
                self._render_into(job, request, returning, emit)

    def _render_into(self, job: UpscaleJob, request: RenderRequest, store: WorkStore, emit: Emit) -> None:
        done = 0

        def hook(event: Event) -> None:
            nonlocal done
            if event["event"] == "progress":
                emit({"event": "frames", "frames": event["done"] - done})
                done = event["done"]
            else:
                emit(event)

        # A segment may be there already: the worker that had this request before may have died late.
        runs, _ = missing_runs(request.segments, store)
        render_segments(job, runs, store, hook)

    def _model(self, choice: ModelChoice) -> RestorationModel:
        wanted = repr((choice.name, choice.dtype, choice.look, sorted(choice.options.items(), key=str)))
        if wanted not in self._models:
            self._models.clear()
            self._models[wanted] = choice.load(self._settings.device)
        return self._models[wanted]


class _ReportingStore(WorkStore):
    """The folder of the process that gave the work, seen from a worker."""

    def __init__(self, folder: Path, emit: Emit, suffix: str) -> None:
        super().__init__(folder, suffix=suffix, is_lock_held=True)
        self._emit = emit

    def take(self, key: str, partial: Path, num_frames: int, state: Mapping[str, Tensor] | None) -> None:
        """See ``WorkStore.take``; says so."""
        super().take(key, partial, num_frames, state)
        self._emit({"event": "segment", "key": key, "frames": num_frames})


class _ReturningStore(_ReportingStore):
    """A folder of the worker's own, whose segments are sent home."""

    def take(self, key: str, partial: Path, num_frames: int, state: Mapping[str, Tensor] | None) -> None:
        """See ``WorkStore.take``; sends the segment and keeps only what the next one needs."""
        WorkStore.take(self, key, partial, num_frames, state)
        data: dict[str, Any] = {"segment": self.path(key).read_bytes(), "state": self.state_bytes(key)}
        self._emit({"event": "segment", "key": key, "frames": num_frames, **data})
        self.path(key).unlink()


def settings_digest(job: UpscaleJob) -> str:
    """Short text that is the same on workers that give the same pixels."""
    text = json.dumps(pixel_settings(job), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
