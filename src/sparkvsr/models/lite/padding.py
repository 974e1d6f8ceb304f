"""Frames that do not fit the grid that everything is computed on, continued by their border."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from sparkvsr.models.interface import Keyframe
from sparkvsr.models.lite.network import SCALE

SMALLEST_SIDE = 16
"""Pixels of the grid that a side has at least: the network's own reach."""


def padded(frames: Tensor, scale: int, factor: int = 1) -> Tensor:
    """Continue frames to the right and below, to whole pixels of the grid and to its smallest side.

    Args:
        frames: ``(n, 3, h, w)``.
        scale: HR pixels a side of an LR pixel, 4 or 2.
        factor: of these frames over the LR frames: 1, or ``scale`` for HR frames.

    Returns:
        ``(n, 3, h', w')``; the very same frames where they fit.
    """
    down, right = (_fitting(side // factor, scale) * factor - side for side in frames.shape[-2:])
    return F.pad(frames, (0, right, 0, down), mode="replicate") if down or right else frames


def padded_keyframes(keyframes: Mapping[int, Keyframe], lr_size: tuple[int, int], scale: int) -> Mapping[int, Keyframe]:
    """The same keyframes for frames that ``padded`` has continued; still made only when they are asked for."""
    fits = all(_fitting(side, scale) == side for side in lr_size)
    return keyframes if fits else _Padded(keyframes, scale)


def grid_size(lr_size: tuple[int, int], scale: int) -> tuple[int, int]:
    """Pixels of the grid for LR frames of a size ``(h, w)``."""
    unshuffle = SCALE // scale
    return _fitting(lr_size[0], scale) // unshuffle, _fitting(lr_size[1], scale) // unshuffle


def _fitting(side: int, scale: int) -> int:
    unshuffle = SCALE // scale
    return max(-(-side // unshuffle), SMALLEST_SIDE) * unshuffle


class _Padded(Mapping[int, Keyframe]):
    def __init__(self, keyframes: Mapping[int, Keyframe], scale: int) -> None:
        self._keyframes = keyframes
        self._scale = scale

    def __getitem__(self, index: int) -> Keyframe:
        given = self._keyframes[index]
        return replace(
            given,
            lr=padded(given.lr[None], self._scale)[0],
            hr=padded(given.hr[None], self._scale, self._scale)[0],
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._keyframes)

    def __len__(self) -> int:
        return len(self._keyframes)
