"""Procedural clips: textures that move, rendered when asked for. Exact, endless and in need of no files.

A clip is a few layers, each a texture (filtered noise, checkers, stripes, discs, letters-like strokes) under a smooth
motion (pan, zoom, rotation, sway), the upper ones cut out by soft-edged shapes, so that things occlude each other. It
knows nothing about degradation or keyframes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.data.sources import SourceClip
from sparkvsr.errors import DatasetError

Image = NDArray[np.float32]

# Canvases are larger than the crop, so that motion brings new content in; beyond it they repeat mirrored.
_CANVAS_MARGIN = 1.5


@dataclass(frozen=True)
class Motion:
    """Smooth motion of a layer, in pixels, radians and factors per frame."""

    velocity: tuple[float, float]
    sway: tuple[float, float]
    sway_period: float
    phase: float
    rotation: float
    zoom: float

    @classmethod
    def draw(cls, rng: np.random.Generator, speed: float) -> Motion:
        """Random motion of at most about ``speed`` pixels a frame."""
        angle, amount = rng.uniform(0, 2 * np.pi), speed * rng.uniform(0, 1) ** 1.5
        return cls(
            velocity=(float(amount * np.cos(angle)), float(amount * np.sin(angle))),
            sway=(float(rng.normal(0, speed)), float(rng.normal(0, speed))),
            sway_period=float(rng.uniform(12, 40)),
            phase=float(rng.uniform(0, 2 * np.pi)),
            rotation=float(rng.normal(0, 0.004)),
            zoom=float(rng.normal(0, 0.003)),
        )

    def matrix(self, time: float) -> NDArray[np.float64]:
        """``(2, 3)``: from a pixel, relative to the crop's centre, to the layer's canvas, in pixels."""
        swing = np.sin(2 * np.pi * time / self.sway_period + self.phase) - np.sin(self.phase)
        x = self.velocity[0] * time + self.sway[0] * swing
        y = self.velocity[1] * time + self.sway[1] * swing
        angle, scale = self.rotation * time, float(np.exp(self.zoom * time))
        cosine, sine = np.cos(angle) * scale, np.sin(angle) * scale
        return np.array([[cosine, -sine, x], [sine, cosine, y]])


class SyntheticClips:
    """Clips of procedural textures in motion.

    Args:
        num_clips: how many different ones.
        seed: of the set; two seeds share no clip.
        max_speed: of a layer, in HR pixels a frame.

    Raises:
        DatasetError: ``num_clips`` is below 1.
    """

    def __init__(self, num_clips: int = 512, seed: int = 0, max_speed: float = 6.0) -> None:
        if num_clips < 1:
            msg = f"data: num_clips={num_clips} must be at least 1"
            raise DatasetError(msg)
        self._num_clips, self._seed, self._max_speed = num_clips, seed, max_speed

    def __len__(self) -> int:
        """How many different clips there are."""
        return self._num_clips

    def sample(self, index: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> SourceClip:
        """See ``ClipSource.sample``; ``rng`` picks the moment, the clip itself is fixed by its index."""
        fixed = np.random.default_rng([self._seed, index])
        start = float(rng.integers(0, 24))
        times = [start + frame for frame in range(num_frames)]
        frames = _layer(fixed, size, self._max_speed / 2, times)[0]
        for _ in range(int(fixed.integers(1, 4))):
            layer, mask = _layer(fixed, size, self._max_speed, times, cut_out=True)
            frames = frames * (1 - mask) + layer * mask
        return SourceClip(frames.clamp(0, 1), None, f"synthetic {index}")


def _layer(
    rng: np.random.Generator, size: tuple[int, int], speed: float, times: list[float], *, cut_out: bool = False
) -> tuple[Tensor, Tensor]:
    """Moving texture ``(F, 3, H, W)`` and, for a cut-out, its mask ``(F, 1, H, W)``."""
    side = int(max(size) * _CANVAS_MARGIN)
    canvas = torch.from_numpy(_texture(rng, side)).permute(2, 0, 1)
    if cut_out:
        canvas = torch.cat([canvas, torch.from_numpy(soft_blob(rng, side))[None]])
    motion = Motion.draw(rng, speed)
    moved = warp_canvas(canvas, size, [motion.matrix(time) for time in times])
    return moved[:, :3], moved[:, 3:]


def warp_canvas(canvas: Tensor, size: tuple[int, int], matrices: list[NDArray[np.float64]]) -> Tensor:
    """Views of a still canvas.

    Args:
        canvas: ``(C, S, T)`` float.
        size: ``(H, W)`` of a view.
        matrices: per view ``(2, 3)``, from pixels around the view's centre to pixels around the canvas' centre.

    Returns:
        ``(len(matrices), C, H, W)``; outside the canvas it repeats mirrored.
    """
    height, width = size
    canvas_height, canvas_width = canvas.shape[-2:]
    normalised = []
    for matrix in matrices:
        theta = np.array(matrix)
        # grid_sample wants both sides in units of half a side
        theta[0] *= np.array([width / canvas_width, height / canvas_width, 2 / canvas_width])
        theta[1] *= np.array([width / canvas_height, height / canvas_height, 2 / canvas_height])
        normalised.append(theta)
    grid = F.affine_grid(
        torch.from_numpy(np.stack(normalised)).float(), [len(matrices), 1, height, width], align_corners=False
    )
    source = canvas[None].expand(len(matrices), -1, -1, -1)
    return F.grid_sample(source, grid, mode="bicubic", padding_mode="reflection", align_corners=False)


def _texture(rng: np.random.Generator, side: int) -> Image:
    """``(side, side, 3)`` in [0, 1]."""
    kinds: tuple[Callable[[np.random.Generator, int], Image], ...] = (_clouds, _checkers, _stripes, _strokes, _discs)
    grey = kinds[rng.integers(len(kinds))](rng, side)
    grey = 0.75 * grey + 0.25 * _clouds(rng, side)
    low, high = rng.uniform(0, 0.5, 3), rng.uniform(0.5, 1, 3)
    if rng.random() < 0.5:
        low, high = high, low
    return (low + (high - low) * grey[..., None]).astype(np.float32)


def _grid(side: int) -> tuple[Image, Image]:
    y, x = np.mgrid[0:side, 0:side].astype(np.float32)
    return y, x


def _clouds(rng: np.random.Generator, side: int) -> Image:
    """Noise at several scales with a natural fall-off."""
    total = torch.zeros(1, 1, side, side)
    roughness = rng.uniform(0.45, 0.8)
    for octave, cells in enumerate((4, 8, 16, 32, 64, 128, 256)):
        if cells > side // 2:
            break
        noise = torch.from_numpy(rng.standard_normal((1, 1, cells, cells)).astype(np.float32))
        scaled = F.interpolate(noise, (side, side), mode="bicubic", align_corners=False)
        total += scaled * roughness**octave
    flat = total[0, 0].numpy()
    return np.clip(0.5 + 0.2 * flat / max(float(flat.std()), 1e-6), 0, 1)


def _checkers(rng: np.random.Generator, side: int) -> Image:
    y, x = _grid(side)
    angle, cell = rng.uniform(0, np.pi), rng.uniform(6, 40)
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    # A steep sine instead of a hard step: a sampled step would alias already in the HR frame.
    waves = np.sin(np.pi * u / cell) * np.sin(np.pi * v / cell)
    return np.clip(0.5 + waves * cell / 3, 0, 1).astype(np.float32)


def _stripes(rng: np.random.Generator, side: int) -> Image:
    y, x = _grid(side)
    angle, period = rng.uniform(0, np.pi), rng.uniform(6, 40)
    bend = 1 + rng.uniform(0, 6) * np.sin(2 * np.pi * (x * np.sin(angle) + y * np.cos(angle)) / rng.uniform(80, 300))
    waves = np.sin(2 * np.pi * (x * np.cos(angle) + y * np.sin(angle)) / period + bend)
    return np.clip(0.5 + waves * period / 8, 0, 1).astype(np.float32)


def _strokes(rng: np.random.Generator, side: int) -> Image:
    """Short straight lines, as in print and foliage."""
    y, x = _grid(side)
    canvas = np.zeros((side, side), np.float32)
    for _ in range(int(rng.integers(40, 120))):
        cx, cy = rng.uniform(0, side, 2)
        angle, length, thick = rng.uniform(0, np.pi), rng.uniform(8, 50), rng.uniform(1.2, 4)
        reach = int(length + thick + 3)
        rows = slice(max(0, int(cy) - reach), min(side, int(cy) + reach))
        columns = slice(max(0, int(cx) - reach), min(side, int(cx) + reach))
        dx, dy = x[rows, columns] - cx, y[rows, columns] - cy
        along, across = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        distance = np.hypot(np.maximum(np.abs(along) - length / 2, 0), across)
        canvas[rows, columns] = np.maximum(canvas[rows, columns], np.clip(thick / 2 + 0.5 - distance, 0, 1))
    return canvas


def _discs(rng: np.random.Generator, side: int) -> Image:
    y, x = _grid(side)
    canvas = np.full((side, side), 0.5, np.float32)
    for _ in range(int(rng.integers(20, 60))):
        cx, cy = rng.uniform(0, side, 2)
        radius, value = rng.uniform(3, 40), rng.uniform(0, 1)
        reach = int(radius + 3)
        rows = slice(max(0, int(cy) - reach), min(side, int(cy) + reach))
        columns = slice(max(0, int(cx) - reach), min(side, int(cx) + reach))
        mask = np.clip(radius + 0.5 - np.hypot(x[rows, columns] - cx, y[rows, columns] - cy), 0, 1)
        canvas[rows, columns] += (value - canvas[rows, columns]) * mask
    return canvas


def soft_blob(rng: np.random.Generator, side: int) -> Image:
    """Mask of a rounded shape near the middle, one-pixel soft edge: ``(side, side)`` float32 in [0, 1]."""
    y, x = _grid(side)
    cx, cy = rng.uniform(0.3, 0.7, 2) * side
    angle = np.arctan2(y - cy, x - cx)
    lobes = int(rng.integers(2, 7))
    radius = side * rng.uniform(0.08, 0.25) * (1 + rng.uniform(0, 0.4) * np.sin(lobes * angle + rng.uniform(0, 6)))
    return np.clip(radius + 0.5 - np.hypot(x - cx, y - cy), 0, 1).astype(np.float32)
