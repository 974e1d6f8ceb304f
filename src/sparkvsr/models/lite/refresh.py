"""Where no picture can be carried to a frame, the frame itself is upscaled by the network of the keyframes: only there.

What moves without order (water, fire, wings, leaves) is shown as sharp as a keyframe that way, and what can be followed
costs nothing. The rest is decided on the LR grid alone, so it does not depend on the network's precision or tiles.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.models.lite.cpu_kernels import to_numpy, to_tensor
from sparkvsr.models.lite.network import SCALE
from sparkvsr.models.lite.vivid import blend, box

TRUSTED = 0.5
"""Below this share, as a mean over 5x5 LR pixels, a place is made anew."""

# A patch costs its surroundings too, so small ones hardly pay. Measured on Big Buck Bunny at 320x180: 3% of the pixels
# are needed, 8% of a frame is computed; with half as strict limits 11%, with stricter ones a blurred car stays blurred.
_BLOCK = 4
_MARGIN = 4
_NEAR = 2
_AROUND = 17
_DENSE = 0.25
_EFFICIENT = 0.25
# From here on the whole frame is no dearer.
_WHOLE = 0.7
# Above this share what is there stays; between it and TRUSTED both are blended.
_ENOUGH = 0.75

Part = tuple[int, int, int, int]
"""Top, bottom, left, right of a rectangle, LR pixels, half open."""


@dataclass
class Patch:
    """A part of a frame, made from the frame itself.

    Attributes:
        top, left: of the part, LR pixels.
        picture: ``(1, 3, 4h, 4w)``.
        share: ``(1, 1, h, w)`` in [0, 1], how far it replaces what is there.
    """

    top: int
    left: int
    picture: Tensor
    share: Tensor

    def put_on(self, image: Tensor) -> None:
        """Lay it over ``(1, 3, 4H, 4W)``, in place."""
        top, left = SCALE * self.top, SCALE * self.left
        there = image[:, :, top : top + self.picture.shape[-2], left : left + self.picture.shape[-1]]
        there.copy_(blend(there, self.picture, self.share))


def refreshed(fine: Tensor, covered: Tensor, upscale: Callable[[Tensor], Tensor]) -> tuple[list[Patch], Tensor]:
    """Make anew what is not covered.

    Args:
        fine: the frame, ``(1, 3, uh, uw)``: at x4 u is 1, at x2 it is 2.
        covered: ``(1, 1, h, w)`` in [0, 1], how far what was carried here is trusted.
        upscale: ``(3, uh, uw)`` to ``(3, 4h, 4w)``.

    Returns:
        Parts of the frame, which do not overlap, and ``covered`` with them.
    """
    around = box(covered, 5)
    needed = worthwhile(to_numpy(around) < TRUSTED)
    parts = _parts(needed)
    if not parts:
        return [], covered
    h, w = needed.shape
    u = fine.shape[-2] // h
    share = np.zeros((h, w), np.float32)
    for y0, y1, x0, x1 in parts:
        share[y0:y1, x0:x1] = 1
    # Soft borders; what is trusted within a part stays.
    feathered = to_tensor(cv2.blur(share, (5, 5), borderType=cv2.BORDER_REPLICATE))
    soft = feathered * ((_ENOUGH - around) / (_ENOUGH - TRUSTED)).clamp(0, 1)
    patches = []
    for y0, y1, x0, x1 in parts:
        top, bottom, left, right = _with_surroundings((y0, y1, x0, x1), (h, w))
        made = upscale(fine[0, :, u * top : u * bottom, u * left : u * right])
        inner = made[:, SCALE * (y0 - top) : SCALE * (y1 - top), SCALE * (x0 - left) : SCALE * (x1 - left)]
        patches.append(Patch(y0, x0, inner[None], soft[:, :, y0:y1, x0:x1]))
    return patches, torch.maximum(covered, soft)


def _with_surroundings(part: Part, size: tuple[int, int]) -> Part:
    y0, y1, x0, x1 = part
    return max(0, y0 - _MARGIN), min(size[0], y1 + _MARGIN), max(0, x0 - _MARGIN), min(size[1], x1 + _MARGIN)


def _area(part: Part) -> int:
    y0, y1, x0, x1 = part
    return (y1 - y0) * (x1 - x0)


def worthwhile(needed: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """``(h, w)`` without what lies too scattered for a patch to be worth its surroundings."""
    density = cv2.blur(needed.astype(np.float32), (_AROUND, _AROUND), borderType=cv2.BORDER_REFLECT)
    return np.asarray(needed & (density >= _DENSE))


def _parts(needed: NDArray[np.bool_]) -> list[Part]:
    """Rectangles of whole blocks around what is needed, apart from each other, as far as they are worth it."""
    h, w = needed.shape
    side = 2 * _NEAR + 1
    near = cv2.dilate(needed.astype(np.uint8), np.ones((side, side), np.uint8))
    near = np.pad(near, ((0, -h % _BLOCK), (0, -w % _BLOCK)))
    blocks = near.reshape(near.shape[0] // _BLOCK, _BLOCK, -1, _BLOCK).max(axis=(1, 3))
    parts = []
    for y0, y1, x0, x1 in _rectangles(blocks):
        part = (y0 * _BLOCK, min(h, y1 * _BLOCK), x0 * _BLOCK, min(w, x1 * _BLOCK))
        wanted = float(needed[part[0] : part[1], part[2] : part[3]].sum())
        if wanted >= _EFFICIENT * _area(_with_surroundings(part, (h, w))):
            parts.append(part)
    whole = (0, h, 0, w)
    return [whole] if sum(_area(_with_surroundings(part, (h, w))) for part in parts) >= _WHOLE * h * w else parts


def _rectangles(blocks: NDArray[np.uint8]) -> list[Part]:
    """Around each group of neighbours; those that would overlap or touch are one."""
    while True:
        _, _, stats, _ = cv2.connectedComponentsWithStats(blocks, connectivity=8)
        filled = blocks.copy()
        found = [(top, top + height, left, left + width) for left, top, width, height in stats[1:, :4].tolist()]
        for y0, y1, x0, x1 in found:
            filled[y0:y1, x0:x1] = 1
        if (filled == blocks).all():
            return found
        blocks = filled
