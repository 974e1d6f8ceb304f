"""An LR frame as it is and as the propagator looks at it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from sparkvsr.models.lite.cpu_kernels import to_numpy
from sparkvsr.models.lite.motion import Grey, doubled_grey, grey_of
from sparkvsr.models.lite.resampling import content, shrink_area


@dataclass(frozen=True)
class LrFrame:
    """An LR frame as it is and as it is looked at.

    Attributes:
        fine: ``(1, 3, uh, uw)``, the true LR frame.
        lr: ``(1, 3, h, w)``, on the grid; at x4 the same.
        grey: ``(h, w)``.
    """

    fine: Tensor
    lr: Tensor
    grey: Grey

    @cached_property
    def twice(self) -> Grey:
        """``(2h, 2w)``, grey of the true LR frame, or of ``lr`` doubled; made when asked for: not all need it."""
        return doubled_grey(self.grey) if self.fine is self.lr else grey_levels(self.fine)

    @cached_property
    def contrast(self) -> Tensor:
        """``(1, 1, h, w)``, energy of what ``lr`` shows beyond its plain areas; asked for once for each keyframe."""
        return content(self.lr).square()

    @classmethod
    def of(cls, fine: Tensor, unshuffle: int) -> LrFrame:
        """Of a true LR frame ``(1, 3, uh, uw)``, with u from ``PropagatorConfig.unshuffle``."""
        fine = fine.contiguous(memory_format=torch.channels_last)
        if unshuffle == 1:
            return cls(fine, fine, grey_levels(fine))
        lr = shrink_area(fine, unshuffle)
        return cls(fine, lr, grey_levels(lr))


def grey_levels(lr: Tensor) -> Grey:
    """``(1, 3, h, w)`` in [0, 1] to uint8 grey ``(h, w)``."""
    rgb = np.ascontiguousarray(to_numpy((lr * 255).round().clamp(0, 255)).astype(np.uint8))
    return grey_of(rgb)
