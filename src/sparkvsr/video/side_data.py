"""What frames carry beside their pixels, by FFmpeg's names."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import av

_ICC_MARKS = (b"ICC_PROFILE\0", b"iCCP", b"ICCP")
_HEAD_BYTES = 262_144


def side_data_names(frames: Iterable[av.VideoFrame]) -> frozenset[str]:
    """Names of the side data of some frames, such as ``A53_CC`` (captions) or ``DYNAMIC_HDR_PLUS``."""
    names: set[str] = set()
    for frame in frames:
        try:
            # A mapping by PyAV's stubs, a sequence in fact; one entry of a kind newer than its list (EXIF) spoils all.
            names |= {entry.type.name for entry in cast(Iterable[Any], frame.side_data)}
        except ValueError:
            continue
    return frozenset(names)


def image_side_data(path: Path) -> frozenset[str]:
    """``ICC_PROFILE`` where the head of a JPEG, PNG or WebP file holds a colour profile."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    return frozenset({"ICC_PROFILE"}) if any(mark in head for mark in _ICC_MARKS) else frozenset()
