"""Quality metrics whose numbers say which protocol they follow.

``sparkvsr.metrics.functional`` has plain functions; ``ClipMeter`` scores clips. Importing this package is cheap:
numpy, OpenCV and torch are loaded when something is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkvsr.metrics.catalogue import METRICS, MetricSpec
    from sparkvsr.metrics.clip_meter import ClipMeter
    from sparkvsr.metrics.clip_score import ClipScore
    from sparkvsr.metrics.functional import psnr, psnr_y, ssim, ssim_y
    from sparkvsr.metrics.readiness import MissingMetricsError, resolve_metrics
    from sparkvsr.metrics.toolbox import Toolbox
    from sparkvsr.pretrained.weights import WeightStore

_HOMES = {
    "METRICS": "sparkvsr.metrics.catalogue",
    "MetricSpec": "sparkvsr.metrics.catalogue",
    "ClipMeter": "sparkvsr.metrics.clip_meter",
    "ClipScore": "sparkvsr.metrics.clip_score",
    "MissingMetricsError": "sparkvsr.metrics.readiness",
    "resolve_metrics": "sparkvsr.metrics.readiness",
    "Toolbox": "sparkvsr.metrics.toolbox",
    "WeightStore": "sparkvsr.pretrained.weights",
    "psnr": "sparkvsr.metrics.functional",
    "psnr_y": "sparkvsr.metrics.functional",
    "ssim": "sparkvsr.metrics.functional",
    "ssim_y": "sparkvsr.metrics.functional",
}

__all__ = [
    "METRICS",
    "ClipMeter",
    "ClipScore",
    "MetricSpec",
    "MissingMetricsError",
    "Toolbox",
    "WeightStore",
    "psnr",
    "psnr_y",
    "resolve_metrics",
    "ssim",
    "ssim_y",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
