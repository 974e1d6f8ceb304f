"""A discriminator that says for every pixel whether it looks real, and the two sides' losses.

Wang et al. 2021 (Real-ESRGAN): U-Net with skip connections and spectral normalisation, binary cross-entropy with
logits.

Shapes: images ``(N, 3, H, W)``; logits ``(N, 1, H, W)``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

_SLOPE = 0.2
DISCRIMINATOR_UNIT = 8
"""Sides of what the discriminator takes are multiples of this."""


class UNetDiscriminator(nn.Module):
    """Three halvings and three doublings with skip connections.

    Args:
        features: channels at full size; 64 in Real-ESRGAN, fewer are cheaper.
    """

    def __init__(self, features: int = 64) -> None:
        super().__init__()
        f = features
        self.first = nn.Conv2d(3, f, 3, padding=1)
        self.down = nn.ModuleList([_normal(f * 2**i, f * 2 ** (i + 1), 4, stride=2) for i in range(3)])
        self.up = nn.ModuleList([_normal(f * 2 ** (i + 1), f * 2**i, 3) for i in (2, 1, 0)])
        self.smooth = nn.ModuleList([_normal(f, f, 3), _normal(f, f, 3)])
        self.last = nn.Conv2d(f, 1, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Logits, above 0 where a pixel looks real."""
        levels = [F.leaky_relu(self.first(image), _SLOPE)]
        for layer in self.down:
            levels.append(F.leaky_relu(layer(levels[-1]), _SLOPE))
        x = levels.pop()
        for layer in self.up:
            larger = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = F.leaky_relu(layer(larger), _SLOPE) + levels.pop()
        for layer in self.smooth:
            x = F.leaky_relu(layer(x), _SLOPE)
        logits: Tensor = self.last(x)
        return logits


def _normal(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Module:
    return spectral_norm(nn.Conv2d(inputs, outputs, kernel, stride, padding=1, bias=False))


def looks_real(logits: Tensor) -> Tensor:
    """Cross-entropy of logits against "real": what the generator minimises, and the discriminator on truth.

    Args:
        logits: any shape, float, unbounded: above 0 means "real".
    """
    return F.softplus(-logits.float()).mean()


def looks_fake(logits: Tensor) -> Tensor:
    """Cross-entropy of logits against "fake".

    Args:
        logits: any shape, float, unbounded.
    """
    return F.softplus(logits.float()).mean()


def artefact_map(sr: Tensor, hr: Tensor, window: int = 7) -> Tensor:
    """Where a generator's result is wrong in a restless way (Liang et al. 2022, LDL), without gradient.

    The local variance of the summed absolute error, times the fifth root of its variance over the image.

    Args:
        sr: ``(N, 3, H, W)``.
        hr: same shape.
        window: odd side of the neighbourhood.

    Returns:
        ``(N, 1, H, W)``.
    """
    with torch.no_grad():
        error = (sr.float() - hr.float()).abs().sum(1, keepdim=True)
        whole = error.var((1, 2, 3), keepdim=True).pow(0.2)
        side = window // 2
        padded = F.pad(error, (side, side, side, side), mode="reflect")
        mean = F.avg_pool2d(padded, window, stride=1)
        count = window * window
        # The sum of squared deviations around the mean, over count - 1.
        variance = (F.avg_pool2d(padded**2, window, stride=1) - mean**2).clamp_min(0) * count / (count - 1)
        return variance * whole
