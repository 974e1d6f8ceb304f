"""LPIPS v0.1 (Zhang et al. 2018) and DISTS (Ding et al. 2020) over given backbone weights.

Own code, because the libraries that have both either download their backbones themselves without asking (lpips,
torchmetrics; torchmetrics' DISTS also re-reads VGG16 for every frame) or forbid commercial use (pyiqa). Checked
against torchmetrics in the tests.

Shapes: images ``(N, 3, H, W)`` float in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import MetricError

MIN_SIDE = 32
_LPIPS_SHIFT = torch.tensor([-0.030, -0.088, -0.188]).view(1, 3, 1, 1)
_LPIPS_SCALE = torch.tensor([0.458, 0.448, 0.450]).view(1, 3, 1, 1)
_IMAGENET_MEAN = torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1)
_IMAGENET_STD = torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1)
_DISTS_CHANNELS = [3, 64, 128, 256, 512, 512]
_VGG_STAGES = (2, 2, 3, 3, 3)

Convolutions = list[tuple[Tensor, Tensor]]


class Lpips:
    """Learned perceptual distance.

    Args:
        convolutions: 5 (AlexNet) or 13 (VGG16) pairs of weight and bias.
        heads: five ``(1, C, 1, 1)`` channel weights.
        device: where it computes.
    """

    def __init__(self, convolutions: Convolutions, heads: list[Tensor], device: torch.device | str = "cpu") -> None:
        self._convolutions = _on_device(convolutions, device)
        self._heads = [head.to(device) for head in heads]
        self._device = torch.device(device)

    @torch.inference_mode()
    def features(self, image: Tensor) -> list[Tensor]:
        """Five feature maps, unit length over channels.

        Raises:
            MetricError: the image is smaller than 32 pixels a side, where nothing is left of it in the last map.
        """
        if min(image.shape[-2:]) < MIN_SIDE:
            msg = f"LPIPS needs at least {MIN_SIDE} pixels a side, got {image.shape[-1]}x{image.shape[-2]}"
            raise MetricError(msg)
        image = image.to(self._device, memory_format=torch.channels_last)
        x = (image * 2 - 1 - _LPIPS_SHIFT.to(self._device)) / _LPIPS_SCALE.to(self._device)
        with _full_precision():
            maps = _alexnet(x, self._convolutions) if len(self._convolutions) == 5 else _vgg16(x, self._convolutions)
        return [m / (torch.sqrt(torch.sum(m * m, dim=1, keepdim=True)) + 1e-10) for m in maps]

    @torch.inference_mode()
    def between(self, first: list[Tensor], second: list[Tensor]) -> float:
        """Distance of two images given their ``features``."""
        total = 0.0
        for a, b, head in zip(first, second, self._heads, strict=True):
            total += float((head * (a - b) ** 2).sum(dim=1).mean())
        return total

    def __call__(self, sr: Tensor, hr: Tensor) -> float:
        """Distance of two images ``(1, 3, H, W)``."""
        return self.between(self.features(sr), self.features(hr))


class Dists:
    """Deep image structure and texture similarity, as a distance.

    Args:
        convolutions: VGG16's 13 pairs of weight and bias.
        alpha, beta: ``(1, 1475, 1, 1)``, texture and structure weights.
        device: where it computes.
    """

    def __init__(
        self, convolutions: Convolutions, alpha: Tensor, beta: Tensor, device: torch.device | str = "cpu"
    ) -> None:
        self._convolutions = _on_device(convolutions, device)
        total = alpha.sum() + beta.sum()
        self._alpha = torch.split((alpha / total).to(device).float(), _DISTS_CHANNELS, dim=1)
        self._beta = torch.split((beta / total).to(device).float(), _DISTS_CHANNELS, dim=1)
        self._device = torch.device(device)

    @torch.inference_mode()
    def features(self, image: Tensor) -> list[Tensor]:
        """The image itself and five feature maps."""
        x = image.to(self._device, memory_format=torch.channels_last)
        scaled = (x - _IMAGENET_MEAN.to(self._device)) / _IMAGENET_STD.to(self._device)
        with _full_precision():
            return [x, *_vgg16(scaled, self._convolutions, pool=_l2_pool)]

    @torch.inference_mode()
    def between(self, first: list[Tensor], second: list[Tensor]) -> float:
        """Distance of two images given their ``features``."""
        similarity = torch.zeros((), device=self._device)
        for a, b, alpha, beta in zip(first, second, self._alpha, self._beta, strict=True):
            mean_a, mean_b = a.mean([2, 3], keepdim=True), b.mean([2, 3], keepdim=True)
            var_a = ((a - mean_a) ** 2).mean([2, 3], keepdim=True)
            var_b = ((b - mean_b) ** 2).mean([2, 3], keepdim=True)
            covariance = (a * b).mean([2, 3], keepdim=True) - mean_a * mean_b
            texture = (2 * mean_a * mean_b + 1e-6) / (mean_a**2 + mean_b**2 + 1e-6)
            structure = (2 * covariance + 1e-6) / (var_a + var_b + 1e-6)
            similarity = similarity + (alpha * texture).sum() + (beta * structure).sum()
        return float(1 - similarity)

    def __call__(self, sr: Tensor, hr: Tensor) -> float:
        """Distance of two images ``(1, 3, H, W)``."""
        return self.between(self.features(sr), self.features(hr))


def _on_device(convolutions: Convolutions, device: torch.device | str) -> Convolutions:
    """In the layout that convolutions run fastest in, on the CPU too (VGG16: by a quarter)."""
    return [(w.to(device, memory_format=torch.channels_last), b.to(device)) for w, b in convolutions]


def _full_precision() -> AbstractContextManager[None]:
    """Convolutions in float32 on CUDA too: TF32, cuDNN's default, moves the third digit."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def _alexnet(x: Tensor, convolutions: Convolutions) -> list[Tensor]:
    strides_and_padding = ((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))
    maps = []
    for index, ((weight, bias), (stride, padding)) in enumerate(zip(convolutions, strides_and_padding, strict=True)):
        if index in {1, 2}:
            x = F.max_pool2d(x, 3, 2)
        x = F.relu(F.conv2d(x, weight, bias, stride=stride, padding=padding))
        maps.append(x)
    return maps


def _max_pool(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 2, 2)


def _l2_pool(x: Tensor) -> Tensor:
    """DISTS' anti-aliased pooling: a Hanning window over squares."""
    window = torch.hann_window(5, periodic=False, device=x.device, dtype=x.dtype)[1:-1]
    kernel = torch.outer(window, window)
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 3, 3)
    return torch.sqrt(F.conv2d(x * x, kernel, stride=2, padding=1, groups=x.shape[1]) + 1e-12)


def _vgg16(x: Tensor, convolutions: Convolutions, pool: Callable[[Tensor], Tensor] = _max_pool) -> list[Tensor]:
    maps = []
    remaining = iter(convolutions)
    for stage, count in enumerate(_VGG_STAGES):
        if stage:
            x = pool(x)
        for _ in range(count):
            weight, bias = next(remaining)
            x = F.relu(F.conv2d(x, weight, bias, padding=1), inplace=True)
        maps.append(x)
    return maps
