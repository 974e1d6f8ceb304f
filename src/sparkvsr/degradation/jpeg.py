"""JPEG compression of single frames."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor


def draw_qualities(num_frames: int, quality: tuple[float, float], walk: float, rng: np.random.Generator) -> list[int]:
    """JPEG quality per frame: a random start and a bounded random walk (docs/method.md 5.3)."""
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
            weights, as in the published code (docs/method.md 5.5).

    Returns:
        ``(F, 3, H, W)`` float32 in [0, 1], 8-bit values.
    """
    # The small addition keeps values that are whole levels from falling to the level below.
    levels = clip.clamp(0, 1).mul_(255).add_(1e-3).to(torch.uint8)
    images = levels.permute(0, 2, 3, 1).contiguous().numpy()
    result = torch.empty_like(clip, memory_format=torch.contiguous_format)
    for out, image, quality in zip(result, images, qualities, strict=True):
        # OpenCV takes frames as blue, green, red: handing it red, green, blue is the published mistake.
        ordered = image if swapped else np.ascontiguousarray(image[..., ::-1])
        encoded = cv2.imencode(".jpg", ordered, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
        ordered = decoded if swapped else np.ascontiguousarray(decoded[..., ::-1])
        out.copy_(torch.from_numpy(ordered).permute(2, 0, 1))
    return result.div_(255)
