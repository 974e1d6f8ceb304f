"""Perceptual distances with gradient: DISTS, LPIPS and their edge-aware forms (docs/method.md 4.7).

The weights are found as the metrics find theirs: a folder given by the user, ``$SPARKVSR_WEIGHTS``, what
``sparkvsr metrics --get`` fetched, installed packages and the caches of torchvision and pyiqa, each checked by
checksum. What cannot be found is an error that names these ways, never a term that silently disappears.

Shapes: images ``(N, 3, H, W)`` float in [0, 1]; distances ``(N,)``.
"""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkvsr.colour import grey
from sparkvsr.errors import MetricError
from sparkvsr.home import expanded
from sparkvsr.pretrained.perceptual import Dists, Lpips, PerceptualDistance, Require, load_dists, load_lpips
from sparkvsr.pretrained.weights import FoundWeights, WeightStore


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
    sobel = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=image.device)
    kernels = torch.stack([sobel, sobel.t()])[:, None].to(image.dtype)
    gradient = F.conv2d(F.pad(grey(image), (1, 1, 1, 1), mode="replicate"), kernels)
    return torch.sqrt((gradient**2).sum(1, keepdim=True) + 1e-6).expand(-1, 3, -1, -1)


def dists_network(weights: str | Path | None = None) -> Dists:
    """DISTS with its published weights.

    Args:
        weights: folder searched first.

    Raises:
        MetricError: VGG16 or the DISTS weights are nowhere; names the ways to get them.
    """
    return load_dists(_finder(weights, "dists_weight"))


def lpips_network(name: str, weights: str | Path | None = None) -> Lpips:
    """LPIPS v0.1 with its published weights.

    Args:
        name: ``alex`` or ``vgg``.
        weights: folder searched first.

    Raises:
        MetricError: see ``dists_network``.
    """
    return load_lpips(name, _finder(weights, "lpips_weight"), for_training=True)


def _folder(weights: str | Path | None) -> Path | None:
    if weights is None:
        return None
    folder = expanded(weights)
    if not folder.is_dir():
        msg = f"loss.weights={weights} is no folder; it holds vgg16 and DISTS or LPIPS weight files"
        raise MetricError(msg)
    return folder


def _finder(weights: str | Path | None, key: str) -> Require:
    store = WeightStore(_folder(weights))
    return lambda name: _require(store, name, key)


def _require(store: WeightStore, name: str, key: str) -> FoundWeights:
    found = store.find(name)
    if found is None:
        msg = (
            f"loss.{key} is above 0, but the {name} weights are not on this machine; either run `sparkvsr metrics "
            f"--get dists,lpips_vgg`, or set loss.weights=FOLDER (or SPARKVSR_WEIGHTS) to a folder with the files, or "
            f"set loss.{key}=0"
        )
        raise MetricError(msg)
    return found
