"""What everyday footage has gone through: some blur, reduction, sensor noise, then a video codec at constant quality.

Milder than the second-order pipeline, which smears clean input if nothing else is trained on. Parameters are constant
over a clip; the noise is fresh in each frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.degradation.blur import as_range
from sparkvsr.degradation.codec import compress_crf
from sparkvsr.errors import ConfigError

_GRAINY = 0.4
_AREA = 0.5


class RecordedDegradation:
    """Gaussian blur, reduction (area or bicubic), coloured noise, x264.

    Args:
        blur_sigma: HR pixels.
        noise_sigma: grey levels of 255, of the noise after the reduction; some of it is grainy (correlated).
        noise_probability: that there is any noise.
        crf: lowest and highest x264 quality; stills get none of it.
        extra_frames: more frames than trained on, so that the frame trained on may be any of a group of pictures.
        margin: crop to degrade over crop to train on.

    Raises:
        ConfigError: a range is empty.
    """

    def __init__(
        self,
        *,
        blur_sigma: Sequence[float] = (0.5, 2.4),
        noise_sigma: Sequence[float] = (2, 8),
        noise_probability: float = 0.8,
        crf: Sequence[int] = (20, 33),
        extra_frames: int = 3,
        margin: float = 1.0,
    ) -> None:
        for name, values in {"blur_sigma": blur_sigma, "noise_sigma": noise_sigma, "crf": crf}.items():
            if len(values) != 2 or not 0 <= values[0] <= values[1]:
                msg = f"degradation.{name}={list(values)} must be two numbers, the lower one first, not negative"
                raise ConfigError(msg)
        if crf[1] > 51 or not 0 <= noise_probability <= 1 or extra_frames < 0 or margin < 1:
            msg = (
                f"degradation: crf={list(crf)} ends at 51, noise_probability={noise_probability} lies in 0 to 1, "
                f"extra_frames={extra_frames} is at least 0 and margin={margin} at least 1"
            )
            raise ConfigError(msg)
        self._blur, self._noise, self._noise_probability = (
            as_range(blur_sigma),
            as_range(noise_sigma),
            noise_probability,
        )
        self._crf = int(crf[0]), int(crf[1])
        self.margin, self.extra_frames = margin, extra_frames

    def __call__(self, hr: Tensor, rng: np.random.Generator, *, scale: int = 4, is_image: bool = False) -> Tensor:
        """See ``Degradation``."""
        sigma = float(rng.uniform(*self._blur))
        is_area = rng.random() < _AREA
        blurred = torch.empty_like(hr, memory_format=torch.contiguous_format)
        for frame, out in zip(hr.contiguous().numpy(), blurred.numpy(), strict=True):
            for plane, target in zip(frame, out, strict=True):
                cv2.GaussianBlur(plane, (0, 0), sigma, dst=target, borderType=cv2.BORDER_REFLECT_101)
        size = hr.shape[-2] // scale, hr.shape[-1] // scale
        mode = "area" if is_area else "bicubic"
        lr = F.interpolate(blurred, size=size, mode=mode, **({} if is_area else {"antialias": True}))
        if rng.random() < self._noise_probability:
            lr = lr + self._drawn_noise(tuple(lr.shape), rng)
        lr = lr.clamp(0, 1).mul_(255).round_().div_(255)
        crf = int(rng.integers(self._crf[0], self._crf[1] + 1))
        return lr if is_image else compress_crf(lr, crf)

    def _drawn_noise(self, shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
        sigma = float(rng.uniform(*self._noise)) / 255
        noise = rng.standard_normal(shape, dtype=np.float32)
        if rng.random() < _GRAINY:
            grain = float(rng.uniform(0.4, 0.9))
            noise = np.stack([[cv2.GaussianBlur(plane, (0, 0), grain) for plane in frame] for frame in noise])
            noise /= noise.std()
        return torch.from_numpy(noise) * sigma
