"""Clips with fine detail that moves, for the tests of lite."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

FRAMES = 5


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blobs, lines and fine grain with edges, float32 RGB in [0, 1]."""
    rng = np.random.default_rng(seed)
    image = np.full((height, width, 3), 0.5, np.float32)
    for _ in range(60):
        colour = rng.uniform(0.05, 0.95, 3).tolist()
        x, y = int(rng.integers(width)), int(rng.integers(height))
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), int(rng.integers(4, 24)), colour, -1, cv2.LINE_AA)
        else:
            end = (x + int(rng.integers(-60, 60)), y + int(rng.integers(-60, 60)))
            cv2.line(image, (x, y), end, colour, int(rng.integers(1, 4)), cv2.LINE_AA)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width, 1)).astype(np.float32), (0, 0), 1.0)
    return np.clip(image + 0.25 * grain[..., None], 0, 1)


def shrink(hr: Tensor) -> Tensor:
    size = (hr.shape[-2] // 4, hr.shape[-1] // 4)
    return F.interpolate(hr, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)


def panning(height: int, width: int, frames: int = FRAMES, seed: int = 0) -> tuple[Tensor, Tensor]:
    """HR and LR of a texture that moves by (3, 2) HR pixels a frame."""
    world = texture(height + 80, width + 80, seed)
    hr = np.stack([world[2 * t : 2 * t + height, 3 * t : 3 * t + width] for t in range(frames)])
    truth = torch.from_numpy(hr).permute(0, 3, 1, 2).contiguous()
    return truth, (shrink(truth) * 255).round() / 255


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


class Sharpener:
    """Stands for the detail network, which takes too long for many tests: bicubic, sharpened."""

    def upscale(self, image: Tensor) -> Tensor:
        wide = F.interpolate(image[None], scale_factor=4, mode="bicubic", align_corners=False)
        return (wide + 0.8 * (wide - F.avg_pool2d(wide, 5, 1, 2, count_include_pad=False)))[0].clamp(0, 1)
