"""A session of `lite`: every pushed frame comes straight back."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sparkvsr.models.interface import Session
from sparkvsr.models.lite.padding import padded
from sparkvsr.models.lite.propagate import ShotPropagator


class LiteSession(Session):
    """Restores one shot. Nothing is held back: frames ahead are only seen through their keyframes.

    Args:
        propagator: at the start of the shot.
        lr_size: ``(h, w)`` that frames must have.
        scale: of the propagator, HR over LR pixels.
    """

    def __init__(self, propagator: ShotPropagator, lr_size: tuple[int, int], scale: int) -> None:
        self._propagator = propagator
        self._lr_size = lr_size
        self._scale = scale

    def push(self, lr: Tensor) -> Tensor:
        """See ``Session.push``; as many frames come back as were pushed.

        Raises:
            ValueError: ``lr`` is not ``(n, 3, h, w)`` of the shot's size.
        """
        if lr.ndim != 4 or tuple(lr.shape[1:]) != (3, *self._lr_size):
            msg = f"`lr` must be (n, 3, {self._lr_size[0]}, {self._lr_size[1]}), got {tuple(lr.shape)}"
            raise ValueError(msg)
        # Filled frame by frame: stacking a list would hold every frame twice for a moment.
        height, width = (side * self._scale for side in self._lr_size)
        restored = torch.empty(lr.shape[0], 3, height, width)
        for target, frame in zip(restored, self._propagator.run(padded(lr, self._scale)), strict=True):
            target.copy_(frame[:, :height, :width])
        return restored

    def finish(self) -> Tensor:
        """Nothing is held back."""
        height, width = (side * self._scale for side in self._lr_size)
        return torch.zeros(0, 3, height, width)

    @property
    def keyframe_shares(self) -> list[float]:
        """See ``Session.keyframe_shares``."""
        return self._propagator.keyframe_shares

    def export_state(self) -> dict[str, Tensor]:
        """See ``Session.export_state``."""
        return self._propagator.export_state()

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:
        """See ``Session.import_state``."""
        self._propagator.import_state(state, next_index)
