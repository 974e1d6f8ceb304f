"""What everyday footage has gone through: some blur, reduction, sensor noise, then a video codec at constant quality.

Milder than the second-order pipeline, which smears clean input if nothing else is trained on. Parameters are constant
over a clip; the noise is fresh in each frame.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkvsr.degradation.checks import as_range
from sparkvsr.degradation.interface import DrawnDegradation
from sparkvsr.degradation.steps import Codec, GaussianBlur, GrainyNoise, Reduce, Round, Step, draw_seed
from sparkvsr.errors import ConfigError

_GRAINY = 0.4
_AREA = 0.5


class RecordedDegradation(DrawnDegradation):
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
        self._blur, self._noise = as_range("blur_sigma", blur_sigma), as_range("noise_sigma", noise_sigma)
        as_range("crf", crf)
        if crf[1] > 51 or not 0 <= noise_probability <= 1 or extra_frames < 0 or margin < 1:
            msg = (
                f"degradation: crf={list(crf)} ends at 51, noise_probability={noise_probability} lies in 0 to 1, "
                f"extra_frames={extra_frames} is at least 0 and margin={margin} at least 1"
            )
            raise ConfigError(msg)
        self._noise_probability = noise_probability
        self._crf = int(crf[0]), int(crf[1])
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
        del num_frames
        steps: list[Step] = [GaussianBlur(float(rng.uniform(*self._blur)))]
        steps.append(Reduce((size[0] // scale, size[1] // scale), "area" if rng.random() < _AREA else "bicubic"))
        if rng.random() < self._noise_probability:
            sigma = float(rng.uniform(*self._noise)) / 255
            grain = float(rng.uniform(0.4, 0.9)) if rng.random() < _GRAINY else 0.0
            steps.append(GrainyNoise(sigma, grain, draw_seed(rng)))
        steps.append(Round())
        crf = int(rng.integers(self._crf[0], self._crf[1] + 1))
        return steps if is_image else [*steps, Codec("libx264", crf=crf)]
