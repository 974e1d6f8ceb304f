"""An image upscaler as a restoration model: every frame by itself, for comparison."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sparkvsr.keyframes.references import ReferenceMaker
from sparkvsr.models.interface import ModelPlan, RestorationModel, Session, ShotRequest, check_restore_arguments

_COPIES = 4
"""Of an output frame, in float32, that are alive at once; what the network itself takes is not known."""


class ImageModel(RestorationModel):
    """Keyframes mean nothing to it.

    Args:
        maker: upscales a frame.
        name: for titles.
        device: where it computes.
    """

    keyframe_lookahead = 0

    def __init__(self, maker: ReferenceMaker, name: str, device: str | torch.device) -> None:
        self.name = name
        self.device = torch.device(device)
        self.dtype = torch.float32
        self._maker = maker

    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:  # noqa: ARG002
        """The asked size: the maker brings its image to it."""
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
        return self.upscale(enumerate(lr), size)

    def upscale(self, frames: Iterable[tuple[int, Tensor]], size: tuple[int, int]) -> Tensor:
        """Numbered frames ``(3, h, w)`` to ``(n, 3, H, W)`` float32 on the CPU."""
        return torch.stack([self._maker.make(frame, size, index).float().cpu() for index, frame in frames])

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``."""
        return _ImageSession(self, request.size)

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


class _ImageSession(Session):
    def __init__(self, model: ImageModel, size: tuple[int, int]) -> None:
        self._model, self._size = model, size
        self._next = 0

    def push(self, lr: Tensor) -> Tensor:
        restored = self._model.upscale(enumerate(lr, start=self._next), self._size)
        self._next += len(lr)
        return restored

    def finish(self) -> Tensor:
        return torch.empty(0, 3, *self._size)
