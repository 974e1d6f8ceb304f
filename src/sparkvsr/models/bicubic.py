"""The baseline without weights: every frame bicubic, keyframes ignored. For comparisons and for testing the engine."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.models.frame_by_frame import FrameByFrameModel
from sparkvsr.models.interface import ModelPlan


class BicubicModel(FrameByFrameModel):
    """Bicubic interpolation (a = -0.75 as in torch), frame by frame."""

    is_thread_invariant = True

    def __init__(self, device: torch.device | None = None) -> None:
        self.name = "bicubic"
        self.device = device or torch.device("cpu")
        self.dtype = torch.float32

    def upscale(self, lr: Tensor, size: tuple[int, int], start: int) -> Tensor:  # noqa: ARG002
        """See ``FrameByFrameModel.upscale``."""
        out = F.interpolate(lr.float().to(self.device), size=size, mode="bicubic", align_corners=False)
        return out.clamp_(0, 1).cpu()

    def plan(
        self,
        lr_size: tuple[int, int],  # noqa: ARG002
        size: tuple[int, int],
        num_frames: int,
        *,
        guided_passes: int,  # noqa: ARG002
        memory_bytes: int,
    ) -> ModelPlan:
        """Whole frames, as many as fit (3 float32 copies a frame)."""
        per_frame = size[0] * size[1] * 3 * 4 * 3
        chunk = max(1, min(8, num_frames, memory_bytes // per_frame))
        return ModelPlan(chunk_frames=chunk, tile=None, memory_bytes=chunk * per_frame)

    def fingerprint(self) -> str:
        """Constant: there are no weights."""
        return "bicubic-1"
