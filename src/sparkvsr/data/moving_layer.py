"""One layer of a made clip: a picture under a motion as cameras and things have it, with the blur of its exposure.

Images are float32 ``(H, W, C)`` in [0, 1]; positions and displacements are (x, y) in HR pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Image = NDArray[np.float32]

_SLOWEST = 0.2
_BENT_SHARE = 0.35
_BLURRED_SHARE = 0.5
_DEFOCUSED_SHARE = 0.15
_SHORTEST_BLUR = 1.2


@dataclass(frozen=True)
class LayerMotion:
    """Where a layer is, and how blurred, over time.

    Attributes:
        matrices: ``(F, 2, 3)``, from a pixel around the view's centre to one around the canvas' centre.
        bend: ``(H, W, 2)``, a smooth displacement; None for a stiff layer.
        swing: ``(F, 2)``, its factors over time.
        smear: ``(F, 2)``, the way moved while the shutter was open.
        defocus: ``(F,)``, sigma of a Gaussian.
    """

    matrices: NDArray[np.float64]
    bend: Image | None
    swing: NDArray[np.float64]
    smear: NDArray[np.float64]
    defocus: NDArray[np.float64]

    @classmethod
    def draw(
        cls, rng: np.random.Generator, num_frames: int, size: tuple[int, int], *, max_speed: float, is_sprite: bool
    ) -> LayerMotion:
        """Random motion: slow is common, fast is rare; up to ``max_speed`` pixels a frame, a sprite twice that."""
        times = np.arange(num_frames, dtype=np.float64)
        fastest = max_speed * (2 if is_sprite else 1)
        speed = float(np.exp(rng.uniform(np.log(_SLOWEST), np.log(fastest))))
        # 1. where it is: straight on, to and fro, or both; a shaking hand; turning and zooming in half of the layers
        angle, to_and_fro = rng.uniform(0, 2 * np.pi), float(rng.choice([0.0, 0.5, 1.0]))
        period = float(rng.uniform(8, 40))
        along = speed * (1 - to_and_fro) * times
        along = along + to_and_fro * speed * period / (2 * np.pi) * np.sin(2 * np.pi * times / period)
        place = along[:, None] * np.array([np.cos(angle), np.sin(angle)])
        place = place + rng.normal(0, float(rng.choice([0, 0, 0.3, 1.0])), (num_frames, 2))
        stiff = rng.random() < 0.5
        turn, zoom = (0.0, 0.0) if stiff else (rng.normal(0, 0.007), rng.normal(0, 0.006))
        scales, angles = np.exp(zoom * times), turn * times
        cosine, sine = np.cos(angles) * scales, np.sin(angles) * scales
        rows = np.stack([cosine, -sine, place[:, 0]], -1), np.stack([sine, cosine, place[:, 1]], -1)
        # 2. how it bends
        bend, rate = None, float(rng.uniform(0.05, 0.7))
        if rng.random() < _BENT_SHARE:
            cells = (int(rng.integers(3, 9)), int(rng.integers(3, 9)), 2)
            coarse = rng.standard_normal(cells).astype(np.float32) * rng.uniform(0.5, 8 if is_sprite else 4)
            bend = np.asarray(cv2.resize(coarse, (size[1], size[0]), interpolation=cv2.INTER_CUBIC), np.float32)
        # 3. how sharp it is
        step = np.gradient(place, axis=0) if num_frames > 1 else np.zeros((1, 2))
        shutter = float(rng.uniform(0.3, 1.0)) if rng.random() < _BLURRED_SHARE else 0.0
        focus = float(rng.uniform(0.5, 2.5)) if rng.random() < _DEFOCUSED_SHARE else 0.0
        defocus = focus * np.abs(np.sin(2 * np.pi * times / rng.uniform(16, 80) + rng.uniform(0, 6)))
        return cls(
            np.stack(rows, axis=1),
            bend,
            np.stack([np.sin(rate * times), np.cos(rate * times) - 1], -1),
            shutter * step,
            defocus,
        )

    def view(self, canvas: Image, frame: int, size: tuple[int, int]) -> Image:
        """The layer at a frame, ``(H, W, C)``; beyond the canvas it repeats mirrored."""
        height, width = size
        ys, xs = np.mgrid[0:height, 0:width].astype(np.float32)
        xs -= (width - 1) / 2
        ys -= (height - 1) / 2
        (a, b, x), (c, d, y) = self.matrices[frame]
        map_x = a * xs + b * ys + (x + (canvas.shape[1] - 1) / 2)
        map_y = c * xs + d * ys + (y + (canvas.shape[0] - 1) / 2)
        if self.bend is not None:
            map_x += self.bend[..., 0] * self.swing[frame, 0]
            map_y += self.bend[..., 1] * self.swing[frame, 1]
        maps = np.asarray(map_x, np.float32), np.asarray(map_y, np.float32)
        seen = cv2.remap(canvas, *maps, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        kernel = line_kernel(self.smear[frame])
        if kernel is not None:
            seen = cv2.filter2D(seen, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        if self.defocus[frame] > 0.2:
            seen = cv2.GaussianBlur(seen, (0, 0), self.defocus[frame])
        return np.asarray(seen, np.float32)


def line_kernel(way: NDArray[np.float64]) -> Image | None:
    """Kernel that averages along a way; None where that is too short to be seen."""
    length = float(np.hypot(*way))
    if length < _SHORTEST_BLUR:
        return None
    reach = int(np.ceil(length / 2))
    steps = np.linspace(-0.5, 0.5, 8 * reach + 1)
    kernel = np.zeros((2 * reach + 3, 2 * reach + 3), np.float32)
    for x, y in steps[:, None] * way:
        column, row = int(np.floor(x)), int(np.floor(y))
        right, down = x - column, y - row
        for i, j, weight in (
            (0, 0, (1 - down) * (1 - right)),
            (0, 1, (1 - down) * right),
            (1, 0, down * (1 - right)),
            (1, 1, down * right),
        ):
            kernel[reach + 1 + row + i, reach + 1 + column + j] += weight
    return kernel / kernel.sum()
