"""Noise of the second-order pipeline (docs/method.md 5.3, 5.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sparkvsr.colour import grey as to_grey


@dataclass(frozen=True)
class NoiseRange:
    """What noise parameters are drawn from.

    Attributes:
        gaussian_sigma: in grey levels of 255.
        poisson_scale: factor of the Poisson noise.
        grey_probability: that all channels get the same noise.
    """

    gaussian_sigma: tuple[float, float]
    poisson_scale: tuple[float, float]
    grey_probability: float = 0.4


def add_noise(clip: Tensor, spec: NoiseRange, rng: np.random.Generator, *, weak_poisson: bool) -> Tensor:
    """Gaussian or Poisson noise, its strength constant over the clip, the noise itself fresh in each frame.

    Args:
        clip: ``(F, 3, H, W)`` in [0, 1]; the result may leave that range.
        spec: ranges.
        rng: decides.
        weak_poisson: Poisson noise on the 0 to 255 scale, 16 times weaker, as the published code (docs/method.md 5.5).
    """
    is_gaussian, is_grey = rng.random() < 0.5, rng.random() < spec.grey_probability
    if is_gaussian:
        sigma = float(rng.uniform(*spec.gaussian_sigma)) / 255
        shape = (clip.shape[0], 1 if is_grey else 3, *clip.shape[-2:])
        return clip + torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) * sigma
    scale = float(rng.uniform(*spec.poisson_scale))
    unit = 255.0 if weak_poisson else 1.0
    noisy = clip.clone(memory_format=torch.contiguous_format)
    for frame, out in zip(clip, noisy, strict=True):
        out.add_(_poisson(frame, rng, unit, grey=is_grey), alpha=scale / unit)
    return noisy


def _poisson(frame: Tensor, rng: np.random.Generator, unit: float, *, grey: bool) -> Tensor:
    """Zero-mean Poisson noise of one frame on the scale 0 to ``unit``, ``(3 or 1, H, W)``."""
    image = frame
    if grey:
        image = to_grey(frame)
    levels = image.mul(255).round().clamp(0, 255)
    # Counting the levels is 30 times faster than sorting the pixels, which torch.unique does.
    distinct = int(np.count_nonzero(np.bincount(levels.to(torch.uint8).numpy().ravel(), minlength=256)))
    values = 2.0 ** math.ceil(math.log2(max(distinct, 2)))
    mean = (levels / 255 * unit).numpy().astype(np.float64)
    drawn = rng.poisson(mean * values) / values
    return torch.from_numpy((drawn - mean).astype(np.float32))
