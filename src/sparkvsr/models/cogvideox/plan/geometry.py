"""Sizes: upsampling to the output, padding to what the network needs, and back.

The network needs output sides that are multiples of 16 (8 for the autoencoder, 2 for patches). The published code
pads the LR clip with black, by the wrong multiple for some scales (docs/method.md 8.5); here the upsampled clip is
padded by replication and the result is cropped.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

SIDE_MULTIPLE = 16


def padded_size(size: tuple[int, int]) -> tuple[int, int]:
    """Both sides rounded up to 16."""
    return (-(-size[0] // SIDE_MULTIPLE) * SIDE_MULTIPLE, -(-size[1] // SIDE_MULTIPLE) * SIDE_MULTIPLE)


def upsample(lr: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, as the weights were trained (docs/method.md 3.1): ``(n, 3, h, w)`` to ``(n, 3, H, W)`` float32."""
    if tuple(lr.shape[-2:]) == tuple(size):
        return lr.float()
    return F.interpolate(lr.float(), size=size, mode="bilinear", align_corners=False)


def pad_to_network(frames: Tensor) -> Tensor:
    """Replicate the right and bottom edge of ``(n, 3, H, W)``, of any range, until both sides are 16k."""
    height, width = padded_size((frames.shape[-2], frames.shape[-1]))
    bottom, right = height - frames.shape[-2], width - frames.shape[-1]
    return F.pad(frames, (0, right, 0, bottom), mode="replicate") if bottom or right else frames
