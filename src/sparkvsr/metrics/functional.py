"""Metrics as plain functions on float frames, for use in code.

Shapes: ``(3, H, W)`` float in [0, 1], torch tensors or numpy arrays. Frames are rounded to 8 bit first, because
that is what published numbers are measured on.
"""

from __future__ import annotations

from typing import Any

from sparkvsr.metrics import colour, fidelity

Pixels = Any


def psnr(sr: Pixels, hr: Pixels, *, border: int = 0) -> float:
    """PSNR over RGB in dB, capped at 100 for identical frames.

    Args:
        sr, hr: see the module.
        border: pixels left out on each side.

    Raises:
        MetricError: the sizes differ.
    """
    return fidelity.psnr(_prepare(sr, border), _prepare(hr, border))[0]


def psnr_y(sr: Pixels, hr: Pixels, *, border: int = 0) -> float:
    """PSNR in dB over luma (BT.601 limited range, not rounded), as BasicSR and mmagic give it."""
    return fidelity.psnr(colour.luma_bt601(_prepare(sr, border)), colour.luma_bt601(_prepare(hr, border)))[0]


def ssim(sr: Pixels, hr: Pixels, *, border: int = 0) -> float:
    """SSIM, the mean over RGB (Gaussian window 11, sigma 1.5, valid region)."""
    return fidelity.ssim(_prepare(sr, border), _prepare(hr, border))


def ssim_y(sr: Pixels, hr: Pixels, *, border: int = 0) -> float:
    """SSIM over luma (BT.601 limited range, not rounded)."""
    return fidelity.ssim(colour.luma_bt601(_prepare(sr, border)), colour.luma_bt601(_prepare(hr, border)))


def _prepare(pixels: Pixels, border: int) -> colour.Image8:
    import numpy as np

    return np.ascontiguousarray(colour.crop_border(colour.to_uint8(pixels), border))
