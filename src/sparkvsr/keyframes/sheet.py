"""The contact sheet: all keyframes of a clip in one picture to look at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from sparkvsr.video.pixels import resize_image

TILE_WIDTH = 320
GAP_PX = 8
LABEL_PX = 24
MAX_TILES = 200
"""More do not make a picture that anybody reads; the sheet then shows an even choice."""


@dataclass(frozen=True)
class SheetTile:
    """One picture of the sheet: ``thumbnail`` is ``(3, h, w)`` in [0, 1]."""

    index: int
    time_seconds: float
    shot: int
    thumbnail: Tensor


def thumbnail(image: Tensor) -> Tensor:
    """An image at the sheet's width, ``(3, h, 320)`` in [0, 1]."""
    h, w = image.shape[-2:]
    return resize_image(image, (max(8, round(h * TILE_WIDTH / w)), TILE_WIDTH))


def format_time(seconds: float) -> str:
    """``95.4`` to ``1:35.40``."""
    minutes, rest = divmod(max(0.0, seconds), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:05.2f}" if hours else f"{minutes}:{rest:05.2f}"


def contact_sheet(tiles: Sequence[SheetTile], columns: int | None = None) -> Tensor:
    """Join the tiles, labelled with frame index, time and shot.

    Args:
        tiles: at least one, thumbnails of one size.
        columns: default: about as wide as high, at most 6.

    Returns:
        ``(3, H, W)`` float32 in [0, 1], even sides.
    """
    if len(tiles) > MAX_TILES:
        tiles = [tiles[k * len(tiles) // MAX_TILES] for k in range(MAX_TILES)]
    h, w = tiles[0].thumbnail.shape[-2:]
    columns = columns or min(6, max(1, math.ceil(math.sqrt(len(tiles) * (h + LABEL_PX) / w))))
    columns = min(columns, len(tiles))
    rows = math.ceil(len(tiles) / columns)
    cell_h, cell_w = h + LABEL_PX + GAP_PX, w + GAP_PX
    height, width = rows * cell_h + GAP_PX, columns * cell_w + GAP_PX
    sheet = torch.full((3, height + height % 2, width + width % 2), 0.12)
    for k, tile in enumerate(tiles):
        top, left = GAP_PX + (k // columns) * cell_h, GAP_PX + (k % columns) * cell_w
        sheet[:, top : top + h, left : left + w] = tile.thumbnail
        text = f"{tile.index}  {format_time(tile.time_seconds)}  shot {tile.shot}"
        sheet[:, top + h : top + h + LABEL_PX, left : left + w] = _label(text, w)
    return sheet


def _label(text: str, width: int) -> Tensor:
    canvas = np.full((LABEL_PX, width), 31, np.uint8)
    cv2.putText(canvas, text, (2, LABEL_PX - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 235, 1, cv2.LINE_AA)
    return torch.from_numpy(canvas).float()[None].div(255).expand(3, -1, -1)
