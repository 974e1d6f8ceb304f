"""Ground-truth clips made from still photos: pans, zooms, rotations, parallax layers, sprites, bending.

Positions are in HR pixels. One call renders one clip; everything random comes from the generator that is passed in.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.uint8]


class MovingLayer:
    """A photo under a similarity transform that changes smoothly in time, optionally cut out by a mask."""

    def __init__(
        self, photos: list[Image], size: tuple[int, int], frames: int, rng: np.random.Generator, *, sprite: bool
    ) -> None:
        """Prepare one layer.

        Args:
            photos: versions of one photo (same size) that are rendered alike, e.g. it and its upscaled copy.
            size: ``(H, W)`` of the clip.
            frames: length of the clip.
            rng: source of randomness.
            sprite: whether the layer is a blob in front instead of a background that fills the frame.
        """
        height, width = size
        self.size = size
        smallest = max(height / photos[0].shape[0], width / photos[0].shape[1]) * 1.08
        shrink = float(np.clip(rng.uniform(0.45, 1.0), min(1.0, smallest), 1.0))
        shape = (round(photos[0].shape[1] * shrink), round(photos[0].shape[0] * shrink))
        self.photos = [cv2.resize(p, shape, interpolation=cv2.INTER_AREA) if shrink < 1 else p for p in photos]
        self.centre = np.array(
            [
                rng.uniform(min(width / 2, shape[0] / 2), max(width / 2, shape[0] - width / 2)),
                rng.uniform(min(height / 2, shape[1] / 2), max(height / 2, shape[1] - height / 2)),
            ]
        )
        speed = float(np.exp(rng.uniform(np.log(0.2), np.log(14 if sprite else 9))))
        angle = rng.uniform(0, 2 * np.pi)
        self.velocity = speed * np.array([np.cos(angle), np.sin(angle)])
        self.bend = rng.uniform(-0.06, 0.06) * speed
        strong = rng.random() < 0.5
        self.zoom_rate = rng.normal(0, 0.006) if strong else 0.0
        self.turn_rate = np.deg2rad(rng.normal(0, 0.4)) if strong else 0.0
        self.shake = rng.normal(0, rng.choice([0, 0.3, 1.0]), (frames, 2))
        self.wave = self._wave(rng) if rng.random() < 0.3 else None
        self.mask = self._blob(rng) if sprite else None

    def _wave(self, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
        height, width = self.size
        coarse = rng.normal(0, 1, (int(rng.integers(3, 9)), int(rng.integers(3, 9)), 2)).astype(np.float32)
        return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC) * rng.uniform(0.5, 4), rng.uniform(
            0.05, 0.5
        )

    def _blob(self, rng: np.random.Generator) -> NDArray[np.float32]:
        height, width = self.size
        yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
        cy, cx = rng.uniform(0.2, 0.8) * height, rng.uniform(0.2, 0.8) * width
        theta = np.arctan2(yy - cy, xx - cx)
        radius = rng.uniform(0.12, 0.4) * height
        for k in (2, 3, 5):
            radius = radius + rng.normal(0, 0.08) * height / k * np.cos(k * theta + rng.uniform(0, 6.28))
        distance = radius - np.hypot(yy - cy, (xx - cx) * rng.uniform(0.5, 1.2))
        return np.clip(distance / rng.uniform(0.8, 3.0) + 0.5, 0, 1).astype(np.float32)

    def render(self, t: float, onto: list[Image]) -> list[Image]:
        """Draw frame ``t`` of every version over ``onto`` (``[None, ...]`` for a background)."""
        height, width = self.size
        yy, xx = np.mgrid[0:height, 0:width].astype(np.float32)
        xx -= width / 2
        yy -= height / 2
        zoom, turn = np.exp(self.zoom_rate * t), self.turn_rate * t
        shake = self.shake[int(t)]
        move = self.velocity * t + shake
        move = move + self.bend * t * t / 10 * np.array([-self.velocity[1], self.velocity[0]]) / (
            np.hypot(*self.velocity) + 1e-6
        )
        a, b = zoom * np.cos(turn), zoom * np.sin(turn)
        map_x = a * xx - b * yy + self.centre[0]
        map_y = b * xx + a * yy + self.centre[1]
        if self.mask is None:
            map_x, map_y = map_x - move[0], map_y - move[1]
        if self.wave is not None:
            field, rate = self.wave
            map_x = map_x + field[..., 0] * np.sin(rate * t)
            map_y = map_y + field[..., 1] * np.cos(rate * t)
        drawn = [
            cv2.remap(
                p,
                map_x.astype(np.float32),
                map_y.astype(np.float32),
                cv2.INTER_CUBIC,
                borderMode=cv2.BORDER_REFLECT_101,
            )
            for p in self.photos
        ]
        if self.mask is None:
            return drawn
        shift = np.float32([[1, 0, move[0]], [0, 1, move[1]]])
        alpha = cv2.warpAffine(self.mask, shift, (width, height))[..., None]
        moved = [
            cv2.warpAffine(d, shift, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
            for d in drawn
        ]
        return [
            np.clip(m * alpha + o * (1 - alpha) + 0.5, 0, 255).astype(np.uint8)
            for m, o in zip(moved, onto, strict=True)
        ]


def render_clip(
    photos: list[list[Image]], size: tuple[int, int], frames: int, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Render a clip from photos, in as many versions as each photo has.

    Args:
        photos: at least 3 photos, each a list of versions of equal size, the same number for all.
        size: ``(H, W)``.
        frames: length.
        rng: source of randomness.

    Returns:
        One ``(frames, H, W, 3)`` uint8 clip for each version.
    """
    versions = len(photos[0])
    layers = [MovingLayer(photos[0], size, frames, rng, sprite=False)]
    sprites = int(rng.choice([0, 0, 1, 1, 2]))
    layers += [MovingLayer(one, size, frames, rng, sprite=True) for one in photos[1 : 1 + sprites]]
    fade = rng.uniform(0.985, 1.015) if rng.random() < 0.15 else 1.0
    clips: list[list[Image]] = [[] for _ in range(versions)]
    for t in range(frames):
        canvas: list[Image] = []
        for layer in layers:
            canvas = layer.render(t, canvas)
        for clip, image in zip(clips, canvas, strict=True):
            clip.append(image if fade == 1.0 else np.clip(image * fade**t, 0, 255).astype(np.uint8))
    return [np.stack(clip) for clip in clips]
