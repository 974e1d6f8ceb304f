"""What a loader process hands over where the training device degrades: pixels as they were read, and what to do.

Shapes: S frames of the piece that is degraded, H W its pixels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sparkvsr.data.keyframe_images import ReferenceChange
from sparkvsr.degradation.steps import Step


@dataclass
class RawClip:
    """A piece of a clip and everything that was drawn for it.

    Attributes:
        frames: ``(S, 3, H, W)``, uint8 where nothing is lost by it, else float32 in [0, 1].
        steps: of the degradation.
        times: which of the S frames the sample has.
        window: rows and columns of the crop on the LR grid.
        scale: HR over LR size.
        changes: of the keyframes, one each; none where they stay as they are.
    """

    frames: Tensor
    steps: list[Step]
    times: list[int]
    window: tuple[slice, slice]
    scale: int
    changes: list[ReferenceChange]

    def pinned(self) -> RawClip:
        """With page-locked pixels."""
        return replace(self, frames=self.frames.pin_memory())


def stored(frames: Tensor) -> Tensor:
    """``(..., H, W)`` float32 in [0, 1] as uint8 where nothing is lost by it: a quarter of the bytes."""
    levels = frames.mul(255)
    whole = levels.round()
    return whole.to(torch.uint8) if bool((levels - whole).abs().max() < 1e-3) else frames.contiguous()


def as_float(frames: Tensor) -> Tensor:
    """What ``stored`` gave, as float32 in [0, 1]."""
    return frames.float().div_(255) if frames.dtype == torch.uint8 else frames


def enlarged(window: tuple[slice, slice], scale: int) -> tuple[slice, slice]:
    """Rows and columns on the LR grid as those of HR."""
    rows, columns = (slice(side.start * scale, side.stop * scale) for side in window)
    return rows, columns
