"""How long a clip will take, from what this machine was measured to do.

Rates are kept in the user's cache, by model, device, threads and codec. ``inference.calibration`` measures them once;
every complete run tells how far the estimate was off, by size, which the next estimate takes into account.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
import tempfile
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch

from sparkvsr.inference.clip.job import UpscaleJob
from sparkvsr.inference.clip.own_keyframes import is_own_kind
from sparkvsr.plain_json import read_object
from sparkvsr.user_cache import user_cache

LEAST_FRAMES = 24
"""Shorter runs teach nothing: starting takes too large a part of them."""

_LATEST = 0.5
_NEAR = 3  # size classes: about 2.8 times the pixels
_MOST_FACTOR = 20.0


@dataclass(frozen=True)
class Rates:
    """What one model takes on this machine.

    Attributes:
        start: seconds that a clip takes whatever its length.
        frame: seconds for a frame, for each million of pixels that the model works at.
        keyframe: the same for an image of the model's own kind of keyframe.
        factors: by size class (``size_class``), how much longer real runs took than the rates say.
    """

    start: float
    frame: float
    keyframe: float
    factors: dict[str, float] = field(default_factory=dict)


def size_class(pixels: int) -> int:
    """A number for all sizes that lie within a factor of about 1.4 of each other."""
    return round(2 * math.log2(max(pixels, 1)))


def estimate(job: UpscaleJob, rates: Rates) -> float:
    """Seconds from the plan to the complete output."""
    return _plain_estimate(job, rates) * _factor(rates, _pixels(job))


def learned(job: UpscaleJob, rates: Rates, seconds: float) -> Rates:
    """The rates after a complete run of a job that took so many seconds; the latest runs count most."""
    if job.clip.num_frames < LEAST_FRAMES:
        return rates
    key = str(size_class(_pixels(job)))
    factor = min(max(seconds / _plain_estimate(job, rates), 1 / _MOST_FACTOR), _MOST_FACTOR)
    before = rates.factors.get(key, factor)
    return replace(rates, factors={**rates.factors, key: before + _LATEST * (factor - before)})


def kept_rates(job: UpscaleJob, folder: Path | None = None) -> Rates | None:
    """The rates that were kept for jobs like this one; None if there are none, or they cannot be read.

    Args:
        job: prepared.
        folder: where they are kept; None takes the user's cache.
    """
    try:
        content = read_object(_file(job, folder))
        factors = {str(key): float(value) for key, value in content["factors"].items()}
        rates = Rates(float(content["start"]), float(content["frame"]), float(content["keyframe"]), factors)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    numbers = [rates.start, rates.frame, rates.keyframe, *rates.factors.values()]
    return rates if all(math.isfinite(number) and number >= 0 for number in numbers) and rates.frame > 0 else None


def keep_rates(job: UpscaleJob, rates: Rates, folder: Path | None = None) -> None:
    """Keep rates for the next run; a disk that cannot take them is no reason to fail."""
    path = _file(job, folder)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w", encoding="utf-8") as file:
                json.dump(asdict(rates), file)
            Path(aside).replace(path)
        finally:
            Path(aside).unlink(missing_ok=True)


def _plain_estimate(job: UpscaleJob, rates: Rates) -> float:
    clip = job.clip
    made = clip.selection.indices if is_own_kind(job.maker) else sorted(clip.settings.own_keyframes)
    millions = _pixels(job) / 1e6
    return rates.start + millions * (clip.num_frames * rates.frame + len(made) * rates.keyframe)


def _factor(rates: Rates, pixels: int) -> float:
    """Of the size class that is nearest; those far away tell nothing."""
    wanted = size_class(pixels)
    near = [key for key in rates.factors if abs(int(key) - wanted) <= _NEAR]
    return rates.factors[min(near, key=lambda key: (abs(int(key) - wanted), key))] if near else 1.0


def _pixels(job: UpscaleJob) -> int:
    return math.prod(job.clip.settings.working_size)


def _file(job: UpscaleJob, folder: Path | None) -> Path:
    clip = job.clip
    scale = clip.settings.working_size[0] // clip.info.height
    machine = (platform.node(), platform.machine(), str(os.cpu_count()), str(torch.get_num_threads()))
    about = (job.model.fingerprint(), clip.model_device, str(scale), clip.references or "", clip.encode.codec)
    key = hashlib.sha256("\0".join([*machine, *about]).encode()).hexdigest()[:24]
    return (folder or user_cache("timing")) / f"{key}.json"
