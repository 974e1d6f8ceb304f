"""LR frames from ground truth, as the published protocols make them."""

from __future__ import annotations

import cv2
import numpy as np

from sparkvsr.errors import ConfigError
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.imresize import imresize

VERSION = "1"
_BD_KERNEL, _BD_SIGMA = 13, 1.6


def make_lr(frame: Image8, degradation: str, scale: int) -> Image8:
    """Degrade one frame.

    Args:
        frame: ``(H, W, 3)`` uint8, H and W multiples of ``scale``.
        degradation: ``bicubic`` (MATLAB's imresize, as REDS, Vid4 BI) or ``bd`` (blur and subsample, as DUF).
        scale: an integer factor.

    Returns:
        ``(H / scale, W / scale, 3)`` uint8, rounded, as if it had been stored as PNG.

    Raises:
        ConfigError: another degradation, or a size that is not a multiple of the factor.
    """
    if frame.shape[0] % scale or frame.shape[1] % scale:
        msg = f"a {frame.shape[1]}x{frame.shape[0]} frame cannot be reduced by {scale}; cut it to a multiple first"
        raise ConfigError(msg)
    if degradation == "bicubic":
        small = np.asarray(imresize(frame.astype(np.float64), 1 / scale))
    elif degradation == "bd":
        size = (_BD_KERNEL, _BD_KERNEL)
        blurred = cv2.GaussianBlur(frame.astype(np.float64), size, _BD_SIGMA, borderType=cv2.BORDER_REFLECT_101)
        small = np.asarray(blurred[::scale, ::scale], dtype=np.float64)
    else:
        msg = f"degradation {degradation!r} cannot be made; use bicubic or bd"
        raise ConfigError(msg)
    return np.ascontiguousarray(np.clip(np.rint(small), 0, 255).astype(np.uint8))
