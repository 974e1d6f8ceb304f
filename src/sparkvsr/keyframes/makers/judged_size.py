"""Whether an image can be what is wanted, by the size in its header: a small file can unpack to gigabytes."""

from __future__ import annotations

from pathlib import Path

from sparkvsr.errors import DecodeError, KeyframeError
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.video.declared_size import declared_size
from sparkvsr.video.images import MAX_IMAGE_BYTES, sniff_image

MIN_LIMIT_PX = 4096 * 4096
"""Images up to this many pixels are always decoded: 200 MB in float."""

MAX_AREA_FACTOR = 16
"""Above that, how many times the wanted area an image may have: a tool that always gives x4 where x1 is wanted."""


def judge_declared(path: Path, lr_size: tuple[int, int], size: tuple[int, int], source: str) -> None:
    """Refuse an image that could not be used, or is far too large, without decoding it.

    Args:
        path: the image.
        lr_size: ``(h, w)`` of the frame it stands for.
        size: ``(H, W)`` wanted.
        source: where it comes from, for the message.

    Raises:
        KeyframeError: another aspect ratio, or far more pixels than wanted.
    """
    try:
        codec = sniff_image(path)
        if codec is None or path.stat().st_size > MAX_IMAGE_BYTES:
            return  # as above, before all of it lies in memory
        declared = declared_size(path.read_bytes(), codec)
    except (OSError, DecodeError):
        return  # reading it says what is wrong
    if declared is None:
        return
    (a, b), (h, w) = declared, lr_size
    limit = max(MIN_LIMIT_PX, MAX_AREA_FACTOR * size[0] * size[1])
    if a * b > limit:
        msg = f"{source} is {b}x{a}, where {size[1]}x{size[0]} is wanted; make it smaller (at most {limit:,} pixels)"
        raise KeyframeError(msg)
    # EXIF may turn it, so it may fit either way; with the pixels at hand it is judged again.
    slack = max(ASPECT_TOLERANCE, 1.0 / min(h, w)) + 0.5 / max(1, min(a, b))
    if a * b > MIN_LIMIT_PX // 16 and all(abs((x / y) / (w / h) - 1) > slack for x, y in ((b, a), (a, b))):
        msg = f"{source} is {b}x{a} (aspect {b / a:.3f}), the frame is {w}x{h} ({w / h:.3f}); crop or pad it"
        raise KeyframeError(msg)
