"""The keyframe upscaler of `lite`, for single images, and the block that it is made of. Pure torch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparkvsr.models.lite.resampling import SCALE, to_pixels, upscale_bicubic


@dataclass(frozen=True)
class UpscalerConfig:
    """Sizes of the keyframe upscaler; ``scale`` is its factor."""

    channels: int = 64
    blocks: int = 10
    scale: int = SCALE


def zero(layer: nn.Conv2d, outputs: int | None = None) -> None:
    """Zero the first outputs of a layer, and its whole bias."""
    with torch.no_grad():
        layer.weight[:outputs].zero_()
        if layer.bias is not None:
            layer.bias.zero_()


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions around a leaky ReLU, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.act = nn.LeakyReLU(0.1, inplace=True)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``(N, C, h, w)`` to the same shape."""
        return x + self.second(self.act(self.first(x)))


class KeyframeUpscalerNet(nn.Module):
    """Single image: bicubic plus a learned residual, everything on the true LR grid until the last pixel shuffle."""

    def __init__(self, config: UpscalerConfig | None = None) -> None:
        super().__init__()
        self.config = config or UpscalerConfig()
        c = self.config.channels
        self.head = nn.Conv2d(3, c, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(c) for _ in range(self.config.blocks)])
        self.fuse = nn.Conv2d(c, c, 3, padding=1)
        self.tail = nn.Conv2d(c, 3 * self.config.scale**2, 3, padding=1)
        zero(self.tail)

    @property
    def margin(self) -> int:
        """LR pixels around a tile that can influence it."""
        return 2 * self.config.blocks + 3

    def residual(self, lr: Tensor) -> Tensor:
        """``(N, 3, h, w)`` in [0, 1] to the residual over bicubic on the LR grid, ``(N, 3 * scale * scale, h, w)``."""
        start = self.head(lr - 0.5)
        return self.tail(self.fuse(self.body(start)) + start)

    def forward(self, lr: Tensor) -> Tensor:
        """``(N, 3, h, w)`` in [0, 1] to ``(N, 3, scale * h, scale * w)``, not clamped."""
        scale = self.config.scale
        return upscale_bicubic(lr, scale) + to_pixels(self.residual(lr), scale)
