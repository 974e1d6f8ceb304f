"""Clips made from photos: layers of photos under smooth motion, the upper ones cut out by soft shapes.

The motion is exact and endless, which makes up for clips where a collection has few. Real clips can be mixed in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.data.folders import ClipFolder, ImageFolder
from sparkvsr.data.sources import SourceClip
from sparkvsr.data.synthetic import Motion, soft_blob, warp_canvas

_MAX_LAYERS = 3
_CACHE_ITEMS = 24
_BENT_SHARE = 0.35


class MovingStills:
    """Photos in motion, and real clips.

    Args:
        root: folder of photos.
        clip_root: folder of real clips, or None.
        clip_share: share of samples taken from real clips, where there are any.
        path_list: of the photos.
        min_side: smaller photos and clips are skipped.
        min_frames: shorter clips are skipped.
        num_clips: how many different ones; None takes as many as there are photos and clips.
        max_speed: of a layer, HR pixels a frame.

    Raises:
        DatasetError: a folder is missing or empty.
    """

    def __init__(
        self,
        root: str | Path,
        clip_root: str | Path | None = None,
        *,
        clip_share: float = 0.3,
        path_list: str | Path | None = None,
        min_side: int = 200,
        min_frames: int = 2,
        num_clips: int | None = None,
        max_speed: float = 8.0,
        seed: int | None = None,
    ) -> None:
        del seed
        self._photos = ImageFolder(root, path_list, min_side=min_side)
        self._clips = None if clip_root is None else ClipFolder(clip_root, min_side=min_side, min_frames=min_frames)
        self._clip_share, self._max_speed = clip_share, max_speed
        self._count = num_clips or len(self._photos) + (0 if self._clips is None else len(self._clips))
        self._cache: dict[int, Tensor] = {}

    def __len__(self) -> int:
        """Clips of one pass."""
        return self._count

    def name(self, index: int) -> str:
        """Path of the photo in the background."""
        return self._photos.name(index % len(self._photos))

    def sample(self, index: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> SourceClip:
        """See ``ClipSource.sample``; the motion is new each time."""
        if self._clips is not None and rng.random() < self._clip_share:
            return self._clips.sample(index % len(self._clips), num_frames, size, rng)
        times = [float(frame) for frame in range(num_frames)]
        frames = self._layer(index, size, times, rng)[:, :3]
        for _ in range(int(rng.choice(_MAX_LAYERS, p=[0.45, 0.4, 0.15]))):
            layer = self._layer(int(rng.integers(len(self._photos))), size, times, rng, cut_out=True)
            mask = layer[:, 3:].clamp(0, 1)
            frames = frames * (1 - mask) + layer[:, :3] * mask
        # 8 bit, as footage is
        return SourceClip(frames.clamp(0, 1).mul(255).round().div(255), None, self.name(index))

    def _layer(
        self, index: int, size: tuple[int, int], times: list[float], rng: np.random.Generator, *, cut_out: bool = False
    ) -> Tensor:
        canvas = self._photo(index % len(self._photos), size, rng)
        if cut_out:
            side = max(canvas.shape[-2:])
            mask = torch.from_numpy(soft_blob(rng, side))[: canvas.shape[-2], : canvas.shape[-1]]
            canvas = torch.cat([canvas, mask[None]])
        # Fast motion is rare and slow motion common, as in footage.
        motion = Motion.draw(rng, self._max_speed * float(rng.uniform(0.05, 1)))
        bend = _waves(size, times, rng) if rng.random() < _BENT_SHARE else None
        return warp_canvas(canvas, size, [motion.matrix(time) for time in times], bend)

    def _photo(self, index: int, size: tuple[int, int], rng: np.random.Generator) -> Tensor:
        """A region about twice the crop, of the photo at a random reduction (reduced photos are sharper)."""
        if index not in self._cache:
            if len(self._cache) >= _CACHE_ITEMS:
                self._cache.pop(next(iter(self._cache)))
            self._cache[index] = self._photos.read(index).mul(255).round().to(torch.uint8)
        photo = self._cache[index]
        least = max(size[0] / photo.shape[-2], size[1] / photo.shape[-1])
        factor = float(rng.uniform(min(1.0, max(0.5, least)), 1.0)) if least <= 1 else least
        wanted = [min(side, int(2 * crop / factor)) for side, crop in zip(photo.shape[-2:], size, strict=True)]
        top, left = (int(rng.integers(0, side - want + 1)) for side, want in zip(photo.shape[-2:], wanted, strict=True))
        region = photo[:, top : top + wanted[0], left : left + wanted[1]].float().div(255)
        if factor == 1.0:
            return region
        new = (max(8, round(wanted[0] * factor)), max(8, round(wanted[1] * factor)))
        return F.interpolate(region[None], size=new, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def _waves(size: tuple[int, int], times: list[float], rng: np.random.Generator) -> Tensor:
    """A smooth displacement that swings in time, ``(F, H, W, 2)`` in pixels: things that bend."""
    cells = (int(rng.integers(3, 9)), int(rng.integers(3, 9)))
    coarse = torch.from_numpy(rng.standard_normal((1, 2, *cells)).astype(np.float32))
    field = F.interpolate(coarse, size=size, mode="bicubic", align_corners=False)[0].permute(1, 2, 0)
    amount, rate = float(rng.uniform(0.5, 4)), float(rng.uniform(0.05, 0.5))
    swing = [[np.sin(rate * time), np.cos(rate * time) - 1] for time in times]
    return field * amount * torch.tensor(np.array(swing), dtype=torch.float32).view(-1, 1, 1, 2)
