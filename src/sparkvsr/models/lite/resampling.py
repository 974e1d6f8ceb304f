"""Pixels on two grids: resampling, warping and simple measurements for `lite`, pure torch and differentiable.

Tensors are NCHW with pixels in [0, 1]; flows are ``(N, 2, h, w)``, (x, y), in pixels of the image they are applied to.
"""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

SCALE = 4
"""HR pixels a side of one pixel of the grid that everything is computed on."""

BLOCK = SCALE * SCALE


def to_pixels(channels: Tensor, scale: int = SCALE) -> Tensor:
    """``(N, s * s * C, h, w)`` to ``(N, C, sh, sw)``; channels are row, column, colour, so NHWC memory stays whole."""
    n, k, h, w = channels.shape
    c = k // (scale * scale)
    x = channels.permute(0, 2, 3, 1).reshape(n, h, w, scale, scale, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h * scale, w * scale, c).permute(0, 3, 1, 2)


def to_channels(pixels: Tensor, scale: int = SCALE) -> Tensor:
    """``(N, C, sh, sw)`` to ``(N, s * s * C, h, w)``: the inverse of ``to_pixels``."""
    if scale == 1:
        return pixels
    n, c, height, width = pixels.shape
    h, w = height // scale, width // scale
    x = pixels.permute(0, 2, 3, 1).reshape(n, h, scale, w, scale, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(n, h, w, scale * scale * c).permute(0, 3, 1, 2)


@lru_cache(maxsize=32)
def _resampling_matrix(length: int, mode: str, scale: int) -> Tensor:
    """The ``(scale * length, length)`` matrix of an interpolation along one axis."""
    unit = torch.eye(length).view(1, length, length, 1).expand(1, length, length, 1)
    if mode == "bicubic":
        out = F.interpolate(unit, size=(scale * length, 1), mode="bicubic", align_corners=False)
    else:
        out = F.interpolate(unit, size=(scale * length, 1), mode="bilinear", align_corners=False)
    return out[0, :, :, 0].t().contiguous()


def upscale_by_matrix(x: Tensor, mode: str, scale: int = SCALE) -> Tensor:
    """Separable interpolation as two matrix products: on crops, and backwards, far faster than ``F.interpolate``."""
    rows = _resampling_matrix(x.shape[-2], mode, scale).to(x.device)
    columns = _resampling_matrix(x.shape[-1], mode, scale).to(x.device)
    with torch.autocast(x.device.type, enabled=False):
        return rows @ (x.float() @ columns.t())


def upscale_bicubic(lr: Tensor, scale: int = SCALE) -> Tensor:
    """Bicubic (a = -0.75), ``(N, C, h, w)`` to ``(N, C, sh, sw)``."""
    return upscale_by_matrix(lr, "bicubic", scale)


def shrink_area(hr: Tensor, scale: int = SCALE) -> Tensor:
    """Mean of square blocks."""
    return F.avg_pool2d(hr, scale) if scale > 1 else hr


def warp(image: Tensor, flow: Tensor, mode: str = "bilinear") -> Tensor:
    """``image[p + flow[p]]``, edges replicated.

    Args:
        image: ``(N, C, h, w)``; may be larger than the flow (a crop with room around it).
        flow: ``(N, 2, h', w')`` in pixels of ``image``, from the corner of the image.
        mode: ``bilinear`` or ``bicubic``.
    """
    h, w = flow.shape[-2:]
    height, width = image.shape[-2:]
    ys = torch.arange(h, device=flow.device, dtype=flow.dtype).view(1, h, 1)
    xs = torch.arange(w, device=flow.device, dtype=flow.dtype).view(1, 1, w)
    grid = torch.stack(
        [(flow[:, 0] + xs) * (2 / width) + (1 / width - 1), (flow[:, 1] + ys) * (2 / height) + (1 / height - 1)], dim=-1
    )
    return F.grid_sample(image, grid, mode=mode, padding_mode="border", align_corners=False)


def inside(flow: Tensor, size: tuple[int, int]) -> Tensor:
    """1 where the flow stays inside an image of that size, falling to 0 within one pixel, ``(N, 1, h, w)``."""
    h, w = flow.shape[-2:]
    ys = torch.arange(h, device=flow.device, dtype=flow.dtype).view(1, h, 1) + flow[:, 1]
    xs = torch.arange(w, device=flow.device, dtype=flow.dtype).view(1, 1, w) + flow[:, 0]
    room = torch.minimum(torch.minimum(xs, size[1] - 1 - xs), torch.minimum(ys, size[0] - 1 - ys))
    return (room + 1).clamp(0, 1).unsqueeze(1)


def smooth(x: Tensor) -> Tensor:
    """Mean over 5x5, edges counted without padding."""
    return F.avg_pool2d(x, 5, stride=1, padding=2, count_include_pad=False)


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma of ``(N, 3, h, w)``, ``(N, 1, h, w)``."""
    return 0.299 * rgb[:, :1] + 0.587 * rgb[:, 1:2] + 0.114 * rgb[:, 2:3]


def difference(a: Tensor, b: Tensor) -> Tensor:
    """Smoothed luma difference of two LR images, ``(N, 1, h, w)``."""
    return smooth((luma(a) - luma(b)).abs())


def content(lr: Tensor) -> Tensor:
    """Where an LR image shows something that could be lost, ``(N, 1, h, w)``: local contrast, 0 where it is flat."""
    grey = luma(lr)
    return smooth((grey - smooth(grey)).abs())


def wide_mean(x: Tensor) -> Tensor:
    """Mean over 33x33, edges continued."""
    return F.avg_pool2d(F.pad(x, (16, 16, 16, 16), mode="replicate"), 33, stride=1)


def trust(error: Tensor, width: float) -> Tensor:
    """Gaussian of an error: 1 at 0, 1/e at ``width``."""
    return torch.exp(-((error / width) ** 2))
