"""Where training samples are degraded: in the loader's processes, or on the training device."""

from __future__ import annotations

from typing import Any

import torch
from omegaconf import DictConfig, open_dict

from sparkvsr.data.keyframe_images import IsrReferences
from sparkvsr.degradation.interface import Degradation, can_draw
from sparkvsr.errors import ConfigError
from sparkvsr.training.adapters.interface import TrainingAdapter

LOADER = "loader"
DEVICES = ("auto", "cpu", "cuda", LOADER)


def degradation_node(config: DictConfig) -> DictConfig:
    """The configuration of the degradation without ``device``, which is no argument of it."""
    node: DictConfig = config.degradation.copy()
    with open_dict(node):
        node.pop("device", None)
    return node


def making_device(
    config: DictConfig, adapter: TrainingAdapter | None, degradation: Degradation, augmentation: Any, isr: IsrReferences
) -> str | None:
    """``cpu`` or ``cuda`` where the device makes the samples, None where the loader does.

    ``auto`` is the GPU where one trains and nothing speaks against it, else the loader: on a CPU both sides share the
    same cores, and OpenCV is the faster one there (docs/cluster.md).

    Args:
        config: composed.
        adapter: the model; None if there is none.
        degradation: built.
        augmentation: of keyframes, built.
        isr: keyframes made of LR frames.

    Raises:
        ConfigError: unknown, or asked for and impossible.
    """
    asked = str(config.degradation.get("device", "auto"))
    if asked not in DEVICES:
        msg = f"degradation.device={asked} is unknown; use {', '.join(DEVICES)}"
        raise ConfigError(msg)
    if asked == LOADER:
        return None
    if asked == "auto" and not _trains_on_cuda(config):
        return None
    obstacle = _obstacle(config, adapter, degradation, augmentation, isr)
    if obstacle is None:
        return "cuda" if asked == "auto" else asked
    if asked == "auto":
        return None
    msg = f"degradation.device={asked}: {obstacle}; use degradation.device=loader (or auto)"
    raise ConfigError(msg)


def _trains_on_cuda(config: DictConfig) -> bool:
    accelerator = str(config.trainer.get("accelerator", "auto"))
    return accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available()


def _obstacle(
    config: DictConfig, adapter: TrainingAdapter | None, degradation: Degradation, augmentation: Any, isr: IsrReferences
) -> str | None:
    data = config.data
    if not can_draw(degradation):
        return f"{type(degradation).__name__} cannot say beforehand what it will do (it has no method draw)"
    if augmentation is not None and not callable(getattr(augmentation, "draw", None)):
        return f"{type(augmentation).__name__} cannot say beforehand what it will do (it has no method draw)"
    if adapter is not None and type(adapter).prepare_clip is not TrainingAdapter.prepare_clip:
        return f"{adapter.family} computes motion from the degraded frames in the loader"
    if isr.ratio > 0:
        return "keyframes.isr makes keyframes of the degraded frames in the loader"
    if data.precompute.enabled and not data.precompute.get("hr_only"):
        return "data.precompute keeps degraded samples"
    if data.crop_tries > 1 or data.samples_per_clip > 1:
        return "data.crop_tries and data.samples_per_clip above 1 look at the degraded frames in the loader"
    return None
