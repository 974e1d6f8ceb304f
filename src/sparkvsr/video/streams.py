"""Carry everything but the picture from the source to the output: sound, subtitles, chapters, attachments, tags.

Packets are copied, not decoded. They are pulled from the source as the picture advances, so memory holds a few seconds
of packets whatever the length of the clip.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import cast

import av
import av.error
from av.stream import Disposition

from .border import open_input
from .info import VideoInfo
from .options import MUXERS
from .subtitles import SubtitleConverter, subtitle_converter

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
        notes: one line is appended for each thing that the output cannot hold.
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
        self._packets: Iterator[av.Packet] | None = None
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
        if not self._copies:
            return
        wanted = set(self._copies)
        for stream in self._input.streams:
            if stream.index not in wanted:
                stream.discard = av.stream.Discard.all
        if is_cut and origin > self.start_seconds + 1:
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
                self._notes.append(f"sound and subtitles of {self._source.path.name} end early: {exc}")
                self._packets = None
                return None
            if packet is None:
                self._packets = None
                return None
            if packet.size == 0 and packet.pts is None:
                continue  # the flush that ends a stream
            if self._end is not None:
                time = _packet_seconds(packet)
                if time is not None and time > self._end + 10:
                    # Streams are interleaved within seconds: nothing inside the range follows.
                    self._packets = None
                    return None
            return packet

    def _add(self, indices: range) -> None:
        for index in indices:
            original = self._input.streams[index]
            label = _label(original)
            if original.type == "attachment":
                self._add_attachment(original, label)
                continue
            copy = self._add_copy(index, original, label)
            if copy is None:
                continue
            copy.metadata.update(_fresh_tags(original.metadata))
            copy.disposition = original.disposition
            self._copies[index] = copy

    def _add_copy(self, index: int, original: av.stream.Stream, label: str) -> av.stream.Stream | None:
        if original.type == "subtitle":
            converter = subtitle_converter(original, self._suffix)
            if converter is not None:
                copy = converter.add_stream(self._output)
                self._converters[index] = converter
                self._notes.append(f"{label} is converted to {converter.target}, which {self._suffix} holds")
                return copy
        if original.type == "video" and original.disposition & Disposition.attached_pic and self._suffix == ".mkv":
            self._add_cover(index, label)
            return None
        if original.type not in ("audio", "subtitle", "video"):
            if not _is_chapter_track(original, self._input):
                self._notes.append(f"{label} is dropped: only sound, subtitles, pictures and attachments are copied")
            return None
        if not self._can_hold(original):
            advice = "write .mkv to keep it" if self._suffix != ".mkv" else "Matroska has no place for it"
            self._notes.append(f"{label} is dropped: {self._suffix} cannot hold it; {advice}")
            return None
        return self._output.add_stream_from_template(original, opaque=True)

    def _can_hold(self, original: av.stream.Stream) -> bool:
        """Try the stream's header in memory: some muxers refuse only then what they say they take (Opus in MOV)."""
        trial = av.open(io.BytesIO(), "w", format=MUXERS[self._suffix])
        try:
            trial.add_stream_from_template(original, opaque=True)
            trial.start_encoding()
        except (ValueError, av.error.FFmpegError):
            return False
        finally:
            with suppress(ValueError, av.error.FFmpegError):
                trial.close()
        return True

    def _add_cover(self, index: int, label: str) -> None:
        """Matroska keeps a cover picture as an attachment, MP4 as a stream of one frame."""
        original = self._input.streams[index]
        codec = original.codec_context.codec.canonical_name if original.codec_context else ""
        kind = {"png": ("png", "image/png"), "mjpeg": ("jpg", "image/jpeg")}.get(codec)
        data = b""
        if kind is not None:
            with open_input(self._source.path) as container:
                packet = next(container.demux(container.streams[index]), None)
                data = bytes(packet) if packet is not None and packet.size else b""
        if kind is None or not data:
            self._notes.append(f"{label} is dropped: {self._suffix} holds covers as PNG or JPEG only")
            return
        name = original.metadata.get("filename", f"cover.{kind[0]}")
        self._output.add_attachment(name, original.metadata.get("mimetype", kind[1]), data)

    def _add_attachment(self, original: av.stream.Stream, label: str) -> None:
        if self._suffix != ".mkv":
            self._notes.append(f"{label} is dropped: {self._suffix} cannot hold it; write .mkv to keep it")
            return
        name = original.metadata.get("filename", "attachment")
        mimetype = original.metadata.get("mimetype", "application/octet-stream")
        copy = self._output.add_attachment(name, mimetype, cast(av.stream.AttachmentStream, original).data)
        copy.metadata.update({k: v for k, v in original.metadata.items() if k not in copy.metadata})

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
            # Muxers refuse times that go back; damaged files have them.
            dts = packet.dts - shift
            if index in self._last_dts and dts < self._last_dts[index]:
                dts = self._last_dts[index]
                packet.pts = max(packet.pts, dts) if packet.pts is not None else dts
            self._last_dts[index] = dts
            packet.dts = dts
        if index in self._converters:
            converted = self._converters[index].convert(packet)
            if converted is None:
                return
            packet = converted
        packet.stream = copy
        try:
            self._output.mux(packet)
        except (av.error.ArgumentError, av.error.InvalidDataError, ValueError) as exc:
            # A damaged packet of sound must not end hours of work; a full disk (OSError) must.
            if index not in self._refused:
                self._refused.add(index)
                self._notes.append(f"{_label(self._input.streams[index])} has damaged packets, left out: {exc}")


def _packet_seconds(packet: av.Packet) -> Fraction | None:
    ticks = packet.pts if packet.pts is not None else packet.dts
    return None if ticks is None else ticks * Fraction(packet.time_base)


def _fresh_tags(metadata: dict[str, str]) -> dict[str, str]:
    return {key: value for key, value in metadata.items() if not key.lower().startswith(_STALE_TAGS)}


def _label(stream: av.stream.Stream) -> str:
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else (stream.name or "unknown")
    language = f", {stream.language}" if stream.language else ""
    return f"{stream.type} stream {stream.index} ({codec}{language})"


def _is_chapter_track(stream: av.stream.Stream, container: av.container.InputContainer) -> bool:
    """Whether it is the text track in which MP4 keeps chapter names; chapters are copied as such."""
    return stream.type == "data" and bool(container.chapters()) and "mp4" in container.format.name
