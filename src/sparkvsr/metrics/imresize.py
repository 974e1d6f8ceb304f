"""MATLAB's ``imresize`` with bicubic interpolation and antialiasing, which the published LR frames are made with.

Differs from torch's antialiased bicubic only within a few pixels of the border (MATLAB mirrors the image, torch
renormalises the kernel). Follows BasicSR's ``matlab_functions.imresize``.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.float64]


def imresize(image: npt.NDArray[np.floating], scale: float) -> Image:
    """Resize by a factor.

    Args:
        image: ``(H, W)`` or ``(H, W, C)`` float, any range; the result is not clipped.
        scale: output over input size, above 0. The output is ``ceil(H * scale)`` x ``ceil(W * scale)``.

    Returns:
        float64 of the new size.
    """
    height, width = image.shape[:2]
    rows = _weights(height, math.ceil(height * scale - 1e-9), scale)
    columns = _weights(width, math.ceil(width * scale - 1e-9), scale)
    flat = image.astype(np.float64).reshape(height, -1)
    vertical = _apply(flat, rows).reshape(-1, width, *image.shape[2:])
    horizontal = _apply(np.ascontiguousarray(vertical.swapaxes(0, 1)).reshape(width, -1), columns)
    return np.ascontiguousarray(horizontal.reshape(-1, vertical.shape[0], *image.shape[2:]).swapaxes(0, 1))


def _apply(rows: Image, taps: tuple[npt.NDArray[np.intp], Image]) -> Image:
    """Weighted sums of the rows of a ``(n, m)`` array."""
    indices, weights = taps
    result = weights[:, :1] * rows[indices[:, 0]]
    for tap in range(1, indices.shape[1]):
        result += weights[:, tap : tap + 1] * rows[indices[:, tap]]
    return np.asarray(result)


@lru_cache(maxsize=32)
def _weights(length: int, out_length: int, scale: float) -> tuple[npt.NDArray[np.intp], Image]:
    """Source indices and weights, both ``(out_length, taps)``, with the image mirrored at its edges."""
    stretch = min(scale, 1.0)
    support = 4.0 / stretch
    centres = (np.arange(out_length) + 0.5) / scale - 0.5
    first = np.floor(centres - support / 2).astype(np.intp)
    taps = math.ceil(support) + 2
    positions = first[:, None] + np.arange(taps)
    weights = stretch * _cubic(stretch * (centres[:, None] - positions))
    weights /= weights.sum(axis=1, keepdims=True)
    used = np.any(weights != 0, axis=0)
    positions, weights = positions[:, used], weights[:, used]
    period = 2 * length
    mirrored = np.mod(positions, period)
    return np.where(mirrored < length, mirrored, period - 1 - mirrored), weights


def _cubic(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Keys' kernel with a = -0.5."""
    near = np.abs(x)
    inner = 1.5 * near**3 - 2.5 * near**2 + 1
    outer = -0.5 * near**3 + 2.5 * near**2 - 4 * near + 2
    return np.asarray(np.where(near <= 1, inner, np.where(near <= 2, outer, 0.0)))
