"""Text subtitles between what Matroska and what MP4 hold: the one conversion that "copy" needs.

MP4 takes only timed text (tx3g) and Matroska does not take that, so a plain copy would lose them. The words and their
times carry over exactly; styling beyond the plain text (fonts, colours, position) does not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import cast

import av
from av.subtitles.codeccontext import SubtitleCodecContext

_TAG = re.compile(r"</?[a-zA-Z][^<>]*>|\{\\[^{}]*\}")
_MP4_SUFFIXES = (".mp4", ".m4v", ".mov")
# The least that the timed text encoder takes as a style: it turns it into the sample description of the track.
_PLAIN_STYLE = b"""[Script Info]
ScriptType: v4.00+
PlayResX: 384
PlayResY: 288

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,1

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""


class SubtitleConverter:
    """Turns packets of one text subtitle codec into another.

    Args:
        target: FFmpeg's name of the codec written.
        rewrite: payload of a packet to the new payload, None to leave the packet out.
    """

    def __init__(self, target: str, rewrite: Callable[[bytes], bytes | None]) -> None:
        self.target = target
        self._rewrite = rewrite

    def add_stream(self, output: av.container.OutputContainer) -> av.stream.Stream:
        """Add the stream that takes the converted packets."""
        if self.target != "mov_text":
            return output.add_mux_stream(self.target)
        stream = output.add_stream(self.target)
        context = cast(SubtitleCodecContext, stream.codec_context)
        context.subtitle_header = _PLAIN_STYLE
        context.open()
        return stream

    def convert(self, packet: av.Packet) -> av.Packet | None:
        """Return the packet with its new payload, or None when nothing is shown."""
        payload = self._rewrite(bytes(packet))
        if payload is None:
            return None
        fresh = av.Packet(payload)
        fresh.time_base = packet.time_base
        fresh.pts, fresh.dts, fresh.duration = packet.pts, packet.dts, packet.duration
        fresh.is_keyframe = True
        return fresh


def subtitle_converter(stream: av.stream.Stream, suffix: str) -> SubtitleConverter | None:
    """Return a converter when a file of type `suffix` needs one for this stream, else None."""
    codec = stream.codec_context.codec.canonical_name if stream.codec_context else ""
    if codec == "mov_text" and suffix == ".mkv":
        return SubtitleConverter("subrip", timed_text_to_text)
    if suffix in _MP4_SUFFIXES and codec in ("subrip", "text", "webvtt"):
        return SubtitleConverter("mov_text", lambda data: text_to_timed_text(data))
    if suffix in _MP4_SUFFIXES and codec in ("ass", "ssa"):
        return SubtitleConverter("mov_text", lambda data: text_to_timed_text(dialogue_text(data)))
    return None


def timed_text_to_text(payload: bytes) -> bytes | None:
    """Take the text out of a timed text sample; None for the empty samples that MP4 writes for pauses."""
    text = payload[2 : 2 + int.from_bytes(payload[:2], "big")]
    return text if text.strip() else None


def text_to_timed_text(payload: bytes) -> bytes | None:
    """Make a timed text sample: a 16-bit length and the UTF-8 text without markup."""
    text = _TAG.sub("", payload.decode("utf-8", "replace")).replace("\r", "").strip("\n")
    data = text.encode()[:65535]
    return len(data).to_bytes(2, "big") + data if data else None


def dialogue_text(payload: bytes) -> bytes:
    """Take the text out of a Matroska ASS event: the ninth field, with its line breaks."""
    text = payload.split(b",", 8)[-1]
    return text.replace(b"\\N", b"\n").replace(b"\\n", b"\n").replace(b"\\h", b" ")
