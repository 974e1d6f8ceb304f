"""One restored frame and its ground truth, with the derived planes that several metrics share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sparkvsr.errors import MetricError
from sparkvsr.metrics import colour, temporal
from sparkvsr.metrics.colour import Image8, Plane

if TYPE_CHECKING:
    import torch


class FrameView:
    """One 8-bit frame and what is computed from it, each thing once.

    Args:
        frame: ``(H, W, 3)`` uint8 RGB.
        border: pixels that the fidelity metrics leave out on each side.
    """

    def __init__(self, frame: Image8, border: int = 0) -> None:
        if border and min(frame.shape[:2]) <= 2 * border:
            msg = f"border {border} leaves nothing of a {frame.shape[1]}x{frame.shape[0]} frame; use a smaller border"
            raise MetricError(msg)
        self.frame = frame
        self.border = border
        self.features: dict[str, Any] = {}

    @cached_property
    def inner(self) -> Image8:
        """The frame without its border, ``(H - 2b, W - 2b, 3)`` uint8 RGB."""
        return np.ascontiguousarray(colour.crop_border(self.frame, self.border))

    @cached_property
    def luma(self) -> Plane:
        """Luma of ``inner``, float32, BT.601 studio range (16 to 235), not rounded."""
        return colour.luma_bt601(self.inner)

    @cached_property
    def luma_yiq(self) -> Plane:
        """Luma of ``inner``, float32, YIQ, 0 to 255, rounded to integers."""
        return colour.luma_yiq_rounded(self.inner)

    @cached_property
    def full_luma(self) -> Plane:
        """``luma`` of the whole frame, ``(H, W)``: for metrics that leave no border out."""
        return self.luma if not self.border else colour.luma_bt601(self.frame)

    @cached_property
    def full_luma_yiq(self) -> Plane:
        """``luma_yiq`` of the whole frame, ``(H, W)``."""
        return self.luma_yiq if not self.border else colour.luma_yiq_rounded(self.frame)

    @cached_property
    def gray(self) -> Image8:
        """``(H, W)`` uint8, for optical flow."""
        return colour.gray(self.frame)

    @cached_property
    def half(self) -> Image8:
        """``(H // 2, W // 2, 3)`` uint8 RGB, at least 16 pixels a side."""
        return temporal.half_size(self.frame)

    @cached_property
    def half_gray(self) -> Image8:
        """``half`` in grey, uint8, for optical flow."""
        return colour.gray(self.half)

    @cached_property
    def tensor(self) -> torch.Tensor:
        """``(1, 3, H, W)`` float32 in [0, 1]."""
        import torch

        return torch.from_numpy(self.frame.transpose(2, 0, 1)[None].copy()).float().div_(255.0)


class FramePair:
    """A restored frame and its ground truth (None where there is none).

    Args:
        sr, gt: ``(H, W, 3)`` uint8 RGB.
        border: see ``FrameView``.

    Raises:
        MetricError: the sizes differ.
    """

    def __init__(self, sr: Image8, gt: Image8 | None, border: int = 0) -> None:
        if gt is not None and sr.shape != gt.shape:
            msg = (
                f"the restored frame is {sr.shape[1]}x{sr.shape[0]} but the ground truth is "
                f"{gt.shape[1]}x{gt.shape[0]}; sizes must agree (or pass --crop center|topleft)"
            )
            raise MetricError(msg)
        self.sr = FrameView(sr, border)
        self._gt = None if gt is None else FrameView(gt, border)

    @property
    def has_gt(self) -> bool:
        """Whether there is ground truth."""
        return self._gt is not None

    @property
    def gt(self) -> FrameView:
        """The ground truth.

        Raises:
            MetricError: there is none.
        """
        if self._gt is None:
            msg = "this metric compares with ground truth, and there is none; drop it from --metrics"
            raise MetricError(msg)
        return self._gt
