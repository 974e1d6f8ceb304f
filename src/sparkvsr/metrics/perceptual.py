"""LPIPS and DISTS as metrics: without gradient, in full precision, from features that can be kept."""

from __future__ import annotations

import torch
from torch import Tensor

from sparkvsr.pretrained.perceptual import PerceptualDistance


class PerceptualMetric:
    """A perceptual network as a measure of two images.

    Args:
        network: LPIPS or DISTS; is moved to the device.
        device: where it computes.
    """

    def __init__(self, network: PerceptualDistance, device: torch.device | str = "cpu") -> None:
        # The layout that convolutions run fastest in, on the CPU too (VGG16: by a quarter).
        self._network = network.to(device=device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = torch.device(device)

    @torch.inference_mode()
    def features(self, image: Tensor) -> list[Tensor]:
        """Feature maps of ``(1, 3, H, W)`` in [0, 1].

        Raises:
            MetricError: the network is LPIPS and the image is smaller than 32 pixels a side.
        """
        image = image.to(self._device, memory_format=torch.channels_last)
        # Convolutions in float32 on CUDA too: TF32, cuDNN's default, moves the third digit.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            return self._network.features(image)

    @torch.inference_mode()
    def between(self, first: list[Tensor], second: list[Tensor]) -> float:
        """Distance of two images given their features, ``(1, C, h, w)`` each."""
        return float(self._network.compare(first, second))

    def __call__(self, sr: Tensor, hr: Tensor) -> float:
        """Distance of two images ``(1, 3, H, W)`` in [0, 1]."""
        return self.between(self.features(sr), self.features(hr))
