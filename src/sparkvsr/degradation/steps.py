"""What happens to a clip, drawn beforehand: plain values that any device can carry out.

A degradation draws its steps in a loader process, ``run_steps`` carries them out there on the CPU, or
``on_device.run_steps_on_device`` on the training device. Where a step needs noise it holds a seed, not the noise.

Shapes: F frames, H W pixels; clips are ``(F, 3, H, W)`` float32 in about [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.degradation.blur import apply_kernels
from sparkvsr.degradation.codec import compress_bit_rate, compress_crf
from sparkvsr.degradation.jpeg import compress_jpeg
from sparkvsr.degradation.noise import gaussian_noise, grainy_noise, poisson_noise

Interpolation = Literal["linear", "area", "cubic"]
_OPENCV = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


@dataclass(frozen=True)
class Blur:
    """Correlation with a kernel per frame, borders reflected without repeating the edge.

    Attributes:
        kernels: ``(F, k, k)`` float32, or ``(1, k, k)`` for all frames.
    """

    kernels: Tensor


@dataclass(frozen=True)
class GaussianBlur:
    """The same, separable.

    Attributes:
        sigma: in pixels.
    """

    sigma: float


@dataclass(frozen=True)
class Resize:
    """OpenCV's resize.

    Attributes:
        size: ``(H, W)`` afterwards.
        interpolation: ``area`` is exact for every factor and means bilinear where it enlarges.
    """

    size: tuple[int, int]
    interpolation: Interpolation


@dataclass(frozen=True)
class Reduce:
    """Torch's reduction to a whole part of the size.

    Attributes:
        size: ``(H, W)`` afterwards.
        mode: ``area``, or ``bicubic`` with antialiasing.
    """

    size: tuple[int, int]
    mode: Literal["area", "bicubic"]


@dataclass(frozen=True)
class GaussianNoise:
    """White noise, fresh in each frame.

    Attributes:
        sigma: in [0, 1] units.
        is_grey: the same in all channels.
        seed: of the noise.
    """

    sigma: float
    is_grey: bool
    seed: int


@dataclass(frozen=True)
class PoissonNoise:
    """Noise that grows with the light, see ``noise.poisson_noise``.

    Attributes:
        scale: factor.
        is_grey: the same in all channels.
        is_weak: on the 0 to 255 scale, 16 times weaker.
        seed: of the noise.
    """

    scale: float
    is_grey: bool
    is_weak: bool
    seed: int


@dataclass(frozen=True)
class GrainyNoise:
    """Noise whose neighbouring pixels are alike.

    Attributes:
        sigma: in [0, 1] units.
        grain: sigma in pixels of the Gaussian that correlates it; 0 for none.
        seed: of the noise.
    """

    sigma: float
    grain: float
    seed: int


@dataclass(frozen=True)
class Jpeg:
    """JPEG of every frame.

    Attributes:
        qualities: F values from 1 to 100.
        swapped: see ``compress_jpeg``.
    """

    qualities: tuple[int, ...]
    swapped: bool


@dataclass(frozen=True)
class Codec:
    """Video compression; always on the CPU.

    Attributes:
        name: encoder.
        bit_rate: bits a frame, or None.
        crf: constant quality instead, or None.
    """

    name: str
    bit_rate: int | None = None
    crf: int | None = None


@dataclass(frozen=True)
class Clamp:
    """To [0, 1]."""


@dataclass(frozen=True)
class Round:
    """To [0, 1] and 8 bit."""


Step = Blur | GaussianBlur | Resize | Reduce | GaussianNoise | PoissonNoise | GrainyNoise | Jpeg | Codec | Clamp | Round


def draw_seed(rng: np.random.Generator) -> int:
    """A seed for a step's noise."""
    return int(rng.integers(2**62))


def run_steps(clip: Tensor, steps: Sequence[Step]) -> Tensor:
    """Carry the steps out on the CPU, by OpenCV, numpy and FFmpeg.

    Args:
        clip: ``(F, 3, H, W)`` float32 in [0, 1]; not changed.
        steps: as drawn.

    Returns:
        ``(F, 3, H', W')`` float32.
    """
    for step in steps:
        clip = _run(clip, step)
    return clip


def _run(clip: Tensor, step: Step) -> Tensor:
    match step:
        case Blur(kernels):
            return apply_kernels(clip, kernels)
        case GaussianBlur(sigma):
            return _by_plane(clip, tuple(clip.shape[-2:]), lambda plane, out: _gaussian(plane, out, sigma))
        case Resize(size, interpolation):
            return _resized(clip, size, interpolation)
        case Reduce(size, mode):
            return F.interpolate(clip, size=size, mode=mode, **({} if mode == "area" else {"antialias": True}))
        case GaussianNoise(sigma, is_grey, seed):
            return clip + gaussian_noise(clip, sigma, np.random.default_rng(seed), is_grey=is_grey)
        case PoissonNoise(scale, is_grey, is_weak, seed):
            rng = np.random.default_rng(seed)
            return clip + poisson_noise(clip, scale, rng, is_grey=is_grey, is_weak=is_weak)
        case GrainyNoise(sigma, grain, seed):
            return clip + grainy_noise(clip, sigma, grain, np.random.default_rng(seed))
        case Jpeg(qualities, swapped):
            return compress_jpeg(clip, list(qualities), swapped=swapped)
        case Codec():
            return run_codec(clip, step)
        case Clamp():
            return clip.clamp(0, 1)
        case Round():
            return rounded(clip)


def run_codec(clip: Tensor, step: Codec) -> Tensor:
    """Compress a clip on the CPU as a step says."""
    if step.crf is not None:
        return compress_crf(clip, step.crf)
    assert step.bit_rate is not None  # one of both is given
    return compress_bit_rate(clip, step.name, step.bit_rate)


def rounded(clip: Tensor) -> Tensor:
    """Clamped to [0, 1] and rounded to 8 bit."""
    return clip.clamp(0, 1).mul_(255).round_().div_(255)


def _resized(clip: Tensor, size: tuple[int, int], interpolation: Interpolation) -> Tensor:
    # OpenCV's, as published: its area is exact for every factor, torch's counts whole pixels only.
    flag = _OPENCV[interpolation]

    def resize(plane: np.ndarray, out: np.ndarray) -> None:
        cv2.resize(plane, size[::-1], dst=out, interpolation=flag)

    return _by_plane(clip, size, resize)


def _gaussian(plane: np.ndarray, out: np.ndarray, sigma: float) -> None:
    cv2.GaussianBlur(plane, (0, 0), sigma, dst=out, borderType=cv2.BORDER_REFLECT_101)


def _by_plane(clip: Tensor, size: tuple[int, ...], work: Callable[[np.ndarray, np.ndarray], None]) -> Tensor:
    result = torch.empty(*clip.shape[:2], *size)
    for frame, out in zip(clip.contiguous().numpy(), result.numpy(), strict=True):
        for plane, target in zip(frame, out, strict=True):
            work(plane, target)
    return result
