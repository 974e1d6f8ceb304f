"""Measuring what this machine takes for a clip, on a small piece of it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, cycle, islice
from pathlib import Path

from torch import Tensor

from sparkvsr.hooks import Hook, silent
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.other_load import OtherLoad
from sparkvsr.inference.clip.own_keyframes import is_own_kind
from sparkvsr.inference.clip.timing import Rates
from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.inference.upscale import run
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.references import make_reference_maker
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import BUILT_IN_MODELS
from sparkvsr.video import EncodeOptions, VideoWriter, output_kind
from sparkvsr.video.pixels import resize_image

PIXELS = 240 * 136
"""LR pixels of the piece at most."""

SHORT, LONG = 4, 20
"""Frames of the two runs whose difference is measured: a chunk, and one keyframe after another with its frames."""

_SPACING = 16
"""Frames between two keyframes of the piece, as they mostly lie in a clip."""


def can_calibrate(model: RestorationModel) -> bool:
    """Whether a short run says something: a model that works on many frames at once has none."""
    return model.name in BUILT_IN_MODELS


def calibrate(job: UpscaleJob, options: UpscaleOptions, hook: Hook) -> Rates:
    """Restore a few frames of a job's clip, made small, and take the time.

    Args:
        job: prepared.
        options: that it was prepared with.
        hook: gets one ``note``.

    Raises:
        SparkVSRError: the clip cannot be read, or there is no room for a few frames in the temporary folder.
    """
    hook({"event": "note", "text": "measuring what this machine takes, once: up to half a minute"})
    frames = _piece(job)
    load = OtherLoad()
    with tempfile.TemporaryDirectory(prefix="sparkvsr-") as folder:
        _timed(job, options, frames[:SHORT], Path(folder))  # what is loaded and compiled only once
        short, few = _timed(job, options, frames[:SHORT], Path(folder))
        long, more = _timed(job, options, frames, Path(folder))
    keyframe = _seconds_for_a_keyframe(job, frames[0])
    seconds = max(1e-6, long - short - (more - few) * keyframe) / (LONG - SHORT)
    factor = job.clip.settings.working_size[0] / job.clip.info.height
    millions = frames[0].shape[-2] * frames[0].shape[-1] * factor**2 / 1e6
    start = max(0.0, short - SHORT * seconds - few * keyframe)
    others = load.share()
    if others is not None:
        text = (
            f"other programs took {others:.0%} of the machine meanwhile; the estimate is for the machine without them"
        )
        hook({"event": "note", "text": text})
    own = 1.0 - (others or 0.0)
    return Rates(start * own, seconds / millions * own, keyframe / millions * own)


def _piece(job: UpscaleJob) -> list[Tensor]:
    """The first frames of the clip, small, there and back again if it is short."""
    height, width = job.clip.info.height, job.clip.info.width
    factor = min(1.0, math.sqrt(PIXELS / (height * width)))
    size = max(2, 2 * round(height * factor / 2)), max(2, 2 * round(width * factor / 2))
    first = job.clip.shots[0].start
    stop = min(first + LONG, first + job.clip.num_frames)
    found = [resize_image(frame.pixels, size) for frame in job.clip.open_frames(first, stop)]
    return list(islice(cycle(chain(found, reversed(found))), LONG))


def _seconds_for_a_keyframe(job: UpscaleJob, lr: Tensor) -> float:
    clip = job.clip
    if is_own_kind(job.maker):
        maker = job.maker
    elif clip.settings.own_keyframes:
        maker = make_reference_maker(job.model.own_references, job.model.device)
    else:
        return 0.0
    factor = clip.settings.working_size[0] // clip.info.height
    size = lr.shape[-2] * factor, lr.shape[-1] * factor
    started = time.monotonic()
    maker.make(lr, size)
    return time.monotonic() - started


def _timed(job: UpscaleJob, options: UpscaleOptions, frames: Sequence[Tensor], folder: Path) -> tuple[float, int]:
    """Seconds that a run over the frames takes, and how many keyframes it had made."""
    source = folder / "piece.mkv"
    size = frames[0].shape[-2], frames[0].shape[-1]
    fps = job.clip.info.average_fps or None
    with VideoWriter(source, source=None, size=size, options=EncodeOptions(), overwrite=True, fps=fps) as writer:
        for frame in frames:
            writer.write(frame)
    places = tuple(range(0, len(frames), _SPACING))
    choice = KeyframeChoice("manual", indices=places) if job.clip.selection.indices else KeyframeChoice("none")
    own = job.clip.maker if is_own_kind(job.maker) else job.model.own_references
    small = replace(
        options,
        scale=job.clip.settings.working_size[0] / job.clip.info.height,
        height=None,
        size=None,
        start=0,
        frames=None,
        preview=None,
        compare=False,
        overwrite=True,
        keyframes=choice,
        references=own,
        stream=None,
        work=None,
        keep_work=False,
    )
    prepared = prepare(source, folder / f"piece_out{_suffix(job)}", small, job.model, silent)
    result = run(prepared)
    return result.seconds, len(prepared.clip.selection.indices)


def _suffix(job: UpscaleJob) -> str:
    return job.clip.output.suffix if output_kind(job.clip.output) == "video" else ".mkv"
