"""Where a codec's own I-frames are: the cleanest frames of a clip, found by its packets wherever these have times."""

from __future__ import annotations

from pathlib import Path

from av.video.frame import PictureType

from sparkvsr.errors import DecodeError

from .border import decoding, main_video_stream, open_input
from .images import resolve_images
from .scan import scan_packets


def iframe_indices(path: str | Path, stream: int | None = None) -> list[int]:
    """List the I-frames of a video in display order.

    Reads packets only, where they have times; else (raw streams, H.264 in AVI) the clip is decoded. Open-GOP start
    points count (x264 ``open-gop``, HEVC CRA), and for H.264 also I-frames that are no start points. In all-intra
    codecs (MJPEG, ProRes, FFV1 with one-frame groups) every frame is one.

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
    scan = scan_packets(Path(path), stream)
    if scan.has_pts or len(scan.iframe_indices) in (0, scan.num_frames):
        return scan.iframe_indices
    found = _decoded(Path(path), stream)
    return scan.iframe_indices if found is None else found


def _decoded(path: Path, wanted: int | None) -> list[int] | None:
    """I-frames by decoding, None where that fails: without times the order of packets is not that of pictures."""
    try:
        with decoding(path), open_input(path) as container:
            stream = main_video_stream(container, path, wanted)
            stream.thread_type = "AUTO"
            kinds = [frame.pict_type for frame in container.decode(stream)]
    except DecodeError:
        return None
    return [index for index, kind in enumerate(kinds) if kind == PictureType.I]
