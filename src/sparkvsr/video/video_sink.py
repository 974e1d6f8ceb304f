"""One video file being written, under a temporary name beside its place."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.error
from torch import Tensor

from sparkvsr.durable import replace_durably, temporary_path
from sparkvsr.errors import EncodeError

from .border import encoding
from .carry import losses
from .colour_tags import UNSPECIFIED, ColourTags, assumed_tags, is_known_matrix
from .frame_size import check_frame_size
from .info import VideoInfo
from .options import CODECS, MUXERS, EncodeOptions, choose_pixel_format
from .pixels import pixels_to_frame
from .scheduling import kept_scheduling
from .streams import StreamCopier

_MP4_SUFFIXES = (".mp4", ".m4v", ".mov")
_MAX_TIMESCALE = 10_000_000

_H264_THREADS, _HEVC_FRAME_THREADS = 4, 3
"""x264 and x265 give other bits with another number of threads, and take it from the machine by default: segments that
two machines encode, or a run that is continued under another limit of cores, would not be those of one run."""


_HEVC_SAFE_WIDTH = 64
"""x265 4.1 writes past its memory when it adapts the quantiser of pictures narrower than this (seen at 40 and 48)."""


class VideoSink:
    """One video file being written."""

    def __init__(
        self,
        path: Path,
        source: VideoInfo | None,
        size: tuple[int, int],
        options: EncodeOptions,
        fps: Fraction,
        time_base: Fraction | None,
        clip_range: tuple[int, int] | None,
        notes: list[str],
    ) -> None:
        check_frame_size(options, source, size, path.suffix.lower())
        self.path, self.size = path, size
        self._source, self._options, self._notes, self._fps = source, options, notes, fps
        self._clip_range = clip_range
        has_times = source is not None and source.kind == "video"
        self._time_base = time_base or (source.time_base if source is not None and has_times else 1 / fps)
        self._is_snapping = _is_rate_rounded(source, self._time_base, path, fps)
        # The unit that is written: the source's, or one that holds the exact rate beside it.
        denominator = math.lcm(self._time_base.denominator, fps.numerator)
        self._out_base = Fraction(1, denominator) if self._is_snapping else self._time_base
        self._pixel_format = choose_pixel_format(options, source, size)[0]
        notes += losses(source, path, options, size)
        self._written_tags = tags_to_write(source, self._pixel_format, size[0])
        self._convert_tags = assumed_tags(self._written_tags, source.height if source else size[0])
        self._last_pts: int | None = None
        self._origin: int | None = None
        self._last_dts: int | None = None
        self._first_pts = 0
        self._copier: StreamCopier | None = None
        with encoding(path):
            self._container = self._open_container()
        try:
            with encoding(path, "set up the encoder for"):
                self._add_streams()
        except BaseException:
            self.discard()
            raise

    def _open_container(self) -> av.container.OutputContainer:
        """Where the encoded picture goes; a pipe goes elsewhere."""
        path = self.path
        self._partial = temporary_path(path, "partial", path.suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        container_options = {"movflags": "+faststart"} if path.suffix.lower() in _MP4_SUFFIXES else {}
        return av.open(
            os.fspath(self._partial.absolute()),
            "w",
            format=MUXERS[path.suffix.lower()],
            container_options=container_options,
        )

    def _add_streams(self) -> None:
        source = self._source
        if source is not None and source.is_container and self._options.copy_streams:
            self._copier = StreamCopier(source, self._container, self.path.suffix.lower(), self._notes)
            self._copier.add_before()
        spec = CODECS[self._options.codec]
        stream = cast(av.video.stream.VideoStream, self._container.add_stream(spec.encoder, rate=self._fps))
        stream.height, stream.width = self.size
        stream.pix_fmt = self._pixel_format
        context = stream.codec_context
        context.time_base = self._out_base
        stream.time_base = self._out_base
        context.sample_aspect_ratio = source.sample_aspect_ratio if source is not None else Fraction(1)
        tags = self._written_tags
        context.colorspace, context.color_range = tags.matrix, tags.range
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        # Carries the length of each frame to the container, for variable frame rates.
        context.flags |= av.codec.context.Flags.frame_duration
        context.thread_count = _H264_THREADS if self._options.codec == "h264" else 0
        context.options = self._encoder_options()
        if self._options.codec == "hevc" and self.path.suffix.lower() in _MP4_SUFFIXES:
            context.codec_tag = "hvc1"  # Apple's players take no other
        self._stream = stream
        if self._copier is not None:
            self._copier.copy_picture_tags(stream)
            self._copier.add_after()
        with kept_scheduling():
            context.open()

    def _encoder_options(self) -> dict[str, str]:
        spec = CODECS[self._options.codec]
        codec = self._options.codec
        options: dict[str, str] = {}
        crf = self._options.crf if self._options.crf is not None else spec.crf
        preset = self._options.preset or spec.preset
        if preset is not None:
            options["preset"] = preset
        if crf is not None:
            options["crf"] = str(crf)
        hdr = self._source.hdr if self._source is not None else None
        parameters: list[str] = []
        if codec == "h264" and hdr is not None:
            parameters += [f"mastering-display={text}"] if (text := hdr.mastering_display()) else []
            parameters += [f"cll={text}"] if (text := hdr.content_light()) else []
        elif codec == "hevc":
            parameters += ["log-level=none", f"frame-threads={_HEVC_FRAME_THREADS}"]
            if self.size[1] < _HEVC_SAFE_WIDTH:
                parameters += ["aq-mode=0", "no-cutree=1"]
            if hdr is not None:
                parameters += [f"master-display={text}"] if (text := hdr.mastering_display()) else []
                parameters += [f"max-cll={text}"] if (text := hdr.content_light()) else []
        elif codec == "av1":
            os.environ.setdefault("SVT_LOG", "-1")  # the encoder writes its settings to stderr otherwise
            if hdr is not None:
                parameters += [f"mastering-display={text}"] if (text := hdr.mastering_display_float()) else []
                parameters += [f"content-light={text}"] if (text := hdr.content_light()) else []
        elif codec == "ffv1":
            options |= {"level": "3", "slicecrc": "1", "g": "1"}
        elif codec == "prores":
            options["profile"] = "4444" if "444" in self._pixel_format else "hq"
        if parameters:
            options[{"h264": "x264-params", "hevc": "x265-params", "av1": "svtav1-params"}[codec]] = ":".join(
                parameters
            )
        return options

    def write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None:
        """Encode a frame ``(3, H, W)`` in [0, 1], alpha ``(1, H, W)`` or None; times in the time base.

        Raises:
            EncodeError: the time does not come after that of the frame before.
        """
        step = max(1, round(1 / (self._fps * self._time_base)))
        if pts is None:
            pts = 0 if self._last_pts is None else self._last_pts + step
        if self._last_pts is not None and pts <= self._last_pts:
            msg = f"frame time {pts} does not come after {self._last_pts} (unit {self._time_base} s)"
            raise EncodeError(msg)
        if self._origin is None:
            self._start(pts)
        assert self._origin is not None
        frame = self._to_frame(pixels, alpha)
        frame.pts = self._out_ticks(pts)
        frame.time_base = self._out_base
        frame.duration = self._out_ticks(pts + (duration or step)) - frame.pts
        self._mux(self._stream.encode(frame))
        self._last_pts = pts
        if self._copier is not None:
            self._copier.advance(pts * self._time_base)

    def _mux(self, packets: list[av.Packet]) -> None:
        """Write encoded packets, with decoding times put right where x265 leaves them uninitialised.

        It does so for clips shorter than its reordering delay; MP4 then fails at random ("patches welcome").
        """
        for packet in packets:
            if packet.pts is not None and packet.dts is not None:
                hour = round(3600 / self._out_base)
                if not packet.pts - hour <= packet.dts <= packet.pts:
                    step = max(1, round(1 / (self._fps * self._out_base)))
                    packet.dts = packet.pts - 8 * step if self._last_dts is None else self._last_dts + 1
                self._last_dts = packet.dts
            self._container.mux(packet)

    def _start(self, pts: int) -> None:
        """Fix what becomes time zero: the first frame of a part, or the start of the source as a whole."""
        self._first_pts = pts
        if self._copier is None:
            self._origin = pts if self._clip_range is not None else min(0, pts)
            self._container.start_encoding()
            return
        if self._clip_range is None:
            # A picture that begins before zero would be hidden by MP4's edit list.
            zero = min(self._copier.start_seconds, pts * self._time_base)
            self._origin = round(zero / self._time_base)
            self._copier.set_range(zero, None, is_cut=False)
            self._container.start_encoding()
            return
        self._origin = pts
        origin = pts * self._time_base
        start, frames = self._clip_range
        end = self._end_of_range(start + frames, origin, frames)
        self._copier.set_range(origin, end, is_cut=True)
        self._container.start_encoding()

    def _out_ticks(self, pts: int) -> int:
        """Time of `pts` after the origin in written units, put back on the exact grid of a constant rate."""
        assert self._origin is not None
        seconds = (pts - self._origin) * self._time_base
        if self._is_snapping:
            first = (self._first_pts - self._origin) * self._time_base
            exact = first + round((seconds - first) * self._fps) / self._fps
            seconds = exact if abs(exact - seconds) <= self._time_base else seconds
        return round(seconds / self._out_base)

    def _end_of_range(self, stop: int, origin: Fraction, frames: int) -> Fraction | None:
        if self._source is not None and stop >= self._source.num_frames:
            return None
        return origin + frames / self._fps

    def _to_frame(self, pixels: Tensor, alpha: Tensor | None) -> av.VideoFrame:
        target = self._pixel_format
        if target.startswith(("bgr", "rgb")):
            via = "gbrap" if target in ("bgra", "rgba") else "gbrp"
            return pixels_to_frame(pixels, via, self._convert_tags, alpha).reformat(format=target)
        frame = pixels_to_frame(pixels, target, self._convert_tags, alpha)
        frame.colorspace, frame.color_range = self._written_tags.matrix, self._written_tags.range
        frame.color_primaries, frame.color_trc = self._written_tags.primaries, self._written_tags.transfer
        return frame

    def finish(self) -> None:
        """Flush the encoder, close the file and give it its final name."""
        if self._copier is not None:
            self._copier.advance(None)
        self._mux(self._stream.encode(None))
        self._container.close()
        if self._copier is not None:
            self._copier.close()
        self._keep()

    def _keep(self) -> None:
        replace_durably(self._partial, self.path)

    def discard(self) -> None:
        """Remove what was written."""
        # The trailer of an unfinished file cannot always be written; the file is removed anyway.
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        if self._copier is not None:
            self._copier.close()
        self._drop()

    def _drop(self) -> None:
        self._partial.unlink(missing_ok=True)


def tags_to_write(source: VideoInfo | None, pixel_format: str, height: int) -> ColourTags:
    """Carry the source's tags; RGB sources become BT.709, and a full-range tag is kept where it has a place.

    Args:
        source: the clip that is restored; None for frames without one.
        pixel_format: that is written.
        height: of the output.
    """
    tags = source.color if source else ColourTags(1, 1, 1, 1)
    if pixel_format.startswith(("gbr", "bgr", "rgb")):
        return ColourTags(0, 2, tags.primaries, tags.transfer)
    if source is None or source.kind != "video" or tags.matrix == 0:
        return ColourTags(1, 1, 1, 1)
    assumed = assumed_tags(tags, source.height)
    if not is_known_matrix(tags.matrix):
        return replace(tags, matrix=assumed.matrix)
    if tags.matrix == UNSPECIFIED and assumed.matrix != assumed_tags(tags, height).matrix:
        # Untagged 180 lines are BT.601, untagged 720 lines would be taken for BT.709: now it has to be said.
        return replace(tags, matrix=assumed.matrix)
    return tags


def _is_rate_rounded(source: VideoInfo | None, time_base: Fraction, path: Path, fps: Fraction) -> bool:
    """Whether a constant rate was rounded to the source's ticks and goes where it can be exact again.

    Matroska rounds 1001/30000 s to 33 or 34 ms, MPEG-TS 1001/60000 s to 1501 or 1502 ticks.
    """
    return (
        source is not None
        and source.kind == "video"
        and not source.is_vfr
        and time_base.numerator == 1
        and (1 / fps / time_base).denominator != 1
        and path.suffix.lower() in _MP4_SUFFIXES
        and math.lcm(time_base.denominator, fps.numerator) <= _MAX_TIMESCALE
    )
