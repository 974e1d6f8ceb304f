"""Join separately encoded segments of one clip into the final file, with everything else of the source.

A segment is a video file that `VideoWriter` made with the same options and size, beginning with an I-frame and
referring to nothing outside itself. Its packets are copied, not encoded again; only their times are set anew, to
those of the source's frames.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path

import av
import av.bitstream

from sparkvsr.durable import replace_durably
from sparkvsr.errors import DecodeError, EncodeError

from .border import encoding, open_input
from .images import DEFAULT_SEQUENCE_FPS
from .info import VideoInfo
from .options import EncodeOptions, check_output
from .video_sink import VideoSink

SEGMENT_SUFFIX = ".mkv"
"""Container of the segments: it takes every codec, and its streams have the same header form as MP4's."""

_TO_ENCODER_FORM = {"h264": "h264_mp4toannexb", "hevc": "hevc_mp4toannexb"}
"""Containers keep these codecs with lengths in front of the units; encoders give, and muxers expect, start codes."""

FrameTime = tuple[int | None, int | None]
"""Presentation time and duration of a frame in the source's time base; None where the source has none."""


def assemble_video(
    path: Path,
    segments: Sequence[Path],
    times: Sequence[FrameTime],
    *,
    source: VideoInfo,
    size: tuple[int, int],
    options: EncodeOptions,
    overwrite: bool = False,
    clip_range: tuple[int, int] | None = None,
    made_by: str = "",
    check: Callable[[], object] | None = None,
) -> list[str]:
    """Write the final file; its name appears only when it is complete.

    Args:
        path: the output.
        segments: segments in order.
        times: of all frames, in display order.
        source, size, options, overwrite, clip_range: as for `VideoWriter`.
        made_by: goes into the file's comment, behind the source's own.
        check: called when all is read, before the file gets its name; what it raises ends the work.

    Returns:
        What the output cannot hold or holds differently, one line each.

    Raises:
        EncodeError: the output cannot be written.
        DecodeError: a segment is damaged, or their frames are not as many as `times`.
    """
    check_output(path, overwrite, options)
    notes: list[str] = []
    ranks = [_display_ranks(segment) for segment in segments]
    count = sum(len(segment) for segment in ranks)
    if count != len(times):
        msg = f"the segments of {path.name} hold {count} frames, the clip has {len(times)}; delete the work folder"
        raise DecodeError(msg)
    fps = source.average_fps or DEFAULT_SEQUENCE_FPS
    sink = _PacketSink(path, source, size, options, fps, clip_range, notes)
    sink.sign(made_by)
    try:
        with encoding(path):
            sink.write_all(segments, ranks, times)
            sink.write_end()
        if check is not None:
            check()
        with encoding(path):
            sink.give_name()
    except BaseException:
        sink.discard()
        raise
    return notes


def _packets(segment: Path, codec: str | None = None) -> Iterator[av.Packet]:
    """Packets in decoding order; with a codec given, in the form that its encoder gives them in."""
    with open_input(segment) as container:
        if not container.streams.video:
            msg = f"{segment} is damaged: it holds no picture; delete the work folder and start again"
            raise DecodeError(msg)
        stream = container.streams.video[0]
        name = _TO_ENCODER_FORM.get(codec or "")
        convert = av.bitstream.BitStreamFilterContext(name, stream) if name else None
        for packet in container.demux(stream):
            if packet.size:
                yield from convert.filter(packet) if convert is not None else [packet]


def _display_ranks(segment: Path) -> list[int]:
    """For each packet in decoding order, its frame's position in display order."""
    pts = [packet.pts for packet in _packets(segment)]
    if any(value is None for value in pts):
        msg = f"{segment} is damaged: a frame has no time; delete the work folder and start again"
        raise DecodeError(msg)
    order = sorted(range(len(pts)), key=lambda k: pts[k] or 0)
    ranks = [0] * len(pts)
    for rank, k in enumerate(order):
        ranks[k] = rank
    return ranks


class _PacketSink(VideoSink):
    """A video file that gets encoded packets."""

    def __init__(
        self,
        path: Path,
        source: VideoInfo,
        size: tuple[int, int],
        options: EncodeOptions,
        fps: Fraction,
        clip_range: tuple[int, int] | None,
        notes: list[str],
    ) -> None:
        # The stream is set up as for encoding: header, tags and rate are then those of an output in one segment.
        super().__init__(path, source, size, options, fps, None, clip_range, notes)

    def sign(self, made_by: str) -> None:
        """Say in the file's comment what made it; before the first packet."""
        if made_by:
            own = self._container.metadata.get("comment", "")
            self._container.metadata["comment"] = f"{own}; {made_by}" if own else made_by

    def write_all(self, segments: Sequence[Path], ranks: Sequence[Sequence[int]], times: Sequence[FrameTime]) -> None:
        """Mux all segments, other streams between them."""
        shown, lengths = self._timeline(times)
        step = max(1, round(1 / (self._fps * self._time_base)))
        # Decoding must come before display. B-frames are decoded early, so decoding times run late by as many
        # frames as any packet is early; before the first frame they go on at the same pace into negative times.
        delay = max((k - rank for segment in ranks for k, rank in enumerate(segment)), default=0)

        def decoded_at(position: int) -> int:
            return shown[position] if position >= 0 else shown[0] + position * step

        self._start(shown[0])
        base = 0
        for segment, order in zip(segments, ranks, strict=True):
            for k, packet in enumerate(_packets(segment, self._options.codec)):
                if k >= len(order):
                    break
                position = base + order[k]
                packet.time_base = self._out_base
                packet.pts = self._out_ticks(shown[position])
                packet.dts = self._out_ticks(decoded_at(base + k - delay))
                packet.duration = self._out_ticks(shown[position] + (lengths[position] or step)) - packet.pts
                packet.stream = self._stream
                self._container.mux(packet)
                if self._copier is not None:
                    self._copier.advance(decoded_at(base + k) * self._time_base)
            base += len(order)

    def _timeline(self, times: Sequence[FrameTime]) -> tuple[list[int], list[int]]:
        """Rising presentation times; frames without one follow at the average rate."""
        step = max(1, round(1 / (self._fps * self._time_base)))
        shown: list[int] = []
        for pts, _ in times:
            after = shown[-1] + step if shown else 0
            value = after if pts is None else pts
            if shown and value <= shown[-1]:
                msg = f"frame time {value} does not come after {shown[-1]} (unit {self._time_base} s)"
                raise EncodeError(msg)
            shown.append(value)
        return shown, [duration or 0 for _, duration in times]

    def write_end(self) -> None:
        """Write the rest of the other streams and the file's end."""
        if self._copier is not None:
            self._copier.advance(None)
        self._container.close()
        if self._copier is not None:
            self._copier.close()

    def give_name(self) -> None:
        """Give the file its name."""
        replace_durably(self._partial, self.path)
