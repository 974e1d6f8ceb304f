"""Planes of integers, as other programs hold a frame, to RGB and back: through the same arithmetic as files."""

from __future__ import annotations

from collections.abc import Sequence

import av
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .colour_tags import ColourTags
from .pixels import frame_bit_depth, frame_to_pixels, pixels_to_frame, plane_array

Plane = NDArray[np.generic]


def planes_to_pixels(
    planes: Sequence[Plane], pixel_format: str, tags: ColourTags, *, is_center_sited: bool = False
) -> Tensor:
    """Convert the planes of a frame.

    Args:
        planes: ``(h, w)`` each, uint8 or uint16, in FFmpeg's order (G, B, R for RGB).
        pixel_format: planar, FFmpeg's name.
        tags: of the clip; what is untagged is filled in as for files.
        is_center_sited: see ``pixels.frame_to_pixels``.

    Returns:
        ``(3, h, w)`` float32 RGB in [0, 1].
    """
    h, w = planes[0].shape
    picture = av.VideoFrame(w, h, pixel_format)
    dtype = np.uint8 if frame_bit_depth(pixel_format) == 8 else np.uint16
    for target, plane in zip(picture.planes, planes, strict=True):
        plane_array(target, dtype)[:] = plane
    return frame_to_pixels(picture, tags, is_center_sited=is_center_sited)[0]


def pixels_to_planes(pixels: Tensor, pixel_format: str, tags: ColourTags) -> list[Plane]:
    """Convert ``(3, h, w)`` float RGB in [0, 1] to planes ``(h, w)`` of uint8 or uint16; see ``planes_to_pixels``."""
    picture = pixels_to_frame(pixels, pixel_format, tags)
    dtype = np.uint8 if frame_bit_depth(pixel_format) == 8 else np.uint16
    return [plane_array(plane, dtype) for plane in picture.planes]
