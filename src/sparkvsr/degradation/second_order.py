"""The second-order degradation of RealBasicVSR as adapted by DOVE and SparkVSR (docs/method.md 5).

Video: blur, resize, noise, JPEG, codec, blur, resize, noise, JPEG, then codec and (resize to the final size, sinc) in
random order. Stills: the same without the codecs. Parameters are constant over a clip, so that a clip stays one clip;
only the noise itself and the JPEG quality's walk change from frame to frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from torch import Tensor

from sparkvsr.degradation.blur import BlurRange, apply_kernels, as_range, draw_kernels
from sparkvsr.degradation.codec import CODECS, compress_bit_rate
from sparkvsr.degradation.jpeg import compress_jpeg, draw_qualities
from sparkvsr.degradation.noise import NoiseRange, add_noise
from sparkvsr.errors import ConfigError

INTERPOLATIONS = (cv2.INTER_LINEAR, cv2.INTER_AREA, cv2.INTER_CUBIC)
"""Area means bilinear where it enlarges."""


@dataclass(frozen=True)
class ResizeRange:
    """What the factor of a resize is drawn from.

    Attributes:
        shares: of up, down, keep.
        up: factors.
        down: factors.
    """

    shares: tuple[float, float, float]
    up: tuple[float, float]
    down: tuple[float, float]


class SecondOrderDegradation:
    """docs/method.md 5.2 and 5.3.

    Args:
        quirks: reproduce what the published code does by accident: a kernel shape that flickers, Poisson noise 16 times
            too weak, JPEG with red and blue swapped, no final rounding to 8 bit.
        blur_sigma, blur_sigma2: of the two blurs, pixels.
        blur_probability2: of the second blur.
        noise_sigma, noise_sigma2: Gaussian, grey levels of 255.
        poisson_scale, poisson_scale2: of the Poisson noise.
        jpeg_quality: range.
        jpeg_walk: largest change from frame to frame.
        bit_rate: of the codecs, bits per frame.
        margin: crop to degrade over crop to train on (docs/method.md 5.1).
        extra_frames: more frames than trained on.

    Raises:
        ConfigError: a range is empty.
    """

    def __init__(
        self,
        *,
        quirks: bool = False,
        blur_sigma: Sequence[float] = (0.2, 3.0),
        blur_sigma2: Sequence[float] = (0.2, 1.5),
        blur_probability2: float = 0.8,
        noise_sigma: Sequence[float] = (1, 30),
        noise_sigma2: Sequence[float] = (1, 25),
        poisson_scale: Sequence[float] = (0.05, 3),
        poisson_scale2: Sequence[float] = (0.05, 2.5),
        jpeg_quality: Sequence[float] = (30, 95),
        jpeg_walk: float = 3.0,
        bit_rate: Sequence[float] = (1e4, 1e5),
        margin: float = 1.5,
        extra_frames: int = 10,
    ) -> None:
        ranges = {
            "blur_sigma": blur_sigma,
            "blur_sigma2": blur_sigma2,
            "noise_sigma": noise_sigma,
            "noise_sigma2": noise_sigma2,
            "poisson_scale": poisson_scale,
            "poisson_scale2": poisson_scale2,
            "jpeg_quality": jpeg_quality,
            "bit_rate": bit_rate,
        }
        for name, values in ranges.items():
            if len(values) != 2 or not 0 <= values[0] <= values[1]:
                msg = f"degradation.{name}={list(values)} must be two numbers, the lower one first, not negative"
                raise ConfigError(msg)
        if margin < 1 or extra_frames < 0:
            msg = (
                f"degradation.margin={margin} must be at least 1 and degradation.extra_frames={extra_frames} at least 0"
            )
            raise ConfigError(msg)
        self._quirks = quirks
        self._blurs = (
            BlurRange(1.0, as_range(blur_sigma)),
            BlurRange(blur_probability2, as_range(blur_sigma2)),
            BlurRange(0.8, types=("sinc",), shares=(1.0,)),
        )
        self._resizes = (
            ResizeRange((0.2, 0.7, 0.1), (1.0, 1.5), (0.15, 1.0)),
            ResizeRange((0.3, 0.4, 0.3), (1.0, 1.2), (0.3, 1.0)),
        )
        self._noises = (
            NoiseRange(as_range(noise_sigma), as_range(poisson_scale)),
            NoiseRange(as_range(noise_sigma2), as_range(poisson_scale2)),
        )
        self._jpeg_quality, self._jpeg_walk, self._bit_rate = as_range(jpeg_quality), jpeg_walk, as_range(bit_rate)
        self.margin, self.extra_frames = margin, extra_frames

    def __call__(self, hr: Tensor, rng: np.random.Generator, *, scale: int = 4, is_image: bool = False) -> Tensor:
        """See ``Degradation``."""
        final = (hr.shape[-2] // scale, hr.shape[-1] // scale)
        clip = hr
        for order in (0, 1):
            # Blur and resize run on 8-bit frames, except after a codec, whose output the published code keeps in float.
            is_8bit = order == 0 or is_image
            clip = self._blurred(clip, order, rng, is_8bit=is_8bit)
            clip = _resized(clip, _draw_size(clip, self._resizes[order], rng), rng, is_8bit=is_8bit)
            clip = add_noise(clip, self._noises[order], rng, weak_poisson=self._quirks)
            clip = self._jpeg(clip, rng)
            if order == 0 and not is_image:
                clip = self._codec(clip, rng)
        # After the JPEG frames are 8 bit, after a codec float again.
        if is_image:
            clip = self._finished(clip, final, rng, is_8bit=True)
        elif rng.random() < 0.5:
            clip = self._finished(self._codec(clip, rng), final, rng, is_8bit=False)
        else:
            clip = self._codec(self._finished(clip, final, rng, is_8bit=True), rng)
        clip = clip.clamp(0, 1)
        return clip if self._quirks else _rounded(clip)

    def _blurred(self, clip: Tensor, order: int, rng: np.random.Generator, *, is_8bit: bool = False) -> Tensor:
        kernels = draw_kernels(self._blurs[order], len(clip), rng, flickering_shape=self._quirks)
        if kernels is None:
            return clip
        clip = apply_kernels(clip, kernels)
        return _rounded(clip) if is_8bit else clip

    def _finished(self, clip: Tensor, size: tuple[int, int], rng: np.random.Generator, *, is_8bit: bool) -> Tensor:
        return self._blurred(_resized(clip, size, rng, is_8bit=is_8bit), 2, rng, is_8bit=is_8bit)

    def _jpeg(self, clip: Tensor, rng: np.random.Generator) -> Tensor:
        qualities = draw_qualities(len(clip), self._jpeg_quality, self._jpeg_walk, rng)
        return compress_jpeg(clip, qualities, swapped=self._quirks)

    def _codec(self, clip: Tensor, rng: np.random.Generator) -> Tensor:
        codec = CODECS[int(rng.integers(len(CODECS)))]
        return compress_bit_rate(clip, codec, int(rng.uniform(*self._bit_rate)))


def _draw_size(clip: Tensor, spec: ResizeRange, rng: np.random.Generator) -> tuple[int, int]:
    kind = int(rng.choice(3, p=np.array(spec.shares) / sum(spec.shares)))
    factor = 1.0 if kind == 2 else float(rng.uniform(*(spec.up if kind == 0 else spec.down)))
    height, width = clip.shape[-2:]
    return max(4, int(height * factor) // 2 * 2), max(4, int(width * factor) // 2 * 2)


def _resized(clip: Tensor, size: tuple[int, int], rng: np.random.Generator, *, is_8bit: bool = False) -> Tensor:
    interpolation = INTERPOLATIONS[int(rng.integers(len(INTERPOLATIONS)))]
    if tuple(clip.shape[-2:]) == size:
        return clip
    # OpenCV's, as published: its area is exact for every factor, torch's counts whole pixels only.
    resized = clip.new_empty(*clip.shape[:2], *size)
    for frame, out in zip(clip.contiguous().numpy(), resized.numpy(), strict=True):
        for plane, target in zip(frame, out, strict=True):
            cv2.resize(plane, size[::-1], dst=target, interpolation=interpolation)
    return _rounded(resized) if is_8bit else resized


def _rounded(clip: Tensor) -> Tensor:
    return clip.clamp(0, 1).mul_(255).round_().div_(255)
