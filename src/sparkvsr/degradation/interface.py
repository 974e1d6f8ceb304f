"""What a degradation is: HR frames in, LR frames out, the same for the same random generator.

Shapes: F frames, H W pixels; clips are ``(F, 3, H, W)`` float32 in [0, 1].
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from torch import Tensor

from sparkvsr.degradation.steps import Step, run_steps


class Degradation(Protocol):
    """Makes the LR side of a training pair.

    Attributes:
        margin: how much larger than the training crop the degraded piece should be, so that borders fall away.
        extra_frames: how many frames more than the training clip.
    """

    margin: float
    extra_frames: int

    def __call__(self, hr: Tensor, rng: np.random.Generator, *, scale: int = 4, is_image: bool = False) -> Tensor:
        """Degrade one clip.

        Args:
            hr: ``(F, 3, H, W)`` float32 in [0, 1], H and W multiples of ``scale``.
            rng: every random choice comes from it.
            scale: H over h.
            is_image: leave out what only happens to video (codecs).

        Returns:
            ``(F, 3, H / scale, W / scale)`` float32 in [0, 1].
        """


class DrawnDegradation(Degradation, Protocol):
    """A degradation that can say beforehand what it will do, so that another device may do it.

    Who derives from it writes ``draw`` alone.
    """

    def __call__(self, hr: Tensor, rng: np.random.Generator, *, scale: int = 4, is_image: bool = False) -> Tensor:
        """See ``Degradation``; here on the CPU."""
        return run_steps(hr, self.draw(len(hr), tuple(hr.shape[-2:]), rng, scale=scale, is_image=is_image))

    def draw(
        self,
        num_frames: int,
        size: tuple[int, ...],
        rng: np.random.Generator,
        *,
        scale: int = 4,
        is_image: bool = False,
    ) -> list[Step]:
        """Draw the steps for one clip; calling the object draws the same ones and carries them out.

        Args:
            num_frames: F.
            size: ``(H, W)`` of the clip, multiples of ``scale``.
            rng: every random choice comes from it, the seeds of noise included.
            scale: H over h.
            is_image: leave out what only happens to video.
        """


def can_draw(degradation: Degradation) -> bool:
    """Whether a degradation is a ``DrawnDegradation``."""
    return callable(getattr(degradation, "draw", None)) and bool(getattr(degradation, "is_drawn", True))
