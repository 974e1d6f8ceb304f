"""Quality metrics whose numbers say which protocol they follow.

``sparkvsr.metrics.functional`` has plain functions; ``ClipMeter`` scores clips. Importing this package is cheap:
numpy, OpenCV and torch are loaded when something is computed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkvsr.metrics.catalogue import METRICS, MetricSpec
    from sparkvsr.metrics.clip_meter import ClipMeter, ClipScore
    from sparkvsr.metrics.functional import psnr, psnr_y, ssim, ssim_y
    from sparkvsr.metrics.readiness import MissingMetricsError, resolve_metrics
    from sparkvsr.metrics.toolbox import Toolbox
    from sparkvsr.metrics.weights import WeightStore

_HOMES = {
    "METRICS": "catalogue",
    "MetricSpec": "catalogue",
    "ClipMeter": "clip_meter",
    "ClipScore": "clip_meter",
    "MissingMetricsError": "readiness",
    "resolve_metrics": "readiness",
    "Toolbox": "toolbox",
    "WeightStore": "weights",
    "psnr": "functional",
    "psnr_y": "functional",
    "ssim": "functional",
    "ssim_y": "functional",
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

        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
