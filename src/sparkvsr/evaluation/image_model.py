"""An image upscaler as a restoration model: every frame by itself, for comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from sparkvsr.keyframes.references import ReferenceMaker
from sparkvsr.models.frame_by_frame import FrameByFrameModel
from sparkvsr.models.interface import ModelPlan

_COPIES = 4
"""Of an output frame, in float32, that are alive at once; what the network itself takes is not known."""


class ImageModel(FrameByFrameModel):
    """Keyframes mean nothing to it.

    Args:
        maker: upscales a frame.
        name: for titles.
        device: where it computes.
    """

    def __init__(self, maker: ReferenceMaker, name: str, device: str | torch.device) -> None:
        self.name = name
        self.device = torch.device(device)
        self.dtype = torch.float32
        self._maker = maker

    def upscale(self, lr: Tensor, size: tuple[int, int], start: int) -> Tensor:
        """See ``FrameByFrameModel.upscale``."""
        frames = enumerate(lr, start)
        return torch.stack([self._maker.make(frame, size, index).float().cpu() for index, frame in frames])

    def plan(
        self,
        lr_size: tuple[int, int],  # noqa: ARG002
        size: tuple[int, int],
        num_frames: int,  # noqa: ARG002
        *,
        guided_passes: int,  # noqa: ARG002
        memory_bytes: int,  # noqa: ARG002
    ) -> ModelPlan:
        """One whole frame at a time."""
        return ModelPlan(chunk_frames=1, tile=None, memory_bytes=_COPIES * size[0] * size[1] * 3 * 4)

    def fingerprint(self) -> str:
        """The maker's."""
        return self._maker.identity(0)
