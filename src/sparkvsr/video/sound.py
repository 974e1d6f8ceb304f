"""Sound that a container cannot hold as it is, encoded anew: decoded, put into the encoder's form, encoded."""

from __future__ import annotations

from fractions import Fraction
from typing import cast

import av
import av.error

_BIT_RATE_PER_CHANNEL = 96_000
"""For AAC and Opus: 192 kbit/s for stereo, where neither is told from its source in listening tests."""
_RATES = {
    "aac": (7350, 8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
    "libopus": (48000,),
}
_LAYOUTS = {1: "mono", 2: "stereo", 3: "2.1", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""By the number of channels: some files (WMA, AVI) do not name their layout. More than eight become stereo."""
_OPUS_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")
"""That Opus knows (RFC 7845, channel mapping family 1); the others go into 5.1 or 7.1, which hold their speakers."""
_LOSSLESS = ("pcm_", "flac", "alac", "truehd", "mlp", "ape", "tta", "wavpack", "tak", "dts")


class SoundTranscoder:
    """Turns the packets of one sound stream into those of another codec, at the same times.

    Args:
        source: the stream, of an open file.
        encoder: FFmpeg's name: ``aac``, ``flac`` or ``libopus``.
    """

    def __init__(self, source: av.stream.Stream, encoder: str) -> None:
        self._decoder = cast(av.audio.stream.AudioStream, source).codec_context
        self._encoder = encoder
        self._stream: av.audio.stream.AudioStream | None = None
        self._next: Fraction | None = None

    def add_stream(self, output: av.container.OutputContainer) -> av.stream.Stream:
        """Add the stream that takes the packets."""
        rate = self._decoder.sample_rate or 48000
        allowed = _RATES.get(self._encoder)
        if allowed is not None and rate not in allowed:
            rate = next((value for value in allowed if value > rate), allowed[-1])
        stream = cast(av.audio.stream.AudioStream, output.add_stream(self._encoder, rate=rate))
        context = stream.codec_context
        context.layout = self._layout()
        if self._encoder == "flac":
            context.format = "s32" if self._is_deep() else "s16"
        else:
            context.bit_rate = _BIT_RATE_PER_CHANNEL * max(1, self._decoder.channels)
        context.time_base = Fraction(1, rate)
        stream.time_base = Fraction(1, rate)
        context.open()
        self._stream = stream
        return stream

    def _layout(self) -> str:
        """Of the new stream; one that the encoder takes."""
        channels, own = self._decoder.channels, self._decoder.layout.name
        if self._encoder != "libopus" or channels <= 2:
            return _LAYOUTS.get(channels, "stereo")
        if own in _OPUS_LAYOUTS:
            return own
        return "stereo" if channels not in _LAYOUTS else "5.1" if channels <= 6 else "7.1"

    def convert(self, packet: av.Packet | None) -> list[av.Packet]:
        """Encode what a packet decodes to; None at the end gives what was held back.

        Returns:
            Packets of the new stream.

        Raises:
            ValueError: the packet is damaged; the next one may be fine.
            FFmpegError: the encoder fails.
        """
        assert self._stream is not None
        try:
            frames = self._decoder.decode(packet)
        except av.error.EOFError:
            frames = []
        except av.error.FFmpegError as exc:
            msg = f"a packet of sound does not decode: {exc.strerror}"
            raise ValueError(msg) from exc
        found = [encoded for frame in frames for encoded in self._encode(frame)]
        if packet is None and self._next is not None:
            found += self._stream.encode(None)
        return found

    def _encode(self, frame: av.AudioFrame) -> list[av.Packet]:
        """Frames follow each other; where the source has a gap or jumps, the time of the frame holds."""
        assert self._stream is not None
        rate = frame.sample_rate
        time = None if frame.pts is None or frame.time_base is None else frame.pts * Fraction(frame.time_base)
        # Rounded container times (1 ms in Matroska and ASF) must not become holes of a few samples.
        if self._next is not None and (time is None or abs(time - self._next) < Fraction(1, 20)):
            time = self._next
        time = time or Fraction(0)
        frame.time_base = Fraction(1, rate)
        frame.pts = round(time * rate)
        self._next = time + Fraction(frame.samples, rate)
        return list(self._stream.encode(frame))

    def _is_deep(self) -> bool:
        """More than 16 bits, where the source is exact."""
        name = self._decoder.codec.canonical_name
        is_wide = self._decoder.format.name.rstrip("p") in ("s32", "s64", "flt", "dbl")
        return is_wide and name.startswith(_LOSSLESS)
