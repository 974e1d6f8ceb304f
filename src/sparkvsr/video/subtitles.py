"""Text subtitles between Matroska's SubRip and MP4's timed text: the one conversion that "copy" needs.

MP4 holds only timed text (tx3g) and Matroska does not hold that, so a plain copy would lose them. A packet of timed
text is the UTF-8 text after a 16-bit length, so the words and their times carry over exactly; styling beyond the
plain text (fonts, colours, position) does not.
"""

from __future__ import annotations

import re
from typing import Protocol

import av

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")


class SubtitleConverter(Protocol):
    """Turns packets of one text subtitle codec into another."""

    target: str

    def add_stream(self, output: av.container.OutputContainer) -> av.stream.Stream: ...

    def convert(self, packet: av.Packet) -> av.Packet | None: ...


class TimedTextToSubRip:
    """MP4 timed text to SubRip, for Matroska."""

    target = "subrip"

    def add_stream(self, output: av.container.OutputContainer) -> av.stream.Stream:
        return output.add_mux_stream("subrip")

    def convert(self, packet: av.Packet) -> av.Packet | None:
        data = bytes(packet)
        size = int.from_bytes(data[:2], "big")
        text = data[2 : 2 + size]
        if not text.strip():
            return None  # MP4 writes empty samples for the pauses
        return _replaced(packet, text)


def _replaced(packet: av.Packet, payload: bytes) -> av.Packet:
    fresh = av.Packet(payload)
    fresh.time_base = packet.time_base
    fresh.pts, fresh.dts, fresh.duration = packet.pts, packet.dts, packet.duration
    fresh.is_keyframe = True
    return fresh


def subtitle_converter(stream: av.stream.Stream, suffix: str) -> SubtitleConverter | None:
    """Return a converter when `suffix` needs one for this stream, else None."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if codec == "mov_text" and suffix == ".mkv":
        return TimedTextToSubRip()
    return None
