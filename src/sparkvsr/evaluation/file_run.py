"""Measures any tool's output: restored files against ground-truth files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sparkvsr.evaluation.alignment import aligned, find_misalignment
from sparkvsr.evaluation.frames import FrameClip
from sparkvsr.evaluation.measuring import ClipTask, MeasureOptions, measure_clips
from sparkvsr.evaluation.pairing import ClipPair, Crop, pair_paths
from sparkvsr.evaluation.record import build_record
from sparkvsr.evaluation.result_folder import CLIPS_FOLDER, write_outputs
from sparkvsr.evaluation.run_options import MetricChoice
from sparkvsr.hooks import Hook
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.readiness import resolve_metrics
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.output_lock import OutputLock
from sparkvsr.pretrained.weights import WeightStore


def evaluate_files(
    sr: Path,
    gt: Path,
    output: Path,
    *,
    metrics: MetricChoice | None = None,
    crop: Crop = "none",
    trim: bool = False,
    align: bool = False,
    border: int = 0,
    hook: Hook | None = None,
) -> dict[str, Any]:
    """Measure files and write the results.

    Args:
        sr, gt: see ``pairing.pair_paths``.
        output: folder for the results.
        metrics: what to compute.
        crop, trim: see ``pairing.pair_paths``.
        align: take back a shift of whole pixels or one frame, see ``alignment``; it is only told otherwise.
        border: pixels that PSNR and SSIM leave out on each side.
        hook: progress events, see ``measuring.measure_clips``.

    Returns:
        The record, see ``record``.

    Raises:
        MissingMetricsError: a metric asked for by name is not ready.
        EncodeError: another process writes this folder.
        DatasetError, MetricError, DecodeError: see ``pairing.pair_paths`` and ``measuring.measure_clips``.
    """
    choice = metrics or MetricChoice()
    store = WeightStore(choice.weights_dir)
    specs, skipped = resolve_metrics(choice.names, store, strict=choice.strict, allow_download=choice.allow_download)
    pairs = pair_paths(sr, gt, crop=crop, trim=trim)
    if align:
        pairs = [_aligned(pair) for pair in pairs]
    primary = next((spec.name for spec in specs if spec.kind == "frame"), "psnr")
    options = MeasureOptions(tuple(specs), border=border, every=choice.every, primary=primary)
    tasks = [
        ClipTask(
            name=pair.name,
            num_frames=pair.sr.num_frames,
            fps=pair.gt.fps,
            produce=_frames_of(pair.sr),
            gt=pair.gt,
            identity=pair.sr.identity(),
            sources=pair.sr.identity,
            facts={"sr_source": pair.sr.describe(), "gt_source": pair.gt.describe()},
            notes=[*pair.notes, *pair.sr.warnings(), *pair.gt.warnings()],
        )
        for pair in pairs
    ]
    run = {
        "kind": "files",
        "pred": str(sr),
        "gt": str(gt),
        "crop": crop,
        "trim": trim,
        "align": align,
        "primary": primary,
    }
    with OutputLock(output, "-o"):
        clips = measure_clips(tasks, Toolbox(store, choice.device), options, output / CLIPS_FOLDER, hook)
        record = build_record(run, clips, options, skipped, store, has_gt=True)
        write_outputs(record, output)
    return record


def _aligned(pair: ClipPair) -> ClipPair:
    found = find_misalignment(pair.sr, pair.gt)
    if found is None:
        return pair
    sr, gt = aligned(pair.sr, pair.gt, found.shift)
    return ClipPair(pair.name, sr, gt, (found.note(is_applied=True), *pair.notes))


def _frames_of(clip: FrameClip) -> Callable[[], Iterator[tuple[Image8, Image8 | None]]]:
    def produce() -> Iterator[tuple[Image8, Image8 | None]]:
        return ((frame, None) for frame in clip.frames())

    return produce
