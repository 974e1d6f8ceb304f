"""Runs clips through metrics: frames are produced in one thread and measured in another; resumes by clip."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkvsr.errors import MetricError, SparkVSRError
from sparkvsr.evaluation.alignment import AlignmentCheck
from sparkvsr.evaluation.frames import FrameClip
from sparkvsr.evaluation.pictures import ExtremeFrames
from sparkvsr.evaluation.scores import score_record
from sparkvsr.hooks import Hook
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.clip_meter import ClipMeter
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.readiness import package_versions
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.plain_json import read_object
from sparkvsr.pretrained.weights import WeightStore
from sparkvsr.threads import ByteQueue

QUEUE_BYTES = 600_000_000
METRIC_THREADS = 2
_LONGEST_NAME = 120
"""Bytes of a file's name without its ending; some encrypted file systems take 143 in all."""


@dataclass
class ClipTask:
    """One clip to produce and measure.

    Attributes:
        name: of the clip; also names its files.
        num_frames: to be measured.
        fps: frames per second.
        produce: gives each frame as (restored, LR or None), both ``(H, W, 3)`` uint8. Runs in the calling thread;
            may fill ``facts``.
        gt: ground truth, None where there is none.
        identity: changes when inputs or the way of restoring change.
        facts: more to write into the record (keyframes, times).
        notes: warnings about this clip.
        sources: identity of the files that ``produce`` reads, as they are now.
    """

    name: str
    num_frames: int
    fps: float
    produce: Callable[[], Iterator[tuple[Image8, Image8 | None]]]
    gt: FrameClip | None
    identity: str
    facts: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    sources: Callable[[], str] | None = None

    def __post_init__(self) -> None:
        self._before = self._state()

    def check_unchanged(self) -> None:
        """Hold the files against what they were.

        Raises:
            MetricError: one is another, so that nobody knows what was measured.
        """
        if self._state() != self._before:
            msg = f"{self.name} was changed while it was measured; run the same again when nothing writes into it"
            raise MetricError(msg)

    def _state(self) -> tuple[str, str]:
        try:
            own = self.sources() if self.sources is not None else ""
            return own, self.gt.identity() if self.gt is not None else ""
        except OSError:
            return "gone", ""


@dataclass(frozen=True)
class MeasureOptions:
    """How clips are measured.

    Attributes:
        specs: metrics.
        border: pixels that PSNR and SSIM leave out on each side.
        every: slow metrics score every N-th frame.
        primary: metric that ranks frames for the pictures.
    """

    specs: tuple[MetricSpec, ...]
    border: int = 0
    every: int = 1
    primary: str = "psnr"

    def protocol(self, spec: MetricSpec, has_gt: bool) -> str:
        """The metric's protocol string under these options."""
        text = spec.protocol.format(crop=self.border)
        if not has_gt:
            text = text.replace("gt-flow", "own-flow")
        if spec.slow and self.every > 1:
            text = text[:-1] + f",every{self.every}]"
        return text


def measure_clips(
    tasks: Sequence[ClipTask], tools: Toolbox, options: MeasureOptions, folder: Path, hook: Hook | None = None
) -> list[dict[str, Any]]:
    """Produce and measure clips, one record each.

    Clips whose record in ``folder`` was made from the same inputs in the same way are taken from there.

    Args:
        tasks: clips, in order.
        tools: networks of the metrics.
        options: how to measure.
        folder: gets ``NAME.json`` and pictures as each clip finishes.
        hook: called with ``{"event": "progress", "done", "total", "seconds_left", "clip"}`` and
            ``{"event": "clip", "name", "reused", "record"}``, from either thread, one call at a time.

    Returns:
        Records in the order of ``tasks``, see ``_record``.

    Raises:
        MetricError: sizes or counts differ while streaming, or an outside program failed.
        SparkVSRError: ``folder`` cannot be written.
    """
    make_folder(folder)
    progress = _Progress(hook, sum(task.num_frames for task in tasks))
    records: dict[str, dict[str, Any]] = {}
    todo = []
    basis = _basis(options, tools.store)
    for task in tasks:
        kept = _read_kept(folder, task, options, basis)
        if kept is None:
            todo.append(task)
        else:
            records[task.name] = kept
            progress.reused(task, kept)
    queue: ByteQueue[_Item] = ByteQueue(QUEUE_BYTES)
    worker = threading.Thread(
        target=_measure_all, args=(queue, todo, tools, options, folder, records, progress, basis), daemon=True
    )
    worker.start()
    try:
        for task in todo:
            for sr, lr in task.produce():
                queue.put((sr, lr), sr.nbytes + (lr.nbytes if lr is not None else 0))
            queue.put(None, 0)
    except BaseException as exc:
        queue.fail(exc)
        worker.join()
        raise
    worker.join()
    if progress.error is not None:
        raise progress.error
    return [records[task.name] for task in tasks]


_Item = tuple[Image8, Image8 | None] | None


class _Progress:
    """Counts measured frames and estimates the time left from those that were not reused."""

    def __init__(self, hook: Hook | None, total: int) -> None:
        self._hook, self._total = hook, total
        self._done = 0
        self._fresh = 0
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self.error: BaseException | None = None

    def reused(self, task: ClipTask, record: dict[str, Any]) -> None:
        self._done += task.num_frames
        self._send({"event": "clip", "name": task.name, "reused": True, "record": record})

    def frame(self, task: ClipTask) -> None:
        self._done += 1
        self._fresh += 1
        left = (time.monotonic() - self._started) / self._fresh * (self._total - self._done)
        self._send(
            {"event": "progress", "done": self._done, "total": self._total, "seconds_left": left, "clip": task.name}
        )

    def clip(self, task: ClipTask, record: dict[str, Any]) -> None:
        self._send({"event": "clip", "name": task.name, "reused": False, "record": record})

    def _send(self, event: dict[str, Any]) -> None:
        if self._hook is not None:
            with self._lock:
                self._hook(event)


def _measure_all(
    queue: ByteQueue[_Item],
    tasks: Sequence[ClipTask],
    tools: Toolbox,
    options: MeasureOptions,
    folder: Path,
    records: dict[str, dict[str, Any]],
    progress: _Progress,
    basis: str,
) -> None:
    """The measuring thread."""
    try:
        with ThreadPoolExecutor(METRIC_THREADS) as pool:
            for task in tasks:
                record = _measure_one(queue, task, tools, options, folder, progress, pool)
                records[task.name] = record
                _write_kept(folder, task, options, basis, record)
                progress.clip(task, record)
    except BaseException as exc:  # noqa: BLE001  (handed to the other thread, which raises it)
        progress.error = exc
        queue.fail(exc)


def _measure_one(
    queue: ByteQueue[_Item],
    task: ClipTask,
    tools: Toolbox,
    options: MeasureOptions,
    folder: Path,
    progress: _Progress,
    pool: Executor,
) -> dict[str, Any]:
    meter = ClipMeter(
        options.specs, tools, border=options.border, every=options.every, fps=task.fps, num_frames=task.num_frames,
        pool=pool,
    )  # fmt: skip
    primary = next((spec for spec in options.specs if spec.name == options.primary), None)
    extremes = ExtremeFrames(primary.higher_is_better is not False) if primary else None
    truth = task.gt.frames() if task.gt is not None else None
    check = AlignmentCheck(task.num_frames)
    index, size, seconds = 0, (0, 0), 0.0
    try:
        while (item := queue.get()) is not None:
            started = time.monotonic()
            sr, lr = item
            gt = next(truth, None) if truth is not None else None
            if truth is not None and gt is None:
                msg = f"{task.name}: the ground truth ends at frame {index}, the restored clip goes on; pass --trim"
                raise MetricError(msg)
            if gt is not None and gt.shape == sr.shape:
                check.see(sr, gt)
            meter.update(sr, gt)
            if extremes is not None:
                values = meter.scores[options.primary].values
                extremes.offer(index, values[-1] if values else None, sr, gt, lr)
            index, size = index + 1, (sr.shape[0], sr.shape[1])
            seconds += time.monotonic() - started
            progress.frame(task)
        if truth is not None and next(truth, None) is not None:
            msg = f"{task.name}: the restored clip ends at frame {index}, the ground truth goes on; pass --trim"
            raise MetricError(msg)
        started = time.monotonic()
        scores = meter.finish()
        seconds += time.monotonic() - started
        task.check_unchanged()
    except MetricError as exc:
        meter.close()
        task.check_unchanged()  # which would explain it
        raise exc if str(exc).startswith(task.name) else MetricError(f"{task.name}: {exc}") from exc
    except BaseException:
        meter.close()
        raise
    found = check.result()
    with _writing(folder):
        pictures = extremes.save(folder, safe_name(task.name)) if extremes else []
    return {
        "name": task.name,
        "frames": index,
        "size": list(size),
        "fps": task.fps,
        "metrics": {
            spec.name: score_record(spec, scores[spec.name], task.facts.get("keyframes") or ())
            for spec in options.specs
        },
        "pictures": pictures,
        "seconds_measuring": round(seconds, 3),
        "warnings": [*([] if found is None else [found.note()]), *task.notes],
        **task.facts,
    }


def make_folder(folder: Path) -> None:
    """Make an output folder, so that one that cannot be written is refused before any work.

    Raises:
        SparkVSRError: it cannot be made or written.
    """
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass


@contextlib.contextmanager
def _writing(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        msg = f"cannot write the results into {folder} ({exc.strerror or exc}); choose another -o, or make room"
        raise SparkVSRError(msg) from exc


def plain_name(name: str) -> str:
    """A name of letters, digits and ``-_.`` that any file system takes, with room for an ending; at most 120 bytes."""
    plain = "".join(char if char.isalnum() or char in "-_." else "_" for char in name)
    return plain.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore")


def safe_name(name: str) -> str:
    """A clip's name as a file name of its own: where it had to be changed or cut, a hash keeps it apart from others."""
    plain = plain_name(name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def _basis(options: MeasureOptions, store: WeightStore) -> str:
    """Libraries and weights that the numbers rest on: the record names them, so they must hold for kept clips too."""
    names = dict.fromkeys(name for spec in options.specs for name in spec.weights)
    found = {name: weights.sha256 for name in names if (weights := store.find(name)) is not None}
    return json.dumps([package_versions(list(options.specs)), found])


def _fingerprint(task: ClipTask, options: MeasureOptions, basis: str) -> str:
    gt = task.gt.identity() if task.gt is not None else "none"
    protocols = [options.protocol(spec, task.gt is not None) for spec in options.specs]
    text = json.dumps([task.identity, gt, task.num_frames, protocols, options.every, options.primary, basis])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _read_kept(folder: Path, task: ClipTask, options: MeasureOptions, basis: str) -> dict[str, Any] | None:
    file = folder / f"{safe_name(task.name)}.json"
    try:
        kept = read_object(file)
    except (OSError, ValueError):
        return None
    if kept.get("fingerprint") != _fingerprint(task, options, basis):
        return None
    record = kept.get("record")
    return record if isinstance(record, dict) and kept.get("sha256") == _digest(record) else None


def _write_kept(folder: Path, task: ClipTask, options: MeasureOptions, basis: str, record: dict[str, Any]) -> None:
    file = folder / f"{safe_name(task.name)}.json"
    partial = file.with_suffix(".partial")
    kept = {"fingerprint": _fingerprint(task, options, basis), "sha256": _digest(record), "record": record}
    with _writing(folder):
        partial.write_text(json.dumps(kept), encoding="utf-8")
        partial.replace(file)


def _digest(record: dict[str, Any]) -> str:
    """Of what was measured: a file that was damaged since is measured again."""
    return hashlib.sha256(json.dumps(record).encode()).hexdigest()
