"""Batches of precomputed samples (make_samples.py), with augmentation and keyframe corruption."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from make_samples import CROP, FIELDS, KEY_CROP, SHARD
from torch import Tensor

from sparkvsr.models.lite.network import upscale_bicubic

# "own": made by the keyframe upscaler, which is what the model does by itself where nobody gave a keyframe.
KEY_CASES = {
    "truth": 0.5,
    "own": 0.22,
    "none": 0.11,
    "other": 0.03,
    "black": 0.01,
    "shifted": 0.05,
    "soft": 0.04,
    "tinted": 0.04,
}


class SampleStore:
    """All finished shards under a folder, memory-mapped; new shards are found by ``refresh``."""

    def __init__(self, roots: list[Path], weights: list[float] | None = None) -> None:
        self.roots, self.weights = roots, weights or [1.0] * len(roots)
        self.refresh()

    def refresh(self) -> None:
        """Look for shards again."""
        self.shards = [
            [{n: np.load(f.parent / f"{n}.npy", mmap_mode="r") for n in FIELDS} for f in sorted(root.glob("*/done"))]
            for root in self.roots
        ]

    def __len__(self) -> int:
        return sum(len(shards) for shards in self.shards) * SHARD

    def draw(self, batch: int, rng: np.random.Generator, frames: int) -> dict[str, Tensor]:
        """A batch of float tensors, NCHW (or N, T, C, H, W), augmented."""
        weights = np.array([w if s else 0.0 for w, s in zip(self.weights, self.shards, strict=True)])
        rows = []
        for _ in range(batch):
            shards = self.shards[rng.choice(len(weights), p=weights / weights.sum())]
            shard, index = shards[int(rng.integers(len(shards)))], int(rng.integers(SHARD))
            first = int(rng.integers(0, FIELDS["lr"][0][0] - frames + 1))
            row = {
                name: torch.from_numpy(
                    np.array(
                        shard[name][index, first : first + frames]
                        if name not in ("key_lr", "key_hr")
                        else shard[name][index]
                    )
                )
                for name in FIELDS
            }
            rows.append(_augment(row, rng))
        batch = {name: torch.stack([row[name] for row in rows]) for name in FIELDS}
        gain = torch.ones(batch_size := len(rows), 3, 1, 1)
        for i in range(batch_size):
            if rng.random() < 0.3:
                gain[i, :, 0, 0] = torch.from_numpy(rng.uniform(0.75, 1.0, 3)).float()
        for name in ("lr", "hr", "key_lr", "key_hr"):
            scale = gain / 255 if batch[name].ndim == 4 else gain[:, None] / 255
            batch[name] = batch[name] * scale
        return batch


def _augment(row: dict[str, Tensor], rng: np.random.Generator) -> dict[str, Tensor]:
    """Flips, transposition and channel shuffling; returns channel-first tensors, images still uint8."""
    images = {n: row[n].movedim(-1, -3) for n in ("lr", "hr", "key_lr", "key_hr")}
    flows = {n: row[n].float().movedim(-1, -3) for n in ("step", "to_key")}
    trip = row["round_trip"].float().unsqueeze(-3)
    room = {"step": 0.0, "to_key": float(KEY_CROP - CROP)}
    for axis, component in ((-1, 0), (-2, 1)):
        if rng.random() < 0.5:
            images = {n: x.flip(axis) for n, x in images.items()}
            trip = trip.flip(axis)
            flows = {n: x.flip(axis) for n, x in flows.items()}
            for name, flow in flows.items():
                flow[..., component, :, :] = room[name] - flow[..., component, :, :]
    if rng.random() < 0.5:
        images = {n: x.transpose(-1, -2) for n, x in images.items()}
        trip = trip.transpose(-1, -2)
        flows = {n: x.transpose(-1, -2).flip(-3) for n, x in flows.items()}
    if rng.random() < 0.3:
        order = torch.from_numpy(rng.permutation(3))
        images = {n: x.index_select(-3, order) for n, x in images.items()}
    return {**images, **flows, "round_trip": trip}


def corrupt_keyframes(
    batch: dict[str, Tensor], rng: np.random.Generator, upscale: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Replace some keyframes by none, wrong or poor ones, in place.

    Args:
        batch: as ``SampleStore.draw`` gives it.
        rng: source of randomness.
        upscale: ``(N, 3, h, w)`` to ``(N, 3, 4h, 4w)``, for keyframes of the model's own.

    Returns:
        ``(N, 1, 1, 1)``: 0 where the keyframe is taken away.
    """
    key_hr, key_lr = batch["key_hr"], batch["key_lr"]
    keep = torch.ones(len(key_hr), 1, 1, 1)
    original = key_hr.clone()
    names, odds = list(KEY_CASES), np.array(list(KEY_CASES.values()))
    for i in range(len(key_hr)):
        case = names[rng.choice(len(names), p=odds / odds.sum())]
        if case == "none":
            keep[i] = 0
        elif case == "own" and upscale is not None:
            key_hr[i] = upscale(key_lr[i : i + 1])[0].clamp(0, 1)
        elif case == "other":
            key_hr[i] = original[i - 1]
        elif case == "black":
            key_hr[i] = 0
        elif case == "shifted":
            dy, dx = (int(rng.choice([-1, 1]) * rng.integers(2, 49)) for _ in range(2))
            key_hr[i] = torch.roll(original[i], (dy, dx if rng.random() < 0.7 else 0), (-2, -1))
        elif case == "soft":
            soft = upscale_bicubic(key_lr[i : i + 1])[0].clamp(0, 1)
            key_hr[i] = torch.lerp(original[i], soft, float(rng.uniform(0.5, 1.0)))
        elif case == "tinted":
            shift = torch.from_numpy(rng.normal(0, 0.03, (3, 1, 1))).float()
            key_hr[i] = (original[i] + shift).clamp(0, 1)
            if rng.random() < 0.5:
                key_hr[i] = F.avg_pool2d(key_hr[i], 3, 1, 1, count_include_pad=False)
    return keep
