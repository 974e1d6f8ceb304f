"""Colour tags and the arithmetic between RGB and Y'CbCr.

Knows the coefficients, the ranges and the rule for untagged clips. Does not know files or codecs. The numbers in
`ColourTags` are the ITU-T H.273 code points that FFmpeg uses too.

Shapes: h w pixels. RGB is float32 in [0, 1]; Y'CbCr planes are float32 codes in the units of their bit depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

UNSPECIFIED = 2
_BAND_PX = 65536
RANGE_UNSPECIFIED, RANGE_LIMITED, RANGE_FULL = 0, 1, 2

MATRIX_NAMES = {
    0: "rgb",
    1: "bt709",
    2: "untagged",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "ycgco",
    9: "bt2020nc",
    10: "bt2020c",
    14: "ictcp",
}
PRIMARIES_NAMES = {
    1: "bt709",
    2: "untagged",
    4: "bt470m",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    8: "film",
    9: "bt2020",
    10: "smpte428",
    11: "smpte431",
    12: "smpte432",
    22: "ebu3213",
}
TRANSFER_NAMES = {
    1: "bt709",
    2: "untagged",
    4: "gamma22",
    5: "gamma28",
    6: "smpte170m",
    7: "smpte240m",
    8: "linear",
    11: "iec61966-2-4",
    13: "srgb",
    14: "bt2020-10",
    15: "bt2020-12",
    16: "pq",
    18: "hlg",
}
RANGE_NAMES = {0: "untagged", 1: "limited", 2: "full"}

# (red weight, blue weight) of luma. bt2020c is read with the non-constant-luminance weights: an approximation.
_LUMA_WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),
}


@dataclass(frozen=True)
class ColourTags:
    """What a file says about its colours; code points of ITU-T H.273, 2 (range: 0) where it says nothing."""

    matrix: int = UNSPECIFIED
    """RGB to Y'CbCr matrix: 1 BT.709, 5/6 BT.601, 9 BT.2020, 0 RGB, 2 untagged."""
    range: int = RANGE_UNSPECIFIED
    """0 untagged, 1 limited (16-235), 2 full (0-255)."""
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    """16 is PQ, 18 is HLG."""

    def __str__(self) -> str:
        matrix = MATRIX_NAMES.get(self.matrix, str(self.matrix))
        transfer = TRANSFER_NAMES.get(self.transfer, str(self.transfer))
        primaries = PRIMARIES_NAMES.get(self.primaries, str(self.primaries))
        name = matrix if matrix == transfer == primaries else f"{matrix}/{primaries}/{transfer}"
        span = RANGE_NAMES.get(self.range, str(self.range))
        if span == RANGE_NAMES[0]:
            return "untagged colours" if name == span else name
        return f"{name} {span} range"


def assumed_tags(tags: ColourTags, height: int) -> ColourTags:
    """Fill in what an untagged clip is taken to be, so that reading and writing agree.

    The rule of players and of FFmpeg's own guess: BT.709 when the clip is 720 lines or higher, else BT.601; limited
    range. It is applied to the height of the *source*, on writing too, so that an untagged 480-line clip keeps its
    colours when it becomes a 1920-line one. Matrices without plain luma weights (YCgCo, ICtCp) are read as BT.709.

    Args:
        tags: what the file says.
        height: of the source, in pixels.
    """
    matrix = tags.matrix
    if matrix not in _LUMA_WEIGHTS:
        matrix = (1 if height >= 720 else 6) if matrix in (0, UNSPECIFIED) else 1
    return replace(tags, matrix=matrix, range=tags.range or RANGE_LIMITED)


def is_known_matrix(matrix: int) -> bool:
    """Whether the matrix is converted exactly (untagged and RGB count as known)."""
    return matrix in _LUMA_WEIGHTS or matrix in (0, UNSPECIFIED)


def _ranges(bits: int, is_full: bool) -> tuple[float, float, float, float]:
    """Return luma offset, luma span, chroma offset and chroma span in codes of `bits`."""
    if is_full:
        top = float(2**bits - 1)
        return 0.0, top, float(2 ** (bits - 1)), top
    unit = float(2 ** (bits - 8))
    return 16 * unit, 219 * unit, 128 * unit, 224 * unit


def _bands(length: int) -> Iterator[slice]:
    """Cut a plane into parts whose temporaries stay in the cache and off the page-fault path: 3 to 5 times faster."""
    for start in range(0, length, _BAND_PX):
        yield slice(start, start + _BAND_PX)


def ycbcr_to_rgb(planes: Tensor, tags: ColourTags, bits: int) -> Tensor:
    """Convert full-resolution Y'CbCr codes to RGB.

    Args:
        planes: ``(3, h, w)`` float32, Y' Cb Cr in codes of `bits`.
        tags: with matrix and range filled in (`assumed_tags`).
        bits: of the codes, 8 to 16.

    Returns:
        ``(3, h, w)`` float32 RGB, clipped to [0, 1].
    """
    red, blue = _LUMA_WEIGHTS[tags.matrix]
    green = 1 - red - blue
    y0, y_span, c0, c_span = _ranges(bits, tags.range == RANGE_FULL)
    to_rgb = torch.tensor(
        [
            [1 / y_span, 0.0, 2 * (1 - red) / c_span],
            [1 / y_span, -2 * blue * (1 - blue) / green / c_span, -2 * red * (1 - red) / green / c_span],
            [1 / y_span, 2 * (1 - blue) / c_span, 0.0],
        ],
        dtype=torch.float64,
    )
    offset = -(to_rgb @ torch.tensor([y0, c0, c0], dtype=torch.float64))
    flat = planes.reshape(3, -1)
    pixels = torch.empty_like(flat)
    matrix, shift = to_rgb.float(), offset.float()[:, None]
    for band in _bands(flat.shape[1]):
        pixels[:, band] = torch.addmm(shift, matrix, flat[:, band]).clamp_(0, 1)
    return pixels.reshape(planes.shape)


def rgb_to_ycbcr(pixels: Tensor, tags: ColourTags, bits: int) -> Tensor:
    """Convert RGB to full-resolution Y'CbCr codes, not yet rounded.

    Args:
        pixels: ``(3, h, w)`` float32 RGB in [0, 1]; values outside are clipped.
        tags: with matrix and range filled in (`assumed_tags`).
        bits: of the codes, 8 to 16.

    Returns:
        ``(3, h, w)`` float32, Y' Cb Cr in codes of `bits`.
    """
    red, blue = _LUMA_WEIGHTS[tags.matrix]
    green = 1 - red - blue
    y0, y_span, c0, c_span = _ranges(bits, tags.range == RANGE_FULL)
    cb, cr = c_span / (2 * (1 - blue)), c_span / (2 * (1 - red))
    to_ycbcr = torch.tensor(
        [
            [red * y_span, green * y_span, blue * y_span],
            [-red * cb, -green * cb, (1 - blue) * cb],
            [(1 - red) * cr, -green * cr, -blue * cr],
        ]
    )
    offset = torch.tensor([[y0], [c0], [c0]])
    flat = pixels.reshape(3, -1)
    planes = torch.empty_like(flat)
    for band in _bands(flat.shape[1]):
        planes[:, band] = torch.addmm(offset, to_ycbcr, flat[:, band].clamp(0, 1))
    return planes.reshape(pixels.shape)
