"""Colour transfer from the LR clip: the model's output tends to be washed out (docs/method.md 8.6).

``wavelet`` gives the output the low frequencies of the upsampled LR frame and keeps its own detail; ``adain`` gives
each channel the LR frame's mean and deviation. Both work per frame on float pixels in [0, 1], not clamped in between.
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import ConfigError

ColourTransfer = Literal["none", "wavelet", "adain"]
COLOUR_TRANSFERS: tuple[str, ...] = ("none", "wavelet", "adain")
DEFAULT_COLOUR: ColourTransfer = "wavelet"
WAVELET_LEVELS = 5


def check_colour(colour: str) -> None:
    """Refuse an unknown method.

    Raises:
        ConfigError: lists what there is.
    """
    if colour not in COLOUR_TRANSFERS:
        msg = f"colour={colour!r} is unknown; use {', '.join(COLOUR_TRANSFERS)}"
        raise ConfigError(msg)


def transfer_colour(sr: Tensor, reference: Tensor, colour: str) -> Tensor:
    """Give ``sr`` the colours of ``reference``.

    Args:
        sr: ``(n, 3, H, W)`` float32 in [0, 1].
        reference: the upsampled LR frames, same shape and device.
        colour: ``none``, ``wavelet`` or ``adain``.

    Returns:
        ``(n, 3, H, W)`` in [0, 1].
    """
    check_colour(colour)
    if colour == "none":
        return sr
    if colour == "adain":
        mean, std = sr.mean((-2, -1), keepdim=True), sr.std((-2, -1), keepdim=True)
        wanted_mean, wanted_std = reference.mean((-2, -1), keepdim=True), reference.std((-2, -1), keepdim=True)
        return ((sr - mean) / std.clamp_min(1e-5) * wanted_std + wanted_mean).clamp_(0, 1)
    # The low-pass is linear, so one pass over the difference does what two passes over both images would.
    return (sr + _low_pass(reference - sr)).clamp_(0, 1)


def _low_pass(frames: Tensor) -> Tensor:
    """What is left after taking off ``WAVELET_LEVELS`` levels of detail: [1 2 1]/4 both ways, dilation 2^level."""
    kernel = frames.new_tensor([0.25, 0.5, 0.25])
    channels = frames.shape[1]
    for level in range(WAVELET_LEVELS):
        reach = 2**level
        for axis in (0, 1):
            shape = (1, 1, 3, 1) if axis == 0 else (1, 1, 1, 3)
            pad = (0, 0, reach, reach) if axis == 0 else (reach, reach, 0, 0)
            dilation = (reach, 1) if axis == 0 else (1, reach)
            weight = kernel.view(shape).expand(channels, 1, -1, -1)
            # Replication also works where the reach exceeds a tiny frame.
            frames = F.conv2d(F.pad(frames, pad, mode="replicate"), weight, dilation=dilation, groups=channels)
    return frames
