"""Carry everything but the picture from the source to the output: sound, subtitles, chapters, attachments, tags.

Packets are copied, not decoded, except sound that the container cannot hold. They are pulled from the source as the
picture advances, so memory holds a few seconds of packets whatever the length of the clip.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import cast

import av
import av.error

from .border import open_input
from .carry import StreamPlan, label, plan_streams, timecode_of
from .info import VideoInfo
from .sound import SoundTranscoder
from .subtitles import SubtitleConverter, subtitle_converter
from .time_steps import StepFollower
from .timecode import shifted_timecode

# Written anew by every muxer, or true only of the source's own encoding.
_STALE_TAGS = ("encoder", "duration", "bps", "number_of_frames", "number_of_bytes", "_statistics", "major_brand",
               "minor_version", "compatible_brands", "handler_name", "vendor_id")  # fmt: skip
_EDIT_LIST_SUFFIXES = (".mp4", ".m4v", ".mov")
_MARGIN_SECONDS = Fraction(1, 2)


class StreamCopier:
    """Remuxes the streams of `source` other than its picture into `output`.

    Args:
        source: the clip.
        output: not yet started.
        suffix: of the output file, for the notes.
        notes: one line is appended for what goes wrong on the way; what the output cannot hold, `carry.losses` says.
    """

    def __init__(self, source: VideoInfo, output: av.container.OutputContainer, suffix: str, notes: list[str]) -> None:
        self._source = source
        self._output = output
        self._suffix = suffix
        self._notes = notes
        self._input = open_input(source.path)
        self._copies: dict[int, av.stream.Stream] = {}
        self._converters: dict[int, SubtitleConverter] = {}
        self._last_dts: dict[int, int] = {}
        self._refused: set[int] = set()
        self._filled: set[int] = set()
        self._transcoders: dict[int, SoundTranscoder] = {}
        self._followers: dict[int, StepFollower] = {}
        plans = plan_streams(self._input, source.stream_index, suffix)
        self._plans = {plan.index: plan for plan in plans}
        self._packets: Iterator[av.Packet] | None = None
        self._picture: av.stream.Stream | None = None
        self._pending: av.Packet | None = None
        self._origin = Fraction(0)
        self._end: Fraction | None = None
        self._is_cut = False

    @property
    def start_seconds(self) -> Fraction:
        """When the source begins: what plain copying subtracts so that the output starts at zero."""
        start = self._input.start_time
        return Fraction(start, 1_000_000) if start and start > 0 else Fraction(0)

    def add_before(self) -> None:
        """Add the streams that come before the picture in the source, so that the order is kept."""
        self._add(range(self._source.stream_index))

    def add_after(self) -> None:
        """Add the streams that come after the picture, the chapters and the tags of the file."""
        self._add(range(self._source.stream_index + 1, len(self._input.streams)))
        self._output.metadata.update(_fresh_tags(self._input.metadata))

    def copy_picture_tags(self, stream: av.stream.Stream) -> None:
        """Give the encoded picture the language, title and disposition of the source's."""
        original = self._input.streams[self._source.stream_index]
        stream.metadata.update(_fresh_tags(original.metadata))
        stream.metadata.pop("rotate", None)
        self._picture = stream
        stream.disposition = original.disposition

    def set_range(self, origin: Fraction, end: Fraction | None, *, is_cut: bool) -> None:
        """Say which part of the source is written; called once, before the first packet.

        Args:
            origin: source time in seconds that becomes zero.
            end: source time in seconds at which the picture ends; None for the end of the file.
            is_cut: whether packets before `origin` are left out (they are kept when the whole clip is written, as
                audio encoders begin before zero).
        """
        self._origin, self._end, self._is_cut = origin, end, is_cut
        self._copy_chapters()
        self._copy_timecode()
        if not self._copies:
            return
        wanted = set(self._copies)
        for stream in self._input.streams:
            if stream.index not in wanted:
                stream.discard = av.stream.Discard.all
        if is_cut and origin > self.start_seconds + 1 and not self._source.time_steps:
            try:
                self._input.seek(int((origin - 1) * 1_000_000))
            except av.error.FFmpegError:
                self._input.close()
                self._input = open_input(self._source.path)
        self._packets = self._input.demux([self._input.streams[i] for i in sorted(wanted)])

    def advance(self, until: Fraction | None) -> None:
        """Copy packets up to source time `until` in seconds (None: all that are left)."""
        while True:
            packet = self._pending or self._next_packet()
            if packet is None:
                self._flush()
                return
            self._pending = packet
            time = _packet_seconds(packet)
            if until is not None and time is not None and time > until + _MARGIN_SECONDS:
                return
            self._pending = None
            self._copy(packet)

    def close(self) -> None:
        """Release the source."""
        self._packets = None
        self._pending = None
        self._input.close()

    def _next_packet(self) -> av.Packet | None:
        if self._packets is None:
            return None
        while True:
            try:
                packet = next(self._packets, None)
            except (av.error.FFmpegError, ValueError, OSError) as exc:
                reason = getattr(exc, "strerror", None) or "damaged"
                self._notes.append(f"sound and subtitles of {self._source.path.name} end early ({reason})")
                self._packets = None
                return None
            if packet is None:
                self._packets = None
                return None
            if packet.size == 0 and packet.pts is None:
                continue  # the flush that ends a stream
            self._follower(packet.stream_index).move(packet)
            if self._end is not None:
                time = _packet_seconds(packet)
                if time is not None and time > self._end + 10:
                    # Streams are interleaved within seconds: nothing inside the range follows.
                    self._packets = None
                    return None
            return packet

    def _follower(self, index: int) -> StepFollower:
        return self._followers.setdefault(index, StepFollower(self._source.time_steps))

    def _add(self, indices: range) -> None:
        for index in indices:
            plan = self._plans[index]
            original = self._input.streams[index]
            if plan.action == "attach":
                self._add_attachment(original)
            elif plan.action == "cover":
                self._add_cover(index)
            elif plan.action in ("copy", "convert", "transcode"):
                copy = self._add_stream(plan, original)
                copy.metadata.update(_fresh_tags(original.metadata))
                copy.disposition = original.disposition
                self._copies[index] = copy

    def _add_stream(self, plan: StreamPlan, original: av.stream.Stream) -> av.stream.Stream:
        if plan.action == "transcode":
            transcoder = SoundTranscoder(original, plan.target or "aac")
            self._transcoders[plan.index] = transcoder
            return transcoder.add_stream(self._output)
        if plan.action == "convert":
            converter = subtitle_converter(original, self._suffix)
            assert converter is not None
            self._converters[plan.index] = converter
            return converter.add_stream(self._output)
        return self._output.add_stream_from_template(original, opaque=True)

    def _add_cover(self, index: int) -> None:
        """Matroska keeps a cover picture as an attachment, MP4 as a stream of one frame."""
        original = self._input.streams[index]
        codec = original.codec_context.codec.canonical_name
        suffix, kind = {"png": ("png", "image/png"), "mjpeg": ("jpg", "image/jpeg")}[codec]
        with open_input(self._source.path) as container:
            packet = next(container.demux(container.streams[index]), None)
            data = bytes(packet) if packet is not None and packet.size else b""
        if not data:
            self._notes.append(f"cover picture (stream {index}) is dropped: it is empty")
            return
        name = original.metadata.get("filename", f"cover.{suffix}")
        self._output.add_attachment(name, original.metadata.get("mimetype", kind), data)

    def _add_attachment(self, original: av.stream.Stream) -> None:
        name = original.metadata.get("filename", "attachment")
        mimetype = original.metadata.get("mimetype", "application/octet-stream")
        copy = self._output.add_attachment(name, mimetype, cast(av.stream.AttachmentStream, original).data)
        copy.metadata.update({k: v for k, v in original.metadata.items() if k not in copy.metadata})

    def _copy_timecode(self) -> None:
        """The timecode of the first frame that is written; MOV and MP4 make a track of it, Matroska a tag."""
        first = timecode_of(self._input, self._source.stream_index)
        if first is None or self._picture is None:
            return
        for tags in (self._output.metadata, self._picture.metadata):
            for key in [key for key in tags if key.lower() == "timecode"]:
                del tags[key]
        fps = self._source.average_fps
        passed = self._origin - self._source.start_pts * self._source.time_base if self._is_cut else Fraction(0)
        self._picture.metadata["timecode"] = shifted_timecode(first, round(passed * fps), fps) or first

    def _copy_chapters(self) -> None:
        chapters = []
        for chapter in self._input.chapters():
            time_base = Fraction(chapter["time_base"] or Fraction(1, 1000))
            start, end = chapter["start"] * time_base, chapter["end"] * time_base
            if (self._end is not None and start >= self._end) or (self._is_cut and end <= self._origin):
                continue
            end = min(end, self._end) if self._end is not None else end
            chapter["start"] = round((max(start, self._origin) - self._origin) / time_base)
            chapter["end"] = round((end - self._origin) / time_base)
            chapters.append(chapter)
        if chapters:
            self._output.set_chapters(chapters)

    def _copy(self, packet: av.Packet) -> None:
        index = packet.stream_index
        copy = self._copies[index]
        time_base = Fraction(packet.time_base)
        time = _packet_seconds(packet)
        if time is not None:
            if self._is_cut and time < self._origin:
                return
            if packet.is_discard and self._suffix not in _EDIT_LIST_SUFFIXES:
                # Hidden by an edit list, which only MP4 has. One packet is kept, as decoders warm up on it.
                length = (packet.duration or 0) * time_base
                if time + length < self._origin:
                    return
            if self._end is not None and time >= self._end:
                return
        shift = round(self._origin / time_base)
        if packet.pts is not None:
            packet.pts -= shift
        if packet.dts is not None:
            # Muxers refuse times that go back; damaged files have them, and parts that were joined may overlap.
            dts = packet.dts - shift
            least = self._last_dts[index] + self._least_step(copy, time_base) if index in self._last_dts else dts
            if dts < least:
                dts = least
                packet.pts = max(packet.pts, dts) if packet.pts is not None else dts
            if not packet.duration and copy.type == "audio":
                # Matroska tells none for ALAC or TrueHD; MP4 would end its edit list before the last packet.
                packet.duration = dts - self._last_dts.get(index, dts)
            self._last_dts[index] = dts
            packet.dts = dts
        packets: list[av.Packet] = [packet]
        try:
            if index in self._transcoders:
                packets = self._transcoders[index].convert(packet)
            elif index in self._converters:
                converted = self._converters[index].convert(packet)
                packets = [] if converted is None else [converted]
            self._filled.update([index] if packets else ())
            for ready in packets:
                ready.stream = copy
                self._output.mux(ready)
        except (av.error.ArgumentError, av.error.InvalidDataError, ValueError) as exc:
            # A damaged packet of sound must not end hours of work; a full disk (OSError) must.
            if index not in self._refused:
                self._refused.add(index)
                reason = getattr(exc, "strerror", None) or "not understood"
                self._notes.append(f"{label(self._input.streams[index])} has damaged packets, left out ({reason})")

    @staticmethod
    def _least_step(copy: av.stream.Stream, time_base: Fraction) -> int:
        """Ticks of the source that are at least one of the output; subtitles may share a time."""
        if copy.type == "subtitle" or copy.time_base is None:
            return 0
        return max(1, math.ceil(copy.time_base / time_base))

    def _flush(self) -> None:
        """What the sound encoders hold back, once."""
        for index, transcoder in self._transcoders.items():
            for packet in transcoder.convert(None):
                self._filled.add(index)
                packet.stream = self._copies[index]
                self._output.mux(packet)
        self._transcoders = {}
        if not self._is_cut:  # a part may well lie between two subtitles
            for index in sorted(set(self._copies) - self._filled - self._refused):
                self._notes.append(f"{label(self._input.streams[index])} is empty: nothing of it is in the output")
        self._filled = set(self._copies)


def _packet_seconds(packet: av.Packet) -> Fraction | None:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * Fraction(packet.time_base)


def _fresh_tags(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_STALE_TAGS)}
