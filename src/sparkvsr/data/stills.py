"""Clips made from photos: layers of photos in motion, the upper ones cut out by soft shapes.

The motion is exact and endless, which makes up for clips where a collection has few. Real clips can be mixed in.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.data.folders import ClipFolder, ImageFolder
from sparkvsr.data.moving_layer import Image, LayerMotion
from sparkvsr.data.sources import SourceClip
from sparkvsr.data.synthetic import soft_blob

_MAX_LAYERS = 3
_CACHE_ITEMS = 24


class MovingStills:
    """Photos in motion, and real clips.

    Args:
        root: folder of photos.
        clip_root: folder of real clips, or None.
        clip_share: share of samples taken from real clips, where there are any.
        path_list: of the photos.
        clip_path_list: of the clips.
        min_side: smaller photos and clips are skipped.
        min_frames: shorter clips are skipped.
        num_clips: how many different ones; None takes as many as there are photos and clips.
        max_speed: of the background, HR pixels a frame; what is in front moves up to twice as fast.

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
        clip_path_list: str | Path | None = None,
        min_side: int = 200,
        min_frames: int = 2,
        num_clips: int | None = None,
        max_speed: float = 10.0,
    ) -> None:
        self._photos = ImageFolder(root, path_list, min_side=min_side)
        self._clips = (
            None
            if clip_root is None
            else ClipFolder(clip_root, clip_path_list, min_side=min_side, min_frames=min_frames)
        )
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
        layers = [self._layer(index, num_frames, size, rng)]
        sprites = rng.integers(len(self._photos), size=int(rng.choice(_MAX_LAYERS, p=[0.4, 0.4, 0.2])))
        layers += [self._layer(int(photo), num_frames, size, rng, is_sprite=True) for photo in sprites]
        frames = np.empty((num_frames, *size, 3), np.uint8)
        for frame in range(num_frames):
            picture: Image = np.zeros((), np.float32)
            for number, (canvas, motion) in enumerate(layers):
                seen = motion.view(canvas, frame, size)
                if number == 0:
                    picture = seen
                else:
                    mask = seen[..., 3:].clip(0, 1)
                    picture = picture + (seen[..., :3] - picture) * mask
            frames[frame] = (picture * 255 + 0.5).clip(0, 255)  # 8 bit, as footage is
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float().div(255)
        return SourceClip(pixels, None, self.name(index))

    def _layer(
        self,
        index: int,
        num_frames: int,
        size: tuple[int, int],
        rng: np.random.Generator,
        *,
        is_sprite: bool = False,
    ) -> tuple[Image, LayerMotion]:
        canvas = self._photo(index % len(self._photos), size, rng).permute(1, 2, 0).contiguous().numpy()
        if is_sprite:
            mask = soft_blob(rng, max(canvas.shape[:2]))[: canvas.shape[0], : canvas.shape[1]]
            canvas = np.dstack([canvas, mask])
        motion = LayerMotion.draw(rng, num_frames, size, max_speed=self._max_speed, is_sprite=is_sprite)
        return canvas, motion

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
