"""What validation measures. One of your own is any callable like these.

Shapes: clips ``(F, 3, H, W)`` float in [0, 1], restored and ground truth of one size; a metric gives the mean over the
frames. ``higher_is_better`` says which checkpoint is the better one.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, MetricError
from sparkvsr.home import expanded
from sparkvsr.metrics.functional import psnr, psnr_y, ssim, ssim_y
from sparkvsr.metrics.perceptual import PerceptualMetric
from sparkvsr.pretrained.perceptual import PerceptualDistance, load_dists, load_lpips
from sparkvsr.pretrained.weights import WeightStore

FrameMetric = Callable[[Tensor, Tensor], float]


class _OnLevels:
    """A measure of 8-bit frames that has one form for RGB and one for Y."""

    higher_is_better = True
    _forms: ClassVar[dict[str, FrameMetric]]

    def __init__(self, channels: str = "rgb") -> None:
        if channels not in self._forms:
            msg = f"metrics: channels={channels} is unknown; use {' or '.join(self._forms)}"
            raise ConfigError(msg)
        self._measure = self._forms[channels]

    def __call__(self, sr: Tensor, hr: Tensor) -> float:
        """Mean over the frames."""
        return _mean(self._measure, sr, hr)


class Psnr(_OnLevels):
    """PSNR in dB on 8-bit frames, as ``sparkvsr eval`` has it.

    Args:
        channels: ``rgb``, or ``y`` (BT.601 studio range).

    Raises:
        ConfigError: ``channels`` is neither.
    """

    _forms: ClassVar[dict[str, FrameMetric]] = {"rgb": psnr, "y": psnr_y}


class Ssim(_OnLevels):
    """SSIM on 8-bit frames, as ``sparkvsr eval`` has it.

    Args:
        channels: ``rgb``, or ``y`` (BT.601 studio range).

    Raises:
        ConfigError: ``channels`` is neither.
    """

    _forms: ClassVar[dict[str, FrameMetric]] = {"rgb": ssim, "y": ssim_y}


class _Perceptual:
    """A frozen network, on the device that the frames are on."""

    higher_is_better = False

    def __init__(self, network: PerceptualDistance) -> None:
        self._network = network

    def __call__(self, sr: Tensor, hr: Tensor) -> float:
        """Mean over the frames; on 8-bit values, as published numbers are."""
        return _mean(lambda one, two: self._metric(one[None], two[None]), _levels(sr), _levels(hr))

    @cached_property
    def _metric(self) -> PerceptualMetric:
        return PerceptualMetric(self._network, "cuda" if torch.cuda.is_available() else "cpu")


class Lpips(_Perceptual):
    """LPIPS v0.1 (Zhang et al. 2018).

    Args:
        network: ``alex`` (what tables give) or ``vgg``.
        weights: folder searched first for backbone and heads.

    Raises:
        ConfigError: unknown network.
        MetricError: the weights are missing; names the ways to get them.
    """

    def __init__(self, network: str = "alex", weights: str | Path | None = None) -> None:
        if network not in ("alex", "vgg"):
            msg = f"metrics: network={network} is unknown; use alex or vgg"
            raise ConfigError(msg)
        super().__init__(load_lpips(network, _store(weights).require))


class Dists(_Perceptual):
    """DISTS (Ding et al. 2020).

    Args:
        weights: folder searched first for VGG16 and the DISTS weights.

    Raises:
        MetricError: the weights are missing; names the ways to get them.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        super().__init__(load_dists(_store(weights).require))


def _store(weights: str | Path | None) -> WeightStore:
    folder = None if weights is None else expanded(weights)
    if folder is not None and not folder.is_dir():
        msg = f"metrics: weights={weights} is no folder; it holds the files of AlexNet or VGG16 and of LPIPS or DISTS"
        raise MetricError(msg)
    return WeightStore(folder)


def _levels(clip: Tensor) -> Tensor:
    return clip.clamp(0, 1).mul(255).round().div(255)


def _mean(measure: FrameMetric, sr: Tensor, hr: Tensor) -> float:
    return statistics.fmean(measure(one, two) for one, two in zip(sr, hr, strict=True))
