"""How frames lie in a stream without a container: layout, size, rate, and what is known of their colours."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from fractions import Fraction

import av

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.video.border import MAX_FRAME_PX, MAX_SIDE_PX
from sparkvsr.video.colour_tags import RANGE_FULL, RANGE_LIMITED, ColourTags

_RANGES = {"limited": RANGE_LIMITED, "tv": RANGE_LIMITED, "full": RANGE_FULL, "pc": RANGE_FULL}
_COLOURS = {"bt601": (6, 6, 6), "bt709": (1, 1, 1), "bt2020": (9, 9, 14), "pq": (9, 9, 16), "hlg": (9, 9, 18)}
"""Word of `--input-format`: matrix, primaries, transfer, as code points of ITU-T H.273."""

EXAMPLE = "yuv420p:640x360:30000/1001"
MAX_FPS = 1000


@dataclass(frozen=True)
class FrameFormat:
    """Everything about a stream of plain frames."""

    kind: str
    """``y4m`` or ``rawvideo``."""
    pixel_format: str
    """FFmpeg's name."""
    width: int
    height: int
    fps: Fraction
    sample_aspect_ratio: Fraction = Fraction(1)
    color: ColourTags = field(default_factory=ColourTags)
    is_center_sited: bool = False
    """Whether chroma samples sit between two luma columns (420jpeg)."""
    fields: str = "progressive"
    """``progressive``, ``tff``, ``bff``, ``mixed`` or ``unknown``."""
    num_frames: int | None = None
    """Where the stream announces it (XLENGTH, which VapourSynth writes)."""
    notes: tuple[str, ...] = ()
    """What was assumed, one line each."""

    @property
    def frame_bytes(self) -> int:
        """Size of one frame in the stream."""
        layout = av.VideoFormat(self.pixel_format, self.width, self.height)
        if layout.is_planar or len(layout.components) == 1:
            return sum(part.width * part.height * ((part.bits + 7) // 8) for part in layout.components)
        # Packed: with chroma at half width the last pair is always whole.
        across = self.width + self.width % 2 if any(p.width < self.width for p in layout.components) else self.width
        return across * self.height * layout.padded_bits_per_pixel // 8


def parse_input_format(text: str) -> FrameFormat:
    """``"yuv420p:640x360:30000/1001"``, with ``:full`` or ``:limited`` and ``:bt601``, ``:bt709``, ... behind it.

    Raises:
        ConfigError: not of that form, or a pixel format that is not read.
    """
    name, *rest = text.strip().split(":")
    if len(rest) < 2:
        msg = f"--input-format {text!r} is not PIXELFORMAT:WIDTHxHEIGHT:FPS; write it like {EXAMPLE}"
        raise ConfigError(msg)
    size = re.fullmatch(r"(\d{1,6})[xX](\d{1,6})", rest[0])
    if size is None:
        msg = f"--input-format {text!r}: {rest[0]!r} is not WIDTHxHEIGHT; write it like {EXAMPLE}"
        raise ConfigError(msg)
    width, height = int(size[1]), int(size[2])
    if not _is_readable(width, height):
        msg = f"--input-format {text!r}: sides of 1 to {MAX_SIDE_PX} pixels are read"
        raise ConfigError(msg)
    color = ColourTags()
    for word in rest[2:]:
        if word.lower() in _RANGES:
            color = ColourTags(color.matrix, _RANGES[word.lower()], color.primaries, color.transfer)
        elif word.lower() in _COLOURS:
            matrix, primaries, transfer = _COLOURS[word.lower()]
            color = ColourTags(matrix, color.range, primaries, transfer)
        else:
            known = ", ".join([*_RANGES, *_COLOURS])
            msg = f"--input-format {text!r}: {word!r} is unknown; behind the rate it takes {known}"
            raise ConfigError(msg)
    _check_pixel_format(text, name)
    if av.VideoFormat(name, 64, 64).is_rgb:
        color = ColourTags(0, RANGE_FULL, color.primaries, color.transfer)
    return FrameFormat("rawvideo", name, width, height, _rate(text, rest[1]), color=color)


def _rate(text: str, rate: str) -> Fraction:
    try:
        fps = Fraction(rate)
    except (ValueError, ZeroDivisionError):
        fps = Fraction(0)
    if not 0 < fps <= MAX_FPS:
        msg = f"--input-format {text!r}: {rate!r} is not a frame rate; write it like 25 or 30000/1001"
        raise ConfigError(msg)
    return fps.limit_denominator(1_000_000)


def _check_pixel_format(text: str, name: str) -> None:
    try:
        layout = av.VideoFormat(name, 64, 64)
    except ValueError:
        msg = f"--input-format {text!r}: {name!r} is no pixel format of FFmpeg; `ffmpeg -pix_fmts` lists them"
        raise ConfigError(msg) from None
    is_float = name.endswith(("f32le", "f32be", "f16le", "f16be"))
    if layout.is_bit_stream or layout.has_palette or layout.is_bayer or is_float or not layout.components:
        msg = f"--input-format {text!r}: {name} is not read; convert it with -pix_fmt yuv444p16le or rgb48le"
        raise ConfigError(msg)


def _is_readable(width: int, height: int) -> bool:
    return 0 < width <= MAX_SIDE_PX and 0 < height <= MAX_SIDE_PX and width * height <= MAX_FRAME_PX


def check_frame_size(width: int, height: int, name: str) -> None:
    """Refuse sizes that no real clip has, before memory is taken for them.

    Raises:
        DecodeError: a side is 0 or too long.
    """
    if not _is_readable(width, height):
        msg = f"{name} declares frames of {width}x{height}; sides of 1 to {MAX_SIDE_PX} pixels are read"
        raise DecodeError(msg)
