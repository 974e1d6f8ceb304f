"""Noise: white, grainy, and that of light (docs/method.md 5.3, 5.4)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
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
        gaussian_share: of Gaussian noise; the rest is Poisson noise.
        grey_share: that all channels get the same noise.
    """

    gaussian_sigma: tuple[float, float]
    poisson_scale: tuple[float, float]
    gaussian_share: float = 0.5
    grey_share: float = 0.4


def gaussian_noise(clip: Tensor, sigma: float, rng: np.random.Generator, *, is_grey: bool) -> Tensor:
    """White noise for a clip, fresh in each frame.

    Args:
        clip: ``(F, 3, H, W)``; only its shape counts.
        sigma: in [0, 1] units.
        rng: decides.
        is_grey: the same noise in all channels.

    Returns:
        ``(F, 3 or 1, H, W)`` float32, to be added.
    """
    shape = (clip.shape[0], 1 if is_grey else 3, *clip.shape[-2:])
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32)) * sigma


def grainy_noise(clip: Tensor, sigma: float, grain: float, rng: np.random.Generator) -> Tensor:
    """White noise, blurred by a Gaussian of ``grain`` pixels and brought back to its strength.

    Args:
        clip: ``(F, 3, H, W)``; only its shape counts.
        sigma: in [0, 1] units.
        grain: 0 leaves it white.
        rng: decides.

    Returns:
        ``(F, 3, H, W)`` float32, to be added.
    """
    noise = rng.standard_normal(tuple(clip.shape), dtype=np.float32)
    if grain:
        noise = np.stack([[cv2.GaussianBlur(plane, (0, 0), grain) for plane in frame] for frame in noise])
        noise /= noise.std()
    return torch.from_numpy(noise) * sigma


def poisson_noise(clip: Tensor, scale: float, rng: np.random.Generator, *, is_grey: bool, is_weak: bool) -> Tensor:
    """Zero-mean Poisson noise, fresh in each frame; its strength depends on how many levels a frame has.

    Args:
        clip: ``(F, 3, H, W)`` in [0, 1].
        scale: factor.
        rng: decides.
        is_grey: noise of the grey image, the same in all channels.
        is_weak: computed on the 0 to 255 scale, 16 times weaker, as the published code does (docs/method.md 5.5).

    Returns:
        ``(F, 3 or 1, H, W)`` float32, to be added.
    """
    unit = 255.0 if is_weak else 1.0
    return torch.stack([_poisson(frame, rng, unit, grey=is_grey) for frame in clip]).mul_(scale / unit)


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
