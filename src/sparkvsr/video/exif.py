"""The one EXIF field that changes pixels: the orientation of a still image, read from the file's own bytes.

PyAV cannot hand over mirrored orientations when a frame carries EXIF side data, so the tag is read here.
"""

from __future__ import annotations

import struct

from .orientation import UPRIGHT, DisplayMatrix

_ORIENTATION_TAG = 0x112
_MATRICES: dict[int, DisplayMatrix] = {
    2: (-1, 0, 0, 1),
    3: (-1, 0, 0, -1),
    4: (1, 0, 0, -1),
    5: (0, 1, 1, 0),
    6: (0, 1, -1, 0),
    7: (0, -1, -1, 0),
    8: (0, -1, 1, 0),
}
_MAX_SEGMENTS = 256


def exif_orientation(data: bytes, codec: str) -> DisplayMatrix:
    """Return how an image file asks to be turned; upright when it does not say, or says nonsense.

    Args:
        data: the whole file.
        codec: FFmpeg's name of its decoder (``mjpeg``, ``png``, ``webp``, ``tiff``, ``bmp``).
    """
    find = {"mjpeg": _jpeg_exif, "png": _png_exif, "webp": _webp_exif, "tiff": lambda whole: whole}.get(codec)
    try:
        tiff = find(data) if find is not None else b""
        return _MATRICES.get(_orientation(tiff), UPRIGHT)
    except struct.error:  # cut short
        return UPRIGHT


def _orientation(tiff: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(tiff[:2])
    if order is None:
        return 1
    (offset,) = struct.unpack_from(order + "I", tiff, 4)
    (num_entries,) = struct.unpack_from(order + "H", tiff, offset)
    for entry in range(min(num_entries, _MAX_SEGMENTS)):
        tag, kind, count, value = struct.unpack_from(order + "HHIH", tiff, offset + 2 + 12 * entry)
        if tag == _ORIENTATION_TAG and kind == 3 and count == 1:
            return int(value)
    return 1


def _jpeg_exif(data: bytes) -> bytes:
    position = 2
    for _ in range(_MAX_SEGMENTS):
        marker, size = struct.unpack_from(">HH", data, position)
        if marker >> 8 != 0xFF or marker == 0xFFDA:
            break
        if marker == 0xFFE1 and data[position + 4 : position + 10] == b"Exif\0\0":
            return data[position + 10 : position + 2 + size]
        position += 2 + size
    return b""


def _png_exif(data: bytes) -> bytes:
    position = 8
    for _ in range(_MAX_SEGMENTS):
        size, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"eXIf":
            return data[position + 8 : position + 8 + size]
        if kind in (b"IDAT", b"IEND"):
            break
        position += 12 + size
    return b""


def _webp_exif(data: bytes) -> bytes:
    position = 12
    for _ in range(_MAX_SEGMENTS):
        kind, size = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            payload = data[position + 8 : position + 8 + size]
            return payload.removeprefix(b"Exif\0\0")
        position += 8 + size + size % 2
    return b""
