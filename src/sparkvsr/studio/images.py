"""Images of a project by their hash: read within bounds, kept once. Imported only where torch is (``pictures.py``)."""

from __future__ import annotations

import hashlib
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import DecodeError, KeyframeError
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.studio.files import inside, write_file
from sparkvsr.video import read_image
from sparkvsr.video.images import encode_image

MAX_UPLOAD_PIXELS = 40_000_000
"""8K has 33 million; decoding takes 12 bytes of memory for each."""


def load_image(path: Path) -> Tensor:
    """``(3, a, b)`` float32 in [0, 1]; no link, and no more than so many pixels."""
    return read_image(path, MAX_UPLOAD_PIXELS)


def keep_tensor(project: Path, pixels: Tensor) -> str:
    """Keep an image ``(3, a, b)`` in [0, 1]; its name."""
    return keep_png(project, "candidates", encode_image(pixels, ".png", bits=8))


def keep_file(project: Path, waiting: Path, lr_size: tuple[int, int] | None) -> str:
    """Keep an image file that somebody sent: decoded within bounds, PNG as it is, others made PNG.

    Args:
        project: folder of the project.
        waiting: PNG, JPEG, WebP, TIFF or BMP.
        lr_size: ``(h, w)`` of the clip, whose aspect ratio the image must have; None keeps any (masks).

    Returns:
        Its name.

    Raises:
        KeyframeError: too large, not an image, or of another shape than the clip.
    """
    try:
        pixels = load_image(waiting)
    except DecodeError as exc:
        msg = (
            f"this is not an image that can be used: PNG, JPEG, WebP, TIFF or BMP of up to "
            f"{MAX_UPLOAD_PIXELS // 10**6} million pixels; save it as PNG"
        )
        raise KeyframeError(msg) from exc
    height, width = pixels.shape[-2:]
    if height * width > MAX_UPLOAD_PIXELS:
        msg = f"the image is {width}x{height}; up to {MAX_UPLOAD_PIXELS // 10**6} million pixels are taken"
        raise KeyframeError(msg)
    if lr_size is not None and abs(width / height / (lr_size[1] / lr_size[0]) - 1) > ASPECT_TOLERANCE:
        msg = (
            f"the image is {width}x{height}, the clip {lr_size[1]}x{lr_size[0]}: another shape; "
            f"crop or pad it, for example to {4 * lr_size[1]}x{4 * lr_size[0]}"
        )
        raise KeyframeError(msg)
    data = waiting.read_bytes()
    if not data.startswith(b"\x89PNG\r\n\x1a\n"):
        data = encode_image(pixels, ".png", bits=8)
    return keep_png(project, "candidates" if lr_size is not None else "masks", data)


def keep_png(project: Path, folder: str, data: bytes) -> str:
    """Keep a PNG file in one of a project's folders under its hash, which is given back."""
    name = hashlib.sha256(data).hexdigest()[:32]
    path = inside(project, folder, f"{name}.png")
    if not path.is_file():
        write_file(path, data)
    return name
