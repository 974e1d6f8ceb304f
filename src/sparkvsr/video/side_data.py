"""What frames carry beside their pixels, by FFmpeg's names."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from typing import Any, cast

import av


def side_data_names(frames: Iterable[av.VideoFrame]) -> frozenset[str]:
    """Names of the side data of some frames, such as ``A53_CC`` (captions) or ``DYNAMIC_HDR_PLUS``."""
    names: set[str] = set()
    for frame in frames:
        for entry in cast(Iterable[Any], frame.side_data):  # a mapping by its stubs, a sequence in fact
            with suppress(ValueError):  # a kind that is newer than PyAV's list
                names.add(entry.type.name)
    return frozenset(names)
