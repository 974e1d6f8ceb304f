"""8-bit frames and their luma, as the published protocols define them.

Knows nothing about metrics. Frames here are ``(H, W, 3)`` uint8 RGB arrays: quality is measured on what a viewer
or an encoder gets, so restored frames are rounded to 8 bit first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from sparkvsr.colour import GREY_WEIGHTS

if TYPE_CHECKING:
    from torch import Tensor

Image8 = npt.NDArray[np.uint8]
Plane = npt.NDArray[np.float32]

# BT.601 studio range (16 to 235), the coefficients of MATLAB's rgb2ycbcr that BasicSR and mmagic use.
_BT601_LIMITED = np.array([[65.481 / 255, 128.553 / 255, 24.966 / 255, 16.0]], dtype=np.float32)
# NTSC YIQ luma, full range: what pyiqa's `ssim` and `psnry` use by default.
_YIQ = np.array([[*GREY_WEIGHTS, 0.0]], dtype=np.float32)


def to_uint8(pixels: Tensor | npt.NDArray[Any]) -> Image8:
    """``(3, H, W)`` float in [0, 1] to ``(H, W, 3)`` uint8, rounded and clipped; uint8 ``(H, W, 3)`` passes through.

    Raises:
        ValueError: another shape or dtype.
    """
    array = pixels if isinstance(pixels, np.ndarray) else pixels.detach().cpu().numpy()
    if array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == 3:
        return np.ascontiguousarray(array)
    if array.ndim != 3 or array.shape[0] != 3 or array.dtype.kind != "f":
        msg = f"a frame must be float (3, H, W) in [0, 1] or uint8 (H, W, 3), got {array.dtype} {array.shape}"
        raise ValueError(msg)
    scaled = np.rint(array.astype(np.float32) * np.float32(255.0))
    return np.ascontiguousarray(np.clip(scaled, 0, 255).astype(np.uint8).transpose(1, 2, 0))


def to_pixels(image: Image8) -> Tensor:
    """``(H, W, 3)`` uint8 to ``(3, H, W)`` float32 in [0, 1]."""
    import torch

    return torch.from_numpy(image).permute(2, 0, 1).float().div_(255.0)


def luma_bt601(frame: Image8) -> Plane:
    """``(H, W, 3)`` uint8 RGB to ``(H, W)`` float32 luma, BT.601 limited range (16 to 235), not rounded."""
    return np.asarray(cv2.transform(frame.astype(np.float32), _BT601_LIMITED), dtype=np.float32)


def luma_yiq_rounded(frame: Image8) -> Plane:
    """``(H, W, 3)`` uint8 RGB to ``(H, W)`` float32 YIQ luma, 0 to 255, rounded to integers (pyiqa's default)."""
    return np.rint(np.asarray(cv2.transform(frame.astype(np.float32), _YIQ), dtype=np.float32))


def gray(frame: Image8) -> Image8:
    """``(H, W, 3)`` uint8 RGB to ``(H, W)`` uint8, for optical flow."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def crop_border(image: npt.NDArray[Any], border: int) -> npt.NDArray[Any]:
    """Drop ``border`` pixels on each side."""
    return image[border : image.shape[0] - border, border : image.shape[1] - border] if border else image
