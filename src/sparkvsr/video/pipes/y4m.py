"""The header of a YUV4MPEG2 stream, read and written (mjpegtools' yuv4mpeg(5), with the words that FFmpeg adds).

    YUV4MPEG2 W640 H360 F30000:1001 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED

Each frame follows as a line that begins with FRAME and its planes; samples above 8 bit are little-endian words. There
is no place for matrix, primaries and transfer.
"""

from __future__ import annotations

from fractions import Fraction

from sparkvsr.errors import DecodeError
from sparkvsr.video.colour_tags import RANGE_FULL, RANGE_LIMITED, RANGE_UNSPECIFIED, ColourTags

from .descriptors import PipeReader
from .frame_format import MAX_FPS, FrameFormat, check_frame_size

Y4M_MAGIC = b"YUV4MPEG2"
MAX_HEADER_BYTES = 4096
FRAME_LINE = b"FRAME\n"

DEPTHS = (9, 10, 12, 14, 16)
_FORMATS = {
    "420jpeg": "yuv420p",
    "420mpeg2": "yuv420p",
    "420paldv": "yuv420p",
    "420": "yuv420p",
    "411": "yuv411p",
    "422": "yuv422p",
    "444": "yuv444p",
    "444alpha": "yuva444p",
    "mono": "gray",
    **{f"{chroma}p{bits}": f"yuv{chroma}p{bits}le" for chroma in ("420", "422", "444") for bits in DEPTHS},
    **{f"mono{bits}": f"gray{bits}le" for bits in DEPTHS},
}
_WORDS = {
    **{name: word for word, name in _FORMATS.items() if name != "yuv420p"},
    "yuv420p": "420mpeg2",
}
_FIELDS = {"p": "progressive", "t": "tff", "b": "bff", "m": "mixed", "?": "unknown"}
_RANGES = {"LIMITED": RANGE_LIMITED, "FULL": RANGE_FULL}
_CENTER_SITED = ("420jpeg",)
"""A bare 420 says nothing; VapourSynth writes it for video as it is everywhere else, with chroma on the left."""

DEFAULT_FPS = Fraction(25)


def read_y4m_header(reader: PipeReader) -> FrameFormat:
    """Read the header line.

    Raises:
        DecodeError: it is none, or says something that is not read.
    """
    line = reader.read_line(MAX_HEADER_BYTES)
    if not line.startswith(Y4M_MAGIC + b" ") or not line.endswith(b"\n"):
        msg = f"{reader.name} holds no whole y4m header; the stream is damaged or cut short"
        raise DecodeError(msg)
    words = line.decode("ascii", "replace").split()[1:]
    values = {word[0]: word[1:] for word in words if word[0] != "X"}
    extra = dict(word[1:].partition("=")[::2] for word in words if word[0] == "X")
    notes = []
    width, height = (_whole(values.get(key, ""), reader.name, key) for key in "WH")
    check_frame_size(width, height, reader.name)
    chroma = values.get("C", "420jpeg")
    if chroma not in _FORMATS:
        msg = f"{reader.name} is y4m with the layout C{chroma}, which is not read; convert it with -pix_fmt yuv420p"
        raise DecodeError(msg)
    fps = _ratio(values.get("F", ""))
    if fps is None or not 0 < fps <= MAX_FPS:
        notes.append(f"{reader.name} does not say its frame rate: {DEFAULT_FPS} frames a second are assumed")
        fps = DEFAULT_FPS
    length = extra.get("LENGTH", "")
    color = ColourTags(range=_RANGES.get(extra.get("COLORRANGE", "").upper(), RANGE_UNSPECIFIED))
    return FrameFormat(
        "y4m",
        _FORMATS[chroma],
        width,
        height,
        fps,
        sample_aspect_ratio=_ratio(values.get("A", "")) or Fraction(1),
        color=color,
        is_center_sited=chroma in _CENTER_SITED,
        fields=_FIELDS.get(values.get("I", "?"), "unknown"),
        num_frames=int(length) if length.isdecimal() and 0 < int(length) < 10**9 else None,
        notes=tuple(notes),
    )


def read_frame_line(reader: PipeReader, index: int) -> bool:
    """Read the line before a frame; False at the end of the stream.

    Raises:
        DecodeError: something else stands there.
    """
    line = reader.read_line(MAX_HEADER_BYTES)
    if not line or reader.is_stopped:
        return False
    if line.startswith(b"FRAME") and line.endswith(b"\n"):
        return True
    if FRAME_LINE.startswith(line):
        msg = f"{reader.name} ended in the middle of frame {index}; the program before it stopped early"
        raise DecodeError(msg)
    msg = f"{reader.name} is damaged: no frame begins where frame {index} should"
    raise DecodeError(msg)


def y4m_header(pixel_format: str, size: tuple[int, int], fps: Fraction, aspect: Fraction, color: ColourTags) -> bytes:
    """The header line of a progressive stream.

    Args:
        pixel_format: one that y4m has a word for.
        size: ``(H, W)``.
        fps: frames a second.
        aspect: of a sample.
        color: only its range has a place.
    """
    word = _WORDS[pixel_format]
    parts = [
        f"W{size[1]} H{size[0]} F{fps.numerator}:{fps.denominator} Ip A{aspect.numerator}:{aspect.denominator}",
        f"C{word}",
    ]
    if not word.startswith("mono"):
        parts.append(f"XYSCSS={word.upper()}")
    name = {value: key for key, value in _RANGES.items()}.get(color.range)
    if name is not None:
        parts.append(f"XCOLORRANGE={name}")
    return Y4M_MAGIC + b" " + " ".join(parts).encode("ascii") + b"\n"


def has_word(pixel_format: str) -> bool:
    """Whether y4m can hold a pixel format."""
    return pixel_format in _WORDS and pixel_format != "yuva444p"


def _whole(text: str, name: str, key: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 9):
        msg = f"{name} is y4m without a usable {'width' if key == 'W' else 'height'} ({key}{text[:20]})"
        raise DecodeError(msg)
    return int(text)


def _ratio(text: str) -> Fraction | None:
    top, _, bottom = text.partition(":")
    if not (top.isascii() and top.isdecimal() and bottom.isascii() and bottom.isdecimal() and len(text) < 24):
        return None
    return Fraction(int(top), int(bottom)) if int(top) and int(bottom) else None
