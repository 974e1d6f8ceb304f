"""Just enough of the H.264 and HEVC slice headers to see that a picture is intra coded.

Containers flag only the frames a decoder can start at. x264 also writes plain I-frames (a scene cut soon after the
last start point), which are as clean and which ffprobe calls I: those are found here, from the first bytes of
packet. Anything that does not parse counts as not intra.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import av


@dataclass(frozen=True)
class SliceParser:
    """How the packets of one stream are laid out."""

    codec: str
    length_bytes: int
    """Size of the length field before each NAL unit; 0 for start codes (Annex B)."""


def slice_parser(codec: str, extradata: bytes | None) -> SliceParser | None:
    """Return a parser for `codec`, or None when only the container's flags are used."""
    if codec not in ("h264", "hevc"):
        return None
    length_bytes = 0
    if extradata and extradata[0] == 1:
        if codec == "h264" and len(extradata) > 4:
            length_bytes = (extradata[4] & 3) + 1
        elif codec == "hevc" and len(extradata) > 21:
            length_bytes = (extradata[21] & 3) + 1
    return SliceParser(codec, length_bytes)


def is_intra_packet(parser: SliceParser | None, packet: av.Packet) -> bool | None:
    """Whether every slice of the packet is intra coded; None when its headers do not say.

    A recovery point (gradual intra refresh) is flagged by parsers and containers like a start point, but its picture is
    a P picture: here it is none.
    """
    if parser is None:
        return None
    found: bool | None = None
    for payload in _nal_units(memoryview(packet), parser.length_bytes):
        if len(payload) < 2:
            continue
        if parser.codec == "hevc":
            # Every intra picture that an encoder places is an IRAP picture (types 16 to 23).
            if (kind := payload[0] >> 1 & 0x3F) < 32:
                return 16 <= kind <= 23
        elif payload[0] & 0x1F in (1, 5):
            slice_type = _h264_slice_type(bytes(payload[1:12]))
            if slice_type < 0:
                return found
            found = slice_type in (2, 4)
            if not found:
                return False
    return found


def _nal_units(data: memoryview, length_bytes: int) -> Iterator[memoryview]:
    if length_bytes:
        position = 0
        while position + length_bytes < len(data):
            size = int.from_bytes(data[position : position + length_bytes], "big")
            position += length_bytes
            yield data[position : position + size]
            position += size
        return
    raw = bytes(data)
    position = raw.find(b"\x00\x00\x01")
    while position >= 0:
        following = raw.find(b"\x00\x00\x01", position + 3)
        yield data[position + 3 : following if following >= 0 else len(data)]
        position = following


def _h264_slice_type(header: bytes) -> int:
    """Slice type modulo 5 (0 P, 1 B, 2 I, 3 SP, 4 SI), or -1: the second Exp-Golomb number of the header."""
    # The 1 in front keeps zeros at the beginning; films have 200,000 packets, so that joining bytes one by one shows.
    bits = bin(int.from_bytes(b"\x01" + header.replace(b"\x00\x00\x03", b"\x00\x00"), "big"))[3:]
    position = 0
    value = -1
    for _ in range(2):
        zeros = bits.find("1", position) - position
        if zeros < 0 or zeros > 20 or position + 2 * zeros + 1 > len(bits):
            return -1
        value = int(bits[position + zeros : position + 2 * zeros + 1], 2) - 1
        position += 2 * zeros + 1
    return value % 5
