"""Models that take every frame by itself: no state, keyframes ignored."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from sparkvsr.models.interface import RestorationModel, Session, ShotRequest, check_restore_arguments


class FrameByFrameModel(RestorationModel):
    """A model that needs to say only how frames are upscaled."""

    keyframe_lookahead = 0
    is_resumable = True

    @abstractmethod
    def upscale(self, lr: Tensor, size: tuple[int, int], start: int) -> Tensor:
        """Upscale frames.

        Args:
            lr: ``(n, 3, h, w)`` float in [0, 1].
            size: ``(H, W)``.
            start: index of the first frame within its shot.

        Returns:
            ``(n, 3, H, W)`` float32 in [0, 1] on the CPU.
        """

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
        return torch.cat([self.upscale(frame[None], size, index) for index, frame in enumerate(lr)])

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``."""
        return _FrameSession(self, request.size)


class _FrameSession(Session):
    def __init__(self, model: FrameByFrameModel, size: tuple[int, int]) -> None:
        self._model, self._size, self._next = model, size, 0

    def push(self, lr: Tensor) -> Tensor:
        restored = self._model.upscale(lr, self._size, self._next)
        self._next += len(lr)
        return restored

    def finish(self) -> Tensor:
        return torch.empty(0, 3, *self._size)

    def export_state(self) -> dict[str, Tensor]:
        return {}

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:  # noqa: ARG002
        self._next = next_index
