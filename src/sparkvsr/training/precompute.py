"""Filling the store of degraded clips before a run starts."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from typing import Any

import torch
from filelock import FileLock
from omegaconf import DictConfig
from torch import Tensor

from sparkvsr.config import plain
from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.hr_latents import HR_LATENTS, PairsWithTargets
from sparkvsr.data.loader_errors import plain_worker_errors
from sparkvsr.data.precomputed import TEACHER_KEY, LatentEncoder, PrecomputedPairs
from sparkvsr.data.sample_files import SampleShards, write_shards
from sparkvsr.data.samples import TrainSample, collate
from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.hooks import Hook
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.sample_making import degradation_node
from sparkvsr.training.teacher import Teacher, teacher_identity

_KEPT_KEYS = (
    *("clips", "images", "root", "image_root", "num_frames", "crop", "scale", "augment"),
    *("span", "samples_per_clip", "crop_tries"),
)


def precomputed_pairs(
    config: DictConfig, pairs: PairedClips, adapter: TrainingAdapter, *, framewise: bool, hook: Hook
) -> PrecomputedPairs | PairsWithTargets:
    """The pairs of a run from disk; what is missing there is made first.

    Lightning starts its further processes when the fit begins, so they find everything there. Processes that torchrun
    or SLURM started share the work out, each with its own GPU: a lock per share keeps two of them, or two nodes with a
    common disk, from making the same samples.

    Raises:
        ConfigError: the settings exclude each other, or latents are asked of a model whose codec needs none.
    """
    settings = plain(config.data.precompute)
    _check(settings, config, adapter, framewise=framewise)
    folder = expanded(settings["folder"]) / _digest(config, adapter, pairs, framewise=framewise)
    shards = SampleShards(f"{str(settings['shards']).rstrip('/')}/{folder.name}") if settings.get("shards") else None
    store = PrecomputedPairs(pairs, folder, settings["num_samples"], seed=config.seed, shards=shards)
    kinds = [False] if config.data.image_ratio < 1 else []
    kinds += [True] if config.data.image_ratio > 0 else []
    if any(store.missing(is_image=is_image) for is_image in kinds):
        _make_missing(config, pairs, store, adapter, kinds, framewise=framewise, hook=hook)
    if shards is not None and is_first_process():
        _pack(store, shards, kinds, settings, hook)
    if not settings.get("hr_only"):
        return store
    return PairsWithTargets(pairs, store.source, settings["num_samples"], seed=config.seed)


def _check(settings: dict[str, Any], config: DictConfig, adapter: TrainingAdapter, *, framewise: bool) -> None:
    for key in ("latents", "hr_only"):
        if settings.get(key) and not adapter.has_codec:
            msg = (
                f"data.precompute.{key}=true: {adapter.family} has no VAE, its latents are the pixels; set it to false"
            )
            raise ConfigError(msg)
    if settings["latents"] and settings.get("teacher"):
        msg = "data.precompute: latents=true and teacher exclude each other; set one of them to false or null"
        raise ConfigError(msg)
    if not settings.get("hr_only"):
        return
    if settings["latents"] or settings.get("teacher"):
        msg = "data.precompute.hr_only=true keeps the latents of the ground truth alone; set latents=false teacher=null"
        raise ConfigError(msg)
    if framewise:
        msg = "data.precompute.hr_only=true is for a loss on latents (stage 1); this one compares pixels"
        raise ConfigError(msg)
    data = config.data
    if data.samples_per_clip > 1 or data.crop_tries > 1 or data.span is not None:
        msg = "data.precompute.hr_only=true needs data.samples_per_clip=1 data.crop_tries=1 data.span=null"
        raise ConfigError(msg)


def _make_missing(
    config: DictConfig,
    pairs: PairedClips,
    store: PrecomputedPairs,
    adapter: TrainingAdapter,
    kinds: list[bool],
    *,
    framewise: bool,
    hook: Hook,
) -> None:
    """Make every share in turn, the own one first; whoever is done early takes over what nobody has begun."""
    settings, folder = config.data.precompute, store.files.folder
    rank, processes = local_place()
    encodes = bool(settings.latents or settings.get("hr_only"))
    device = torch.device("cuda", rank) if encodes and torch.cuda.is_available() else torch.device("cpu")
    if encodes:
        adapter.encoder_to(device)
    encode = _encoder(config, adapter, device, framewise=framewise)
    folder.mkdir(parents=True, exist_ok=True)
    for share in ((rank + step) % processes for step in range(processes)):
        with FileLock(folder / f".share-{share}-of-{processes}.lock"):
            for is_image in kinds:
                missing = len(store.missing(is_image=is_image))
                if not missing:
                    continue
                if rank == 0:
                    what = "stills" if is_image else "clips"
                    hook({"event": "note", "text": f"precomputing {missing} {what} into {folder}"})
                with plain_worker_errors():
                    if settings.get("hr_only"):
                        _make_targets(store, pairs, encode, is_image=is_image, share=(share, processes))
                    else:
                        workers = config.data.num_workers
                        store.make(is_image=is_image, num_workers=workers, encode=encode, share=(share, processes))
    if encodes:
        adapter.encoder_to(torch.device("cpu"))


def _encoder(
    config: DictConfig, adapter: TrainingAdapter, device: torch.device, *, framewise: bool
) -> LatentEncoder | None:
    settings = config.data.precompute
    if settings.get("teacher"):
        return _teacher_encoder(settings.teacher)

    def encode_target(sample: TrainSample) -> dict[str, Tensor]:
        batch = collate([replace(sample, lr=sample.hr.new_zeros(len(sample.hr), 3, 1, 1))]).to(device)
        return {HR_LATENTS: adapter.encode_target(batch, framewise=framewise)[0]}

    def encode_both(sample: TrainSample) -> dict[str, Tensor]:
        # Without the keyframes, which are chosen and encoded anew each time.
        alone = replace(sample, keyframes=sample.hr.new_zeros(0, *sample.hr.shape[1:]), keyframe_indices=[])
        latents = adapter.encode(collate([alone]).to(device), framewise=framewise, with_hr=True)
        assert latents.hr is not None  # asked for
        return {"lr_latents": latents.lr[0], HR_LATENTS: latents.hr[0]}

    if settings.get("hr_only"):
        return encode_target
    return encode_both if settings.latents else None


def _make_targets(
    store: PrecomputedPairs, pairs: PairedClips, encode: LatentEncoder | None, *, is_image: bool, share: tuple[int, int]
) -> None:
    assert encode is not None  # that is what is kept
    for index in store.missing(is_image=is_image):
        if index % share[1] == share[0]:
            latents = encode(pairs.target_at(index, is_image=is_image))
            tensors = {key: value.half().cpu() for key, value in latents.items()}
            store.files.write(store.name(index, is_image=is_image), tensors)


def _pack(
    store: PrecomputedPairs, shards: SampleShards, kinds: list[bool], settings: dict[str, Any], hook: Hook
) -> None:
    """Write the shards where they lack a sample of this run."""
    names = [
        store.name(index, is_image=is_image) for is_image in kinds for index in range(int(settings["num_samples"]))
    ]
    if all(shards.has(name) for name in names):
        return
    hook({"event": "note", "text": f"packing {len(names)} samples into {shards.address}"})
    write_shards(store.source, names, shards.address, shard_bytes=round(settings["shard_mb"] * 1e6))


def local_place() -> tuple[int, int]:
    """Number of this process on its node and how many there are, where torchrun or SLURM started it; else 0 of 1.

    Lightning's own further processes find everything made, as they start later.
    """
    for own, all_of_them in (("LOCAL_RANK", "LOCAL_WORLD_SIZE"), ("SLURM_LOCALID", "SLURM_NTASKS_PER_NODE")):
        if own in os.environ and os.environ.get(all_of_them, "").isdecimal():
            processes = max(1, int(os.environ[all_of_them]))
            return int(os.environ[own]) % processes, processes
    return 0, 1


def is_first_process() -> bool:
    """Whether this is the process of a run, or the first of all that torchrun, SLURM or Lightning started for it."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"))


def _teacher_encoder(path: str) -> LatentEncoder:
    teacher: list[Teacher] = []

    def encode(sample: TrainSample) -> dict[str, Tensor]:
        if not teacher:  # only where samples are missing
            teacher.append(Teacher(path))
        return {TEACHER_KEY: teacher[0](sample)}

    return encode


def _digest(config: DictConfig, adapter: TrainingAdapter, pairs: PairedClips, *, framewise: bool) -> str:
    """Name of the folder: everything that the kept samples depend on."""
    data = plain(config.data)
    values: dict[str, Any] = {key: data.get(key) for key in _KEPT_KEYS}
    values |= {"degradation": plain(degradation_node(config)), "seed": config.seed}
    if adapter.keeps_motion:
        values |= {"keyframes": plain(config.keyframes.policy)}  # their motion is kept too
        values |= {"crop_step": adapter.crop_step} if adapter.crop_step > 1 else {}
    if data["precompute"].get("teacher"):
        values |= {"teacher": teacher_identity(data["precompute"]["teacher"])}
    if data["precompute"]["latents"]:
        values |= {"model": plain(config.model), "framewise": framewise}
    if data["precompute"].get("hr_only"):
        # Neither degraded pixels nor anything that makes them is kept, but they decide how much is cut out.
        margins = {"margin": pairs.degradation.margin, "extra_frames": pairs.degradation.extra_frames}
        values |= {"degradation": None, "hr_only": True, "model": plain(config.model), **margins}
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
