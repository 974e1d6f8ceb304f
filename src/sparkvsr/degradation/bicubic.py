"""The classical protocol: antialiased bicubic, 8 bit, optionally compressed as a file would be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sparkvsr.degradation.interface import DrawnDegradation
from sparkvsr.degradation.steps import Codec, Reduce, Round, Step
from sparkvsr.errors import ConfigError


class BicubicDegradation(DrawnDegradation):
    """Antialiased bicubic downscaling with 8-bit rounding, then x264 if asked for.

    Args:
        crf: lowest and highest x264 quality, drawn per clip; None leaves the clip uncompressed.

    Raises:
        ConfigError: the range is empty or outside 0 to 51.
    """

    margin = 1.0
    extra_frames = 0

    def __init__(self, crf: Sequence[int] | None = None) -> None:
        if crf is not None and not (len(crf) == 2 and 0 <= crf[0] <= crf[1] <= 51):
            msg = f"degradation: crf={list(crf)} must be two numbers from 0 to 51, the lower one first"
            raise ConfigError(msg)
        self._crf = None if crf is None else (int(crf[0]), int(crf[1]))

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
        steps: list[Step] = [Reduce((size[0] // scale, size[1] // scale), "bicubic"), Round()]
        if self._crf is None:
            return steps
        # Drawn for stills as well, so that a still and a clip use up the same random numbers.
        crf = int(rng.integers(self._crf[0], self._crf[1] + 1))
        return steps if is_image else [*steps, Codec("libx264", crf=crf)]
