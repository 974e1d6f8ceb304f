"""Rotation and mirroring that a file asks the player to apply."""

from __future__ import annotations

import struct
from typing import Any, cast

import av
from torch import Tensor

DisplayMatrix = tuple[int, int, int, int]
"""Signs ``(a, b, c, d)``: a player shows source point ``(x, y)`` at ``(a x + c y, b x + d y)``."""
UPRIGHT: DisplayMatrix = (1, 0, 0, 1)


def side_data_bytes(frame: av.VideoFrame, name: str) -> bytes | None:
    """Return one entry of a frame's side data, or None.

    Raises:
        ValueError: PyAV refuses to list side data when any entry is of a type it does not know (EXIF).
    """
    entry = cast(Any, frame.side_data).get(name)
    return None if entry is None else bytes(entry)


def display_matrix(frame: av.VideoFrame) -> DisplayMatrix:
    """Return the signs of the frame's display matrix; upright when it has none or turns by odd angles."""
    try:
        side_data = side_data_bytes(frame, "DISPLAYMATRIX")
    except ValueError:
        # The angle still reads, mirroring does not.
        return _FROM_ANGLE.get(round(frame.rotation) % 360, UPRIGHT)
    if side_data is None or len(side_data) < 36:
        return UPRIGHT
    a, b, _, c, d = struct.unpack("=5i", side_data[:20])
    signs = tuple((value > 32768) - (value < -32768) for value in (a, b, c, d))
    if signs in _STEPS:
        return signs
    return UPRIGHT


# display matrix -> (clockwise quarter turns, mirrored left-right afterwards)
_STEPS: dict[tuple[int, ...], tuple[int, bool]] = {
    (1, 0, 0, 1): (0, False),
    (0, 1, -1, 0): (1, False),
    (-1, 0, 0, -1): (2, False),
    (0, -1, 1, 0): (3, False),
    (-1, 0, 0, 1): (0, True),
    (0, 1, 1, 0): (1, True),
    (1, 0, 0, -1): (2, True),
    (0, -1, -1, 0): (3, True),
}

# counter-clockwise degrees
_FROM_ANGLE: dict[int, DisplayMatrix] = {0: UPRIGHT, 90: (0, -1, 1, 0), 180: (-1, 0, 0, -1), 270: (0, 1, -1, 0)}


def rotation_degrees(matrix: DisplayMatrix) -> int:
    """Clockwise rotation from stored to displayed: 0, 90, 180 or 270."""
    return _STEPS[matrix][0] * 90


def swaps_sides(matrix: DisplayMatrix) -> bool:
    """Whether width and height change places."""
    return _STEPS[matrix][0] % 2 == 1


def as_displayed(pixels: Tensor, matrix: DisplayMatrix) -> Tensor:
    """Rotate and mirror ``(C, h, w)`` pixels to how they are displayed."""
    turns, is_mirrored = _STEPS[matrix]
    if turns:
        pixels = pixels.rot90(-turns, dims=(-2, -1))
    if is_mirrored:
        pixels = pixels.flip(-1)
    return pixels.contiguous()
