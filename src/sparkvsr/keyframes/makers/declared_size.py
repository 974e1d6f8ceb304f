"""What size an image file says it has, judged before its pixels are decoded: a small file can unpack to gigabytes."""

from __future__ import annotations

import warnings
from pathlib import Path

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.makers.interface import ASPECT_TOLERANCE

MIN_LIMIT_PX = 4096 * 4096
"""Images up to this many pixels are always decoded: 200 MB in float."""

MAX_AREA_FACTOR = 16
"""Above that, how many times the wanted area an image may have: a tool that always gives x4 where x1 is wanted."""


def declared_size(path: Path) -> tuple[int, int] | None:
    """``(height, width)`` by the file's header, before EXIF rotation; None where the header cannot be read.

    Raises:
        KeyframeError: it declares more pixels than Pillow is willing to open (about 179 million).
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                return image.height, image.width
    except Image.DecompressionBombError as exc:
        msg = "it declares more than 178 million pixels"
        raise KeyframeError(msg) from exc
    except Exception:  # noqa: BLE001  (whatever a damaged header makes it raise; decoding says what is wrong)
        return None


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
        declared = declared_size(path)
    except KeyframeError as exc:
        msg = f"{source} is not decoded: {exc}, where {size[1]}x{size[0]} is wanted"
        raise KeyframeError(msg) from exc
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
