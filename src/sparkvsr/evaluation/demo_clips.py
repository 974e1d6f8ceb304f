"""The clips of the ``demo`` bench: textured, moving, computed the same way everywhere, no files."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import cv2
import numpy as np

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.frames import MadeClip
from sparkvsr.metrics.colour import Image8

HEIGHT, WIDTH = 192, 256
# Drawn at twice the size and reduced, so that edges are soft and motion is finer than a pixel.
_OVER = 2


def demo_clip(name: str, num_frames: int) -> MadeClip:
    """One of ``pan``, ``sprites``, ``zoom``.

    Raises:
        ConfigError: another name.
    """
    if name not in _CLIPS:
        msg = f"the demo has no clip {name!r}; there is {', '.join(_CLIPS)}"
        raise ConfigError(msg)
    return MadeClip(name, num_frames, (HEIGHT, WIDTH), _CLIPS[name])


def _pan(index: int) -> Image8:
    """A page of texture and text that slides by, 2.5 pixels a frame across and 1 down."""
    page = _page()
    left, top = 5 * index, 2 * index
    return _reduce(page[top : top + HEIGHT * _OVER, left : left + WIDTH * _OVER])


def _sprites(index: int) -> Image8:
    """Things that cross a still background at different speeds and cover each other."""
    canvas = _page()[40 : 40 + HEIGHT * _OVER, 300 : 300 + WIDTH * _OVER].copy()
    height, width = canvas.shape[:2]
    for number, (colour, speed, row, radius) in enumerate(
        (((230, 90, 60), 9, 0.3, 46), ((60, 160, 240), -13, 0.55, 60), ((250, 210, 70), 17, 0.78, 34))
    ):
        x = int((width * (0.2 + 0.3 * number) + speed * index) % width)
        y = int(height * row + 14 * np.sin(index / 3 + number))
        cv2.circle(canvas, (x, y), radius, colour, -1, cv2.LINE_AA)
        for ring in range(8, radius, 10):
            cv2.circle(canvas, (x, y), ring, tuple(c // 2 for c in colour), 2, cv2.LINE_AA)
        cv2.putText(canvas, f"{number}{index:02d}", (x - 24, y + 9), cv2.FONT_HERSHEY_SIMPLEX, 0.9, (20, 20, 20), 2)
    return _reduce(canvas)


def _zoom(index: int) -> Image8:
    """The page turning and growing slowly."""
    page = _page()
    centre = (420.0, 330.0)
    matrix = cv2.getRotationMatrix2D(centre, 0.8 * index, 1 + 0.012 * index)
    matrix[:, 2] += np.array([WIDTH * _OVER / 2 - centre[0], HEIGHT * _OVER / 2 - centre[1]])
    turned = cv2.warpAffine(page, matrix, (WIDTH * _OVER, HEIGHT * _OVER), flags=cv2.INTER_LINEAR,
                            borderMode=cv2.BORDER_REFLECT_101)  # fmt: skip
    return _reduce(np.asarray(turned, dtype=np.uint8))


@cache
def _page() -> Image8:
    """A large picture with noise of several scales, stripes, bricks and text."""
    height, width = 700, 1000
    rng = np.random.default_rng(20240601)
    page = np.zeros((height, width, 3), np.float32)
    for cell, strength in ((160, 60), (48, 30), (16, 14), (6, 5)):
        cells = (height // cell + 2, width // cell + 2)
        # Mostly grey, as pictures are.
        grid = (rng.standard_normal((*cells, 1)) + 0.3 * rng.standard_normal((*cells, 3))).astype(np.float32)
        page += strength * np.asarray(cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC))
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    page += (18 * np.sin((columns + 0.6 * rows) / 9) * (np.sin(rows / 90) > 0))[..., None]
    bricks = ((columns + 32 * (rows // 34 % 2)) % 64 < 4) | (rows % 34 < 4)
    page -= (45 * (bricks & (columns > 520)))[..., None]
    image = np.clip(page + 120, 0, 255).astype(np.uint8)
    words = ("SparkVSR", "every word", "0123456789", "thin strokes", "Quality")
    for number in range(14):
        position = (int(rng.integers(0, width - 200)), int(rng.integers(30, height - 10)))
        shade = 245 if number % 2 else 15
        scale = 1.0 + 0.35 * (number % 4)
        cv2.putText(image, words[number % 5], position, cv2.FONT_HERSHEY_DUPLEX, scale, (shade,) * 3, 2, cv2.LINE_AA)
    return image


def _reduce(frame: Image8) -> Image8:
    return np.asarray(cv2.resize(frame, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), dtype=np.uint8)


_CLIPS: dict[str, Callable[[int], Image8]] = {"pan": _pan, "sprites": _sprites, "zoom": _zoom}
