"""The steps of a degradation on the training device, all frames of a clip at once.

Same parameters, same picture: blurs and resizes to float32 rounding, JPEG to single levels. Noise comes from the
device's own generator, so it has the same distribution and other values. Codecs run on the CPU, in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from kornia.filters import filter2d, filter2d_separable
from torch import Tensor

from sparkvsr.colour import grey as to_grey
from sparkvsr.degradation.device_jpeg import compress_jpeg_on_device
from sparkvsr.degradation.steps import (
    Blur,
    Clamp,
    Codec,
    GaussianBlur,
    GaussianNoise,
    GrainyNoise,
    Interpolation,
    Jpeg,
    PoissonNoise,
    Reduce,
    Resize,
    Round,
    Step,
    rounded,
    run_codec,
)


def run_steps_on_device(clip: Tensor, steps: Sequence[Step]) -> Tensor:
    """Carry the steps out where the clip lies.

    Args:
        clip: ``(F, 3, H, W)`` float32 in [0, 1]; not changed.
        steps: as drawn.

    Returns:
        ``(F, 3, H', W')`` float32 on the same device.
    """
    for step in steps:
        clip = _run(clip, step)
    return clip


def _run(clip: Tensor, step: Step) -> Tensor:
    match step:
        case Blur(kernels):
            return filter2d(clip, kernels.to(clip.device), border_type="reflect")
        case GaussianBlur(sigma):
            return _gaussian(clip, sigma, _opencv_size(sigma))
        case Resize(size, interpolation):
            return _resized(clip, size, interpolation)
        case Reduce(size, mode):
            return F.interpolate(clip, size=size, mode=mode, **({} if mode == "area" else {"antialias": True}))
        case GaussianNoise(sigma, is_grey, seed):
            return clip + _white(clip, seed, channels=1 if is_grey else 3) * sigma
        case PoissonNoise():
            return clip + _poisson(clip, step)
        case GrainyNoise(sigma, grain, seed):
            noise = _white(clip, seed, channels=3)
            if grain:
                noise = _gaussian(noise, grain, _opencv_size(grain))
                noise = noise / noise.std()
            return clip + noise * sigma
        case Jpeg(qualities, swapped):
            return compress_jpeg_on_device(clip, qualities, swapped=swapped)
        case Codec():
            return run_codec(clip.cpu(), step).to(clip.device)
        case Clamp():
            return clip.clamp(0, 1)
        case Round():
            return rounded(clip)


def _opencv_size(sigma: float) -> int:
    """Side of OpenCV's kernel for float images where it may choose: four sigmas on each side."""
    return round(sigma * 8 + 1) | 1


def _gaussian(clip: Tensor, sigma: float, size: int) -> Tensor:
    axis = torch.arange(size, device=clip.device) - size // 2
    kernel = torch.exp(-(axis**2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum())[None]
    return filter2d_separable(clip, kernel, kernel, border_type="reflect")


def _white(clip: Tensor, seed: int, *, channels: int) -> Tensor:
    generator = torch.Generator(clip.device).manual_seed(seed)
    return torch.randn(clip.shape[0], channels, *clip.shape[-2:], device=clip.device, generator=generator)


def _poisson(clip: Tensor, step: PoissonNoise) -> Tensor:
    """See ``noise.poisson_noise``; ``(F, 3 or 1, H, W)``."""
    unit = 255.0 if step.is_weak else 1.0
    image = to_grey(clip) if step.is_grey else clip
    levels = image.mul(255).round_().clamp_(0, 255)
    frames = torch.arange(len(clip), device=clip.device).view(-1, 1, 1, 1)
    counts = torch.bincount((levels.long() + 256 * frames).flatten(), minlength=256 * len(clip))
    distinct = (counts.view(len(clip), 256) > 0).sum(1).clamp_min(2).float()
    values = torch.exp2(distinct.log2().ceil()).view(-1, 1, 1, 1)
    mean = levels / 255 * unit
    generator = torch.Generator(clip.device).manual_seed(step.seed)
    return (torch.poisson(mean * values, generator=generator) / values - mean) * (step.scale / unit)


def _resized(clip: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    if interpolation == "area":
        (height, width), shrinks = clip.shape[-2:], all(a >= b for a, b in zip(clip.shape[-2:], size, strict=True))
        rows, columns = (
            _area_weights(old, new, shrinks).to(clip.device) for old, new in ((height, size[0]), (width, size[1]))
        )
        return rows @ (clip @ columns.T)
    return F.interpolate(clip, size=size, mode="bilinear" if interpolation == "linear" else "bicubic")


@lru_cache(maxsize=64)
def _area_weights(old: int, new: int, shrinks: bool) -> Tensor:
    """``(new, old)`` float32 weights of OpenCV's area interpolation along one axis.

    Where both axes shrink, the share of each old pixel that a new one covers; else between two neighbours, with old
    pixels as wide steps and the change between them within one new pixel.
    """
    with torch.inference_mode(False):
        if shrinks:
            scale = old / new
            start = torch.arange(new, dtype=torch.float64)[:, None] * scale
            pixel = torch.arange(old, dtype=torch.float64)[None]
            covered = torch.minimum(start + scale, pixel + 1) - torch.maximum(start, pixel)
            return (covered.clamp_min(0) / scale).float()
        weights = torch.zeros(new, old)
        growth = new / old
        for place in range(new):
            # As OpenCV divides, so that whole numbers are missed where it misses them.
            first = min(math.floor(place * (1 / growth)), old - 1)
            share = (place + 1) - (first + 1) * growth
            share = 0.0 if share <= 0 else share - math.floor(share)
            weights[place, first] += 1 - share
            weights[place, min(first + 1, old - 1)] += share
        return weights
