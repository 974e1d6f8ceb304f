"""The baseline without weights: every frame bicubic, keyframes ignored. For comparisons and for testing the engine."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.models.interface import ModelPlan, RestorationModel, Session, ShotRequest, check_restore_arguments


class BicubicModel(RestorationModel):
    """Bicubic interpolation (a = -0.75 as in torch), frame by frame."""

    keyframe_lookahead = 0
    is_resumable = True
    is_thread_invariant = True

    def __init__(self, device: torch.device | None = None) -> None:
        self.name = "bicubic"
        self.device = device or torch.device("cpu")
        self.dtype = torch.float32

    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002
        """The asked size: there is no fixed factor."""
        return size

    def restore(
        self,
        lr: Tensor,
        keyframes: Tensor | None = None,
        keyframe_indices: Sequence[int] = (),
        *,
        scale: float = 4.0,
        guidance_scale: float = 1.0,  # noqa: ARG002
    ) -> Tensor:
        """See ``RestorationModel.restore``; keyframes are checked, then ignored."""
        size = (round(lr.shape[-2] * scale), round(lr.shape[-1] * scale))
        check_restore_arguments(lr, keyframes, keyframe_indices, size)
        return torch.cat([self.resize(frame[None], size) for frame in lr])

    def resize(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """``(n, 3, h, w)`` to ``(n, 3, H, W)`` float32 on the CPU."""
        out = F.interpolate(lr.float().to(self.device), size=size, mode="bicubic", align_corners=False)
        return out.clamp_(0, 1).cpu()

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``."""
        return _BicubicSession(self, request.size)

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


class _BicubicSession(Session):
    def __init__(self, model: BicubicModel, size: tuple[int, int]) -> None:
        self._model, self._size = model, size

    def push(self, lr: Tensor) -> Tensor:
        return self._model.resize(lr, self._size)

    def finish(self) -> Tensor:
        return torch.empty(0, 3, *self._size)

    def export_state(self) -> dict[str, Tensor]:
        return {}

    def import_state(self, state: object, next_index: int) -> None:
        pass
