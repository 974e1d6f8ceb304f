"""One pass over a file's packets, without decoding: how many frames, when, and which are I-frames.

Eight bytes a frame are kept, so a two-hour film costs about 2 MB.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av

from .border import decoding, main_video_stream, open_input
from .slices import is_intra_packet, slice_parser
from .time_steps import TimeStep, find_steps

# Codecs whose packets may hold no visible frame, or several.
_INEXACT_CODECS = {"vp8", "rv30", "rv40", "wmv3", "vc1", "mpeg4", "msmpeg4v3", "theora"}

_INTRA, _SYNC, _HIDDEN = 1, 2, 4


@dataclass
class PacketScan:
    """What the packets of the main video stream say, in display order."""

    pts: array = field(default_factory=lambda: array("q"))
    """Presentation times in `time_base` units, ascending, the same that the decoder gives; empty without such."""
    times: array = field(default_factory=lambda: array("q"))
    """When each frame is shown: `pts`, but in AVI, which has only decoding times, frame k when packet k is due. Empty
    when there are none at all (raw streams)."""
    iframe_indices: list[int] = field(default_factory=list)
    sync_indices: list[int] = field(default_factory=list)
    """The subset of I-frames that a decoder can start at."""
    sync_timestamps: list[int] = field(default_factory=list)
    """For each sync frame, the time to give to seek: its decoding time."""
    num_frames: int = 0
    is_exact: bool = True
    time_base: Fraction = Fraction(1, 1)
    last_duration: int = 0
    """Duration of the last displayed packet in `time_base` units; 0 when unknown."""
    is_vfr: bool = False
    damage: str | None = None
    """Why demuxing stopped early, if it did."""
    steps: tuple[TimeStep, ...] = ()
    """Where the file's clock was set anew; all times above are already moved."""

    @property
    def has_pts(self) -> bool:
        """Whether frames can be told apart by their time."""
        return len(self.pts) > 0


def scan_packets(path: Path, stream: int | None = None) -> PacketScan:
    """Read all packets of the main video stream of a file, or of the stream with an index.

    Raises:
        DecodeError: not a media file, or no video stream.
    """
    with open_input(path) as container:
        picture = main_video_stream(container, path, stream)
        for other in container.streams:
            if other.index != picture.index:
                other.discard = av.stream.Discard.all
        return _collect(container, picture, path)


def _collect(container: av.container.InputContainer, stream: av.video.stream.VideoStream, path: Path) -> PacketScan:
    scan = PacketScan(time_base=stream.time_base or Fraction(1, 1))
    pts, dts, flags, durations, positions = array("q"), array("q"), bytearray(), array("q"), array("q")
    codec = stream.codec_context.codec.canonical_name
    parser = slice_parser(codec, stream.codec_context.extradata)
    has_all_pts = has_all_dts = True
    decoded_at, num_known = array("q"), 0
    try:
        with decoding(path):
            for packet in container.demux(stream):
                if packet.size == 0:
                    continue  # the flush at the end, dropped frames of AVI
                shown = packet.pts if packet.pts is not None else packet.dts
                has_all_pts &= packet.pts is not None or (shown is not None and codec in ("mjpeg", "rawvideo"))
                has_all_dts &= packet.dts is not None
                pts.append(shown if shown is not None else len(pts))
                dts.append(packet.dts if packet.dts is not None else pts[-1])
                durations.append(packet.duration or 0)
                num_known += packet.dts is not None
                decoded_at.append(
                    packet.dts if packet.dts is not None else decoded_at[-1] + 1 if decoded_at else dts[-1]
                )
                positions.append(-1 if packet.pos is None else packet.pos)
                parsed = is_intra_packet(parser, packet)
                is_intra = packet.is_keyframe if parsed is None else parsed
                is_sync = packet.is_keyframe and is_intra
                flags.append(is_intra * _INTRA | is_sync * _SYNC | packet.is_discard * _HIDDEN)
    except Exception as exc:
        if not pts:
            raise
        scan.damage = str(exc)
    if 2 * num_known > len(dts):
        scan.steps = find_steps(decoded_at, positions, scan.time_base, container)
        ends = [*(step.packet for step in scan.steps[1:]), len(dts)]
        for step, end in zip(scan.steps, ends, strict=False):
            shift = round(step.seconds / scan.time_base)
            for k in range(step.packet, end):
                pts[k] += shift
                dts[k] += shift
    # AVI stores no presentation times. FFmpeg finds them for MPEG-4; for H.264 it makes some up in decoding order.
    is_avi = container.format.name == "avi"
    is_avi_reordered = is_avi and bool(stream.codec_context.has_b_frames)
    has_all_pts &= not (is_avi_reordered and all(a < b for a, b in pairwise(pts)))
    scan.is_exact = codec not in _INEXACT_CODECS and scan.damage is None

    order = sorted(range(len(pts)), key=pts.__getitem__) if has_all_pts else list(range(len(pts)))
    # A clip cut at an open GOP starts with frames that refer to what was cut away; decoders drop them.
    first_sync = next((i for i, flag in enumerate(flags) if flag & _SYNC), None)
    if first_sync is not None and has_all_pts:
        decodable = [i for i in order if i >= first_sync and pts[i] >= pts[first_sync]]
        scan.is_exact &= len(decodable) == len(order)
        order = decodable
    # Frames before the start of an edit list are decoded, as others refer to them, but not shown.
    order = [i for i in order if not flags[i] & _HIDDEN]
    scan.num_frames = len(order)
    is_unique = has_all_pts and all(pts[a] < pts[b] for a, b in pairwise(order))
    if is_unique:
        scan.pts = scan.times = array("q", (pts[i] for i in order))
    # What FFmpeg makes of an AVI with B-frames, and of H.264 in any case, puts the picture a frame behind the sound.
    if has_all_dts and (is_avi or not is_unique):
        due = sorted(dts[i] for i in order)
        scan.times = array("q", due) if all(a < b for a, b in pairwise(due)) else scan.pts
    for index, i in enumerate(order):
        if flags[i] & _INTRA:
            scan.iframe_indices.append(index)
        if flags[i] & _SYNC:
            scan.sync_indices.append(index)
            scan.sync_timestamps.append(dts[i])
    if order:
        scan.last_duration = durations[order[-1]]
    scan.is_vfr = _is_vfr(scan)
    if scan.is_vfr and stream.duration and scan.has_pts:
        # With B-frames the length of a packet is that of its place in decoding order, not in display order.
        rest = (stream.start_time or 0) + stream.duration - scan.pts[-1]
        longest = max(b - a for a, b in pairwise(scan.pts))
        scan.last_duration = rest if 0 < rest <= longest else scan.last_duration
    return scan


def _is_vfr(scan: PacketScan) -> bool:
    """More than one tick (and more than 2 ms, the rounding of Matroska) between the shortest and longest step."""
    if len(scan.times) < 3:
        return False
    steps = [b - a for a, b in pairwise(scan.times)]
    spread = max(steps) - min(steps)
    return spread > 1 and spread * scan.time_base > Fraction(2, 1000)
