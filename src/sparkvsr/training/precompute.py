"""Filling the store of degraded clips before a run starts."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from sparkvsr.config import plain
from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.loader_errors import plain_worker_errors
from sparkvsr.data.precomputed import TEACHER_KEY, LatentEncoder, PrecomputedPairs
from sparkvsr.data.samples import TrainSample, collate
from sparkvsr.errors import ConfigError
from sparkvsr.hooks import Hook
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.teacher import Teacher, teacher_identity

_KEPT_KEYS = (
    *("clips", "images", "root", "image_root", "num_frames", "crop", "scale", "augment"),
    *("span", "samples_per_clip", "crop_tries"),
)


def precomputed_pairs(
    config: DictConfig, pairs: PairedClips, adapter: TrainingAdapter, *, framewise: bool, hook: Hook
) -> PrecomputedPairs:
    """The pairs of a run from disk; what is missing there is made first.

    Lightning starts its further processes when the fit begins, so they find everything there.

    Raises:
        ConfigError: latents are asked of a model whose codec needs none.
    """
    settings = plain(config.data.precompute)
    with_latents = bool(settings["latents"])
    if with_latents and not adapter.has_codec:
        msg = f"data.precompute.latents=true: {adapter.family} has no VAE, its latents are the pixels; set it to false"
        raise ConfigError(msg)
    if with_latents and settings.get("teacher"):
        msg = "data.precompute: latents=true and teacher exclude each other; set one of them to false or null"
        raise ConfigError(msg)
    folder = Path(settings["folder"]).expanduser() / _digest(config, adapter, framewise=framewise)
    store = PrecomputedPairs(pairs, folder, settings["num_samples"], seed=config.seed)
    device = torch.device("cuda" if with_latents and torch.cuda.is_available() else "cpu")
    adapter.to(device)

    def encode_latents(sample: TrainSample) -> dict[str, Tensor]:
        latents = adapter.encode(collate([sample]).to(device), framewise=framewise, with_hr=True)
        assert latents.hr is not None  # asked for
        return {"lr_latents": latents.lr[0], "hr_latents": latents.hr[0]}

    encode: LatentEncoder | None = encode_latents if with_latents else None
    if settings.get("teacher"):
        encode = _teacher_encoder(settings["teacher"])
    kinds = [False] if config.data.image_ratio < 1 else []
    kinds += [True] if config.data.image_ratio > 0 else []
    for is_image in kinds:
        missing = len(store.missing(is_image=is_image))
        if not missing:
            continue
        hook({"event": "note", "text": f"precomputing {missing} {'stills' if is_image else 'clips'} into {folder}"})
        with plain_worker_errors():
            store.make(is_image=is_image, num_workers=config.data.num_workers, encode=encode)
    adapter.to("cpu")
    return store


def _teacher_encoder(path: str) -> LatentEncoder:
    teacher: list[Teacher] = []

    def encode(sample: TrainSample) -> dict[str, Tensor]:
        if not teacher:  # only where samples are missing
            teacher.append(Teacher(path))
        return {TEACHER_KEY: teacher[0](sample)}

    return encode


def _digest(config: DictConfig, adapter: TrainingAdapter, *, framewise: bool) -> str:
    """Name of the folder: everything that the kept samples depend on."""
    data = plain(config.data)
    values: dict[str, Any] = {key: data.get(key) for key in _KEPT_KEYS}
    values |= {"degradation": plain(config.degradation), "seed": config.seed}
    if adapter.keeps_motion:
        values |= {"keyframes": plain(config.keyframes.policy)}  # their motion is kept too
        values |= {"crop_step": adapter.crop_step} if adapter.crop_step > 1 else {}
    if data["precompute"].get("teacher"):
        values |= {"teacher": teacher_identity(data["precompute"]["teacher"])}
    if data["precompute"]["latents"]:
        values |= {"model": plain(config.model), "framewise": framewise}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
