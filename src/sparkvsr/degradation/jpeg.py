"""JPEG compression of single frames."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torchvision.io import ImageReadMode, decode_jpeg, encode_jpeg


def draw_qualities(num_frames: int, quality: tuple[float, float], walk: float, rng: np.random.Generator) -> list[int]:
    """JPEG quality per frame: a random start and a bounded random walk (guide 6.3)."""
    current = float(round(rng.uniform(*quality)))
    qualities = []
    for _ in range(num_frames):
        qualities.append(round(current))
        current = float(np.clip(current + rng.uniform(-walk, walk), *quality))
    return qualities


def compress_jpeg(clip: Tensor, qualities: list[int], *, swapped: bool) -> Tensor:
    """Compress and decompress each frame.

    Args:
        clip: ``(F, 3, H, W)``; clipped to [0, 1] and cut down to 8 bit first, as the published code does.
        qualities: F values from 1 to 100.
        swapped: let the encoder take red for blue: colours survive, but luma and chroma are computed with the wrong
            weights, as in the published code (guide 6.5).

    Returns:
        ``(F, 3, H, W)`` float32 in [0, 1], 8-bit values.
    """
    # The small addition keeps values that are whole levels from falling to the level below.
    levels = clip.clamp(0, 1).mul(255).add(1e-3).to(torch.uint8)
    if swapped:
        levels = levels.flip(1)
    frames = [
        decode_jpeg(encode_jpeg(frame.contiguous(), quality), mode=ImageReadMode.RGB)
        for frame, quality in zip(levels, qualities, strict=True)
    ]
    result = torch.stack(frames)
    return (result.flip(1) if swapped else result).float().div(255)
