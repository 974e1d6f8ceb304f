"""Frames that are smaller than the network's own reach, continued by their border."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch.nn.functional as F
from torch import Tensor

from sparkvsr.models.interface import Keyframe
from sparkvsr.models.lite.network import SCALE


def padded(frames: Tensor, smallest: int, scale: int = 1) -> Tensor:
    """Continue frames to the right and below.

    Args:
        frames: ``(n, 3, h, w)``.
        smallest: least LR side; larger frames come back as they are.
        scale: of the frames over the LR frames.

    Returns:
        ``(n, 3, max(h, smallest * scale), max(w, smallest * scale))``.
    """
    h, w = frames.shape[-2:]
    down, right = max(0, smallest * scale - h), max(0, smallest * scale - w)
    return F.pad(frames, (0, right, 0, down), mode="replicate") if down or right else frames


def padded_keyframes(
    keyframes: Mapping[int, Keyframe], lr_size: tuple[int, int], smallest: int
) -> Mapping[int, Keyframe]:
    """The same keyframes for frames that ``padded`` has continued; still made only when they are asked for."""
    return keyframes if min(lr_size) >= smallest else _Padded(keyframes, smallest)


class _Padded(Mapping[int, Keyframe]):
    def __init__(self, keyframes: Mapping[int, Keyframe], smallest: int) -> None:
        self._keyframes = keyframes
        self._smallest = smallest

    def __getitem__(self, index: int) -> Keyframe:
        given = self._keyframes[index]
        return replace(
            given,
            lr=padded(given.lr[None], self._smallest)[0],
            hr=padded(given.hr[None], self._smallest, SCALE)[0],
        )

    def __iter__(self) -> Iterator[int]:
        return iter(self._keyframes)

    def __len__(self) -> int:
        return len(self._keyframes)
