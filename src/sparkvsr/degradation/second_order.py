"""The second-order degradation of RealBasicVSR as adapted by DOVE and SparkVSR (docs/method.md 5).

Video: blur, resize, noise, JPEG, codec, blur, resize, noise, JPEG, then codec and (resize to the final size, sinc) in
random order. Stills: the same without the codecs. Parameters are constant over a clip, so that a clip stays one clip;
only the noise itself and the JPEG quality's walk change from frame to frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sparkvsr.degradation.blur import KERNEL_SHARES, KERNEL_SIZES, BlurRange, draw_kernels, draw_name
from sparkvsr.degradation.checks import as_numbers, as_range, as_shares, check_share
from sparkvsr.degradation.codec import CODECS
from sparkvsr.degradation.interface import DrawnDegradation
from sparkvsr.degradation.jpeg import draw_qualities
from sparkvsr.degradation.noise import NoiseRange
from sparkvsr.degradation.steps import (
    Blur,
    Clamp,
    Codec,
    GaussianNoise,
    Jpeg,
    PoissonNoise,
    Resize,
    Round,
    Step,
    draw_seed,
)
from sparkvsr.errors import ConfigError

INTERPOLATIONS = ("linear", "area", "cubic")
_RESIZES = ("up", "down", "keep")


@dataclass(frozen=True)
class ResizeRange:
    """What the factor of a resize is drawn from.

    Attributes:
        shares: of up, down, keep.
        up: factors.
        down: factors.
    """

    shares: Mapping[str, float]
    up: tuple[float, float]
    down: tuple[float, float]


class SecondOrderDegradation(DrawnDegradation):
    """docs/method.md 5.2 and 5.3; the defaults are the published numbers.

    A name that ends in 2 is of the second round, one that ends in ``_final`` of the last filter. Ranges are two
    numbers, shares a number per name (they need not sum to 1).

    Args:
        quirks: reproduce what the published code does by accident: a kernel shape that flickers, Poisson noise 16 times
            too weak, JPEG with red and blue swapped, no final rounding to 8 bit.
        blur_probability, blur_probability2, blur_probability_final: that there is a blur.
        blur_sigma, blur_sigma2: pixels.
        kernel_sizes: odd, equally probable.
        kernel_shares, kernel_shares2: of the kernel types, see ``KERNEL_SHARES``.
        rotation: of elongated kernels, degrees.
        beta_generalized, beta_plateau: shapes of these kernels.
        sinc_cutoff, sinc_cutoff_small, sinc_cutoff_final: cut-off in parts of pi; ``small`` for kernels smaller than
            ``sinc_small_size``.
        sinc_small_size: see there.
        resize_shares, resize_shares2: of ``up``, ``down``, ``keep``.
        resize_up, resize_up2, resize_down, resize_down2: factors.
        interpolations: shares of ``linear``, ``area``, ``cubic``.
        noise_sigma, noise_sigma2: Gaussian, grey levels of 255.
        poisson_scale, poisson_scale2: of the Poisson noise.
        gaussian_share, gaussian_share2: of Gaussian noise, the rest is Poisson noise.
        grey_share, grey_share2: of noise that is the same in all channels.
        jpeg_quality: range.
        jpeg_walk: largest change from frame to frame.
        codec_shares: of ``libx264``, ``h264``, ``mpeg4``.
        bit_rate: of the codecs, bits per frame.
        codec_first_share: of clips whose second codec comes before the final resize, not after it.
        margin: crop to degrade over crop to train on (docs/method.md 5.1).
        extra_frames: more frames than trained on.

    Raises:
        ConfigError: a range is empty, or a name is unknown.
    """

    def __init__(
        self,
        *,
        quirks: bool = False,
        blur_probability: float = 1.0,
        blur_probability2: float = 0.8,
        blur_probability_final: float = 0.8,
        blur_sigma: Sequence[float] = (0.2, 3.0),
        blur_sigma2: Sequence[float] = (0.2, 1.5),
        kernel_sizes: Sequence[int] = KERNEL_SIZES,
        kernel_shares: Mapping[str, float] = KERNEL_SHARES,
        kernel_shares2: Mapping[str, float] = KERNEL_SHARES,
        rotation: Sequence[float] = (-180, 180),
        beta_generalized: Sequence[float] = (0.5, 4),
        beta_plateau: Sequence[float] = (1, 2),
        sinc_cutoff: Sequence[float] = (1 / 5, 1),
        sinc_cutoff_small: Sequence[float] = (1 / 3, 1),
        sinc_cutoff_final: Sequence[float] = (1 / 3, 1),
        sinc_small_size: int = 13,
        resize_shares: Mapping[str, float] | None = None,
        resize_shares2: Mapping[str, float] | None = None,
        resize_up: Sequence[float] = (1, 1.5),
        resize_up2: Sequence[float] = (1, 1.2),
        resize_down: Sequence[float] = (0.15, 1),
        resize_down2: Sequence[float] = (0.3, 1),
        interpolations: Mapping[str, float] | None = None,
        noise_sigma: Sequence[float] = (1, 30),
        noise_sigma2: Sequence[float] = (1, 25),
        poisson_scale: Sequence[float] = (0.05, 3),
        poisson_scale2: Sequence[float] = (0.05, 2.5),
        gaussian_share: float = 0.5,
        gaussian_share2: float = 0.5,
        grey_share: float = 0.4,
        grey_share2: float = 0.4,
        jpeg_quality: Sequence[float] = (30, 95),
        jpeg_walk: float = 3.0,
        codec_shares: Mapping[str, float] | None = None,
        bit_rate: Sequence[float] = (1e4, 1e5),
        codec_first_share: float = 0.5,
        margin: float = 1.5,
        extra_frames: int = 10,
    ) -> None:
        if margin < 1 or extra_frames < 0:
            msg = (
                f"degradation.margin={margin} must be at least 1 and degradation.extra_frames={extra_frames} at least 0"
            )
            raise ConfigError(msg)
        sizes = tuple(int(size) for size in kernel_sizes)
        if not sizes or any(size < 3 or size % 2 == 0 for size in sizes):
            msg = f"degradation.kernel_sizes={list(kernel_sizes)} must be odd numbers from 3"
            raise ConfigError(msg)
        self._quirks = quirks
        shape: dict[str, Any] = {
            "sizes": sizes,
            "rotation": _times(as_numbers("rotation", rotation), math.pi / 180),
            "beta_generalized": as_range("beta_generalized", beta_generalized),
            "beta_plateau": as_range("beta_plateau", beta_plateau),
            "sinc_cutoff": _times(as_range("sinc_cutoff", sinc_cutoff), math.pi),
            "sinc_cutoff_small": _times(as_range("sinc_cutoff_small", sinc_cutoff_small), math.pi),
            "sinc_small_size": sinc_small_size,
        }
        final = _times(as_range("sinc_cutoff_final", sinc_cutoff_final), math.pi)
        self._blurs = (
            BlurRange(
                check_share("blur_probability", blur_probability),
                as_range("blur_sigma", blur_sigma),
                as_shares("kernel_shares", kernel_shares, tuple(KERNEL_SHARES)),
                **shape,
            ),
            BlurRange(
                check_share("blur_probability2", blur_probability2),
                as_range("blur_sigma2", blur_sigma2),
                as_shares("kernel_shares2", kernel_shares2, tuple(KERNEL_SHARES)),
                **shape,
            ),
            BlurRange(
                check_share("blur_probability_final", blur_probability_final),
                shares={"sinc": 1.0},
                sizes=sizes,
                sinc_cutoff=final,
                sinc_cutoff_small=final,
            ),
        )
        self._resizes = tuple(
            ResizeRange(as_shares(f"resize_shares{end}", shares, _RESIZES), as_range(f"resize_up{end}", up), down)
            for end, shares, up, down in (
                ("", resize_shares or _named(_RESIZES, 0.2, 0.7, 0.1), resize_up, as_range("resize_down", resize_down)),
                (
                    "2",
                    resize_shares2 or _named(_RESIZES, 0.3, 0.4, 0.3),
                    resize_up2,
                    as_range("resize_down2", resize_down2),
                ),
            )
        )
        self._interpolations = as_shares(
            "interpolations", interpolations or _named(INTERPOLATIONS, 1, 1, 1), INTERPOLATIONS
        )
        self._noises = tuple(
            NoiseRange(
                as_range(f"noise_sigma{end}", sigma),
                as_range(f"poisson_scale{end}", scale),
                check_share(f"gaussian_share{end}", gaussian),
                check_share(f"grey_share{end}", grey),
            )
            for end, sigma, scale, gaussian, grey in (
                ("", noise_sigma, poisson_scale, gaussian_share, grey_share),
                ("2", noise_sigma2, poisson_scale2, gaussian_share2, grey_share2),
            )
        )
        self._jpeg_quality, self._jpeg_walk = as_range("jpeg_quality", jpeg_quality), jpeg_walk
        self._codecs = as_shares("codec_shares", codec_shares or _named(CODECS, 1, 1, 1), CODECS)
        self._bit_rate = as_range("bit_rate", bit_rate)
        self._codec_first = check_share("codec_first_share", codec_first_share)
        self.margin, self.extra_frames = margin, extra_frames

    def draw(
        self,
        num_frames: int,
        size: tuple[int, ...],
        rng: np.random.Generator,
        *,
        scale: int = 4,
        is_image: bool = False,
    ) -> list[Step]:
        """See ``DrawnDegradation``."""
        steps: list[Step] = []
        present = (size[0], size[1])
        final = (size[0] // scale, size[1] // scale)
        for order in (0, 1):
            # Blur and resize run on 8-bit frames, except after a codec, whose output the published code keeps in float.
            is_8bit = order == 0 or is_image
            steps += self._blur(order, num_frames, rng, is_8bit=is_8bit)
            target = self._draw_size(present, self._resizes[order], rng)
            steps += self._resize(present, target, rng, is_8bit=is_8bit)
            present = target
            steps.append(self._noise(order, rng))
            steps.append(self._jpeg(num_frames, rng))
            if order == 0 and not is_image:
                steps.append(self._codec(rng))
        codec_first = not is_image and rng.random() < self._codec_first
        if codec_first:
            steps.append(self._codec(rng))
        # What comes straight out of JPEG is 8 bit and stays so.
        is_8bit = not codec_first
        steps += self._resize(present, final, rng, is_8bit=is_8bit)
        steps += self._blur(2, num_frames, rng, is_8bit=is_8bit)
        if not is_image and not codec_first:
            steps.append(self._codec(rng))
        steps.append(Clamp() if self._quirks else Round())
        return steps

    def _blur(self, order: int, num_frames: int, rng: np.random.Generator, *, is_8bit: bool) -> list[Step]:
        kernels = draw_kernels(self._blurs[order], num_frames, rng, flickering_shape=self._quirks)
        if kernels is None:
            return []
        return [Blur(kernels), Round()] if is_8bit else [Blur(kernels)]

    def _resize(
        self, present: tuple[int, int], target: tuple[int, int], rng: np.random.Generator, *, is_8bit: bool
    ) -> list[Step]:
        interpolation: Any = draw_name(self._interpolations, rng)
        if present == target:
            return []
        return [Resize(target, interpolation), Round()] if is_8bit else [Resize(target, interpolation)]

    def _noise(self, order: int, rng: np.random.Generator) -> Step:
        spec = self._noises[order]
        is_gaussian, is_grey = rng.random() < spec.gaussian_share, rng.random() < spec.grey_share
        if is_gaussian:
            return GaussianNoise(float(rng.uniform(*spec.gaussian_sigma)) / 255, is_grey, draw_seed(rng))
        return PoissonNoise(float(rng.uniform(*spec.poisson_scale)), is_grey, self._quirks, draw_seed(rng))

    def _jpeg(self, num_frames: int, rng: np.random.Generator) -> Step:
        qualities = draw_qualities(num_frames, self._jpeg_quality, self._jpeg_walk, rng)
        return Jpeg(tuple(qualities), self._quirks)

    def _codec(self, rng: np.random.Generator) -> Step:
        name = draw_name(self._codecs, rng)
        return Codec(name, bit_rate=int(rng.uniform(*self._bit_rate)))

    @staticmethod
    def _draw_size(present: tuple[int, int], spec: ResizeRange, rng: np.random.Generator) -> tuple[int, int]:
        kind = draw_name(spec.shares, rng)
        factor = 1.0 if kind == "keep" else float(rng.uniform(*(spec.up if kind == "up" else spec.down)))
        return max(4, int(present[0] * factor) // 2 * 2), max(4, int(present[1] * factor) // 2 * 2)


def _named(names: Sequence[str], *shares: float) -> dict[str, float]:
    return dict(zip(names, shares, strict=True))


def _times(values: tuple[float, float], factor: float) -> tuple[float, float]:
    return values[0] * factor, values[1] * factor
