"""LPIPS v0.1 (Zhang et al. 2018) and DISTS (Ding et al. 2020) over given backbone weights, frozen, with gradient.

The one home of these networks: losses call them with gradient, metrics (``metrics/perceptual.py``) under inference
mode. Own code, because the libraries that have both either download their backbones themselves without asking (lpips,
torchmetrics; torchmetrics' DISTS also re-reads VGG16 for every frame) or forbid commercial use (pyiqa). Checked
against torchmetrics in the tests, value and gradient.

Shapes: images ``(N, 3, H, W)`` float in [0, 1]; distances ``(N,)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparkvsr.errors import MetricError
from sparkvsr.pretrained.loading import convolutions, linear_heads, state_dict
from sparkvsr.pretrained.weights import FoundWeights

MIN_SIDE = 32
"""Smallest side LPIPS takes, in pixels."""

Convolutions = Sequence[tuple[Tensor, Tensor]]
Require = Callable[[str], FoundWeights]
"""Name of a weight set to its file; raises MetricError where it is missing."""

_VGG_STAGES = (2, 2, 3, 3, 3)
_ALEXNET_STRIDES_AND_PADDING = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
_DISTS_CHANNELS = (3, 64, 128, 256, 512, 512)
_BACKBONES = {"alex": "alexnet", "vgg": "vgg16"}


class PerceptualDistance(nn.Module):
    """A frozen backbone and a way to compare its feature maps.

    Args:
        layers: pairs of weight and bias of the backbone's convolutions.
    """

    def __init__(self, layers: Convolutions) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(weight, requires_grad=False) for weight, _ in layers])
        self.biases = nn.ParameterList([nn.Parameter(bias, requires_grad=False) for _, bias in layers])

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of ``(N, 3, H, W)`` in [0, 1]."""
        raise NotImplementedError

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """Distance ``(N,)`` of two sets of feature maps."""
        raise NotImplementedError

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Distance ``(N,)``; features of ``sr`` are computed again in the backward pass instead of being kept."""
        with torch.no_grad():
            target = self.features(hr)
        if not sr.requires_grad:
            return self.compare(self.features(sr), target)
        result: Any = checkpoint(lambda x: self.compare(self.features(x), target), sr, use_reentrant=False)
        return result

    def _vgg16(self, x: Tensor, pool: Callable[[Tensor], Tensor]) -> list[Tensor]:
        maps, layer = [], 0
        for stage, count in enumerate(_VGG_STAGES):
            if stage:
                x = pool(x)
            for _ in range(count):
                x = F.conv2d(x, self.weights[layer], self.biases[layer], padding=1)
                x = F.relu(x, inplace=not x.requires_grad)
                layer += 1
            maps.append(x)
        return maps

    def _alexnet(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, (stride, padding) in enumerate(_ALEXNET_STRIDES_AND_PADDING):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, self.weights[index], self.biases[index], stride=stride, padding=padding))
            maps.append(x)
        return maps


class Dists(PerceptualDistance):
    """Deep image structure and texture similarity, as a distance.

    Args:
        layers: VGG16's 13 pairs of weight and bias.
        alpha, beta: ``(1, 1475, 1, 1)``, texture and structure weights.
    """

    def __init__(self, layers: Convolutions, alpha: Tensor, beta: Tensor) -> None:
        super().__init__(layers)
        total = alpha.sum() + beta.sum()
        self.alpha: Tensor
        self.beta: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("alpha", (alpha / total).float())
        self.register_buffer("beta", (beta / total).float())
        self.register_buffer("mean", _per_channel(0.485, 0.456, 0.406))
        self.register_buffer("std", _per_channel(0.229, 0.224, 0.225))

    def features(self, image: Tensor) -> list[Tensor]:
        """The image itself and five feature maps."""
        return [image, *self._vgg16((image - self.mean) / self.std, _l2_pool)]

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """See ``PerceptualDistance``."""
        alphas, betas = self.alpha.split(_DISTS_CHANNELS, dim=1), self.beta.split(_DISTS_CHANNELS, dim=1)
        similarity = first[0].new_zeros(first[0].shape[0])
        # Differences of means lose all their digits in bf16.
        pairs = [(a.float(), b.float()) for a, b in zip(first, second, strict=True)]
        for (a, b), alpha, beta in zip(pairs, alphas, betas, strict=True):
            mean_a, mean_b = a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True)
            var_a = ((a - mean_a) ** 2).mean((2, 3), keepdim=True)
            var_b = ((b - mean_b) ** 2).mean((2, 3), keepdim=True)
            covariance = (a * b).mean((2, 3), keepdim=True) - mean_a * mean_b
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
            structure = (2 * covariance + 1e-6) / (var_a + var_b + 1e-6)
            similarity = similarity + (alpha * texture + beta * structure).sum((1, 2, 3))
        return 1 - similarity


class Lpips(PerceptualDistance):
    """Learned perceptual image patch similarity, v0.1.

    Args:
        layers: 5 (AlexNet) or 13 (VGG16) pairs of weight and bias.
        heads: five ``(1, C, 1, 1)`` channel weights.
        for_training: put the small number of the normalisation inside the root, which keeps the gradient finite where
            all channels are zero. Published figures have it outside; the two values differ in the sixth digit.
    """

    def __init__(self, layers: Convolutions, heads: Sequence[Tensor], *, for_training: bool = False) -> None:
        super().__init__(layers)
        self.heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in heads])
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", _per_channel(-0.030, -0.088, -0.188))
        self.register_buffer("scale", _per_channel(0.458, 0.448, 0.450))
        self._for_training = for_training

    def features(self, image: Tensor) -> list[Tensor]:
        """Five feature maps, unit length over channels.

        Raises:
            MetricError: the image is smaller than 32 pixels a side, where nothing is left of it in the last map.
        """
        if min(image.shape[-2:]) < MIN_SIDE:
            msg = f"LPIPS needs at least {MIN_SIDE} pixels a side, got {image.shape[-1]}x{image.shape[-2]}"
            raise MetricError(msg)
        x = (image * 2 - 1 - self.shift) / self.scale
        maps = self._alexnet(x) if len(self.weights) == 5 else self._vgg16(x, _max_pool)
        return [m / self._length(m) for m in maps]

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """See ``PerceptualDistance``."""
        parts = [
            (head * (a - b) ** 2).sum(1).mean((1, 2)) for a, b, head in zip(first, second, self.heads, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def _length(self, x: Tensor) -> Tensor:
        squares = torch.sum(x * x, dim=1, keepdim=True)
        return torch.sqrt(squares + 1e-10) if self._for_training else torch.sqrt(squares) + 1e-10


def load_dists(require: Require) -> Dists:
    """DISTS with its published weights.

    Args:
        require: finds ``vgg16`` and ``dists``.

    Raises:
        MetricError: a file is missing or damaged.
    """
    backbone, parameters = convolutions(require("vgg16")), state_dict(require("dists"))
    return Dists(backbone, parameters["alpha"], parameters["beta"])


def load_lpips(name: str, require: Require, *, for_training: bool = False) -> Lpips:
    """LPIPS with its published weights.

    Args:
        name: ``alex`` or ``vgg``.
        require: finds the backbone and ``lpips_lin_alex`` or ``lpips_lin_vgg``.
        for_training: see ``Lpips``.

    Raises:
        MetricError: a file is missing or damaged.
    """
    backbone = convolutions(require(_BACKBONES[name]))
    return Lpips(backbone, linear_heads(require(f"lpips_lin_{name}")), for_training=for_training)


def _per_channel(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 3, 1, 1)


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, 2)


def _l2_pool(x: Tensor) -> Tensor:
    """DISTS' anti-aliased pooling: a Hanning window over squares."""
    window = torch.hann_window(5, periodic=False, device=x.device, dtype=x.dtype)[1:-1]
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
    return torch.sqrt(F.conv2d(x * x, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12)
