"""Where a codec's own I-frames are: the cleanest frames of a clip, found without decoding it."""

from __future__ import annotations

from pathlib import Path

from .images import resolve_images
from .scan import scan_packets


def iframe_indices(path: str | Path, stream: int | None = None) -> list[int]:
    """List the I-frames of a video in display order.

    Reads packets only. Open-GOP start points count (x264 ``open-gop``, HEVC CRA), and for H.264 also I-frames that
    are no start points. In all-intra codecs (MJPEG, ProRes, FFV1 with one-frame groups) every frame is one.

    Args:
        path: a video file, an image, a folder of images or a pattern such as ``frames/%05d.png``.
        stream: as for `probe`.

    Returns:
        Ascending 0-based frame indices. For an image ``[0]``; for an image sequence ``[]``, as independent pictures
        say nothing about which of them is the cleanest.

    Raises:
        DecodeError: missing, not a media file, or no video stream.
    """
    images = resolve_images(Path(path))
    if images is not None:
        return [0] if len(images) == 1 and Path(path).is_file() else []
    return scan_packets(Path(path), stream).iframe_indices
