"""JPEG on any device: what the usual encoder and decoder do to pixels, for all frames at once, without a file.

Baseline JPEG of libjpeg as OpenCV calls it: JFIF colours, chroma halved in both directions, the standard's tables
scaled by the quality, chroma enlarged by a triangle filter (ITU-T T.81 Annex K; T.871). Rounded to whole numbers at the
same places.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 8
_BITS = 13
_KEPT_BITS = 2
"""Of the result between the two passes of a transform."""
_HALF_DOWN = 0.5 - 2**-16
"""An exact half goes down: a full blue would be 255.5 and has to stay a byte."""
# ITU-T T.81, tables K.1 and K.2.
_LUMA = (
    *(16, 11, 10, 16, 24, 40, 51, 61),
    *(12, 12, 14, 19, 26, 58, 60, 55),
    *(14, 13, 16, 24, 40, 57, 69, 56),
    *(14, 17, 22, 29, 51, 87, 80, 62),
    *(18, 22, 37, 56, 68, 109, 103, 77),
    *(24, 35, 55, 64, 81, 104, 113, 92),
    *(49, 64, 78, 87, 103, 121, 120, 101),
    *(72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMA = (
    *(17, 18, 24, 47, 99, 99, 99, 99),
    *(18, 21, 26, 66, 99, 99, 99, 99),
    *(24, 26, 56, 99, 99, 99, 99, 99),
    *(47, 66, 99, 99, 99, 99, 99, 99),
    *(99,) * 32,
)


def compress_jpeg_on_device(clip: Tensor, qualities: Sequence[int], *, swapped: bool) -> Tensor:
    """``jpeg.compress_jpeg`` without OpenCV.

    Args:
        clip: ``(F, 3, H, W)``; clipped to [0, 1] and cut down to 8 bit first.
        qualities: F values from 1 to 100.
        swapped: see ``jpeg.compress_jpeg``.

    Returns:
        ``(F, 3, H, W)`` float32 in [0, 1], 8-bit values, on the device of ``clip``.
    """
    height, width = clip.shape[-2:]
    levels = clip.clamp(0, 1).mul(255).add_(1e-3).floor_()
    red, green, blue = (levels.flip(1) if swapped else levels).unbind(1)
    luma = _weighted((red, green, blue), (0.299, 0.587, 0.114))
    chroma = torch.stack(
        [
            _weighted((red, green, blue), (-0.168735892, -0.331264108, 0.5), _HALF_DOWN),
            _weighted((red, green, blue), (0.5, -0.418687589, -0.081312411), _HALF_DOWN),
        ],
        dim=1,
    ).add_(128)
    tables = torch.tensor([(_scaled(_LUMA, q), _scaled(_CHROMA, q)) for q in qualities], device=clip.device)
    tables = tables.float().view(len(qualities), 2, 1, 1, _BLOCK, _BLOCK)
    luma = _through_blocks(_padded(luma[:, None], _BLOCK, _BLOCK), tables[:, :1])[..., :height, :width]
    # Columns are filled up before they are halved, rows after it.
    half = _padded(_halved(_padded(chroma, 2, 2 * _BLOCK)), _BLOCK, _BLOCK)
    half = _through_blocks(half, tables[:, 1:])[..., : -(-height // 2), : -(-width // 2)]
    blue_part, red_part = (_doubled(half)[..., :height, :width] - 128).unbind(1)
    light = luma[:, 0]
    decoded = torch.stack(
        [
            light + _weighted((red_part,), (1.402,)),
            light + _weighted((blue_part, red_part), (-0.344136286, -0.714136286)),
            light + _weighted((blue_part,), (1.772,)),
        ],
        dim=1,
    ).clamp_(0, 255)
    return (decoded.flip(1) if swapped else decoded).div_(255)


def _weighted(planes: Sequence[Tensor], weights: Sequence[float], half: float = 0.5) -> Tensor:
    """Sum of whole numbers with weights rounded to 16 bits, exact, then rounded to whole numbers."""
    total = sum(plane.double() * round(weight * 2**16) for plane, weight in zip(planes, weights, strict=True))
    assert isinstance(total, Tensor)  # there is at least one
    return (total / 2**16 + half).floor_().float()


def _scaled(table: Sequence[int], quality: int) -> list[int]:
    factor = 5000 // quality if quality < 50 else 200 - 2 * quality
    return [min(max((value * factor + 50) // 100, 1), 255) for value in table]


def _padded(planes: Tensor, row_unit: int, column_unit: int) -> Tensor:
    height, width = planes.shape[-2:]
    return F.pad(planes, (0, -width % column_unit, 0, -height % row_unit), mode="replicate")


def _halved(planes: Tensor) -> Tensor:
    """Means of 2x2 pixels; the half is rounded up and down by turns."""
    sums = F.avg_pool2d(planes, 2, divisor_override=1)
    bias = torch.arange(sums.shape[-1], device=planes.device) % 2 + 1
    return ((sums + bias) / 4).floor_()


def _through_blocks(planes: Tensor, tables: Tensor) -> Tensor:
    """Transform, quantise and transform back 8x8 blocks of ``(F, C, H, W)``; tables ``(F, 1, 1, 1, 8, 8)``.

    In whole numbers held in float64, so that every product is exact and every rounding falls as in the library.
    """
    height, width = planes.shape[-2:]
    wave = _transform(planes.device)
    blocks = (planes - 128).unflatten(-2, (height // _BLOCK, _BLOCK)).unflatten(-1, (width // _BLOCK, _BLOCK))
    blocks = blocks.transpose(-2, -3).double()  # F, C, rows, columns, 8, 8
    rows = _shifted(blocks @ wave.T, _BITS - _KEPT_BITS)
    coefficients = _shifted(wave @ rows, _BITS + _KEPT_BITS)  # 8 times as large as the cosine transform
    levels = coefficients.sign() * ((coefficients.abs() + 4 * tables) / (8 * tables)).floor_() * tables
    columns = _shifted(wave.T @ levels, _BITS - _KEPT_BITS)
    back = (_shifted(columns @ wave, _BITS + _KEPT_BITS + 3) + 128).clamp_(0, 255)
    return back.transpose(-2, -3).reshape(*planes.shape).float()


def _shifted(values: Tensor, bits: int) -> Tensor:
    """Divided by a power of two and rounded, a half up."""
    return (values / 2**bits + 0.5).floor_()


@lru_cache(maxsize=4)
def _transform(device: torch.device) -> Tensor:
    """The eight cosines as the library has them: sums of rotations whose factors are rounded to 13 bits.

    The factorisation is that of Loeffler, Ligtenberg and Moschytz (1989), scaled by the square root of 8.

    Returns:
        ``(8, 8)`` float64, whole numbers, a row per frequency.
    """

    def fixed(value: float) -> int:
        return round(value * 2**_BITS)

    # cosines of k pi / 16, times the square root of 2
    c = [math.sqrt(2) * math.cos(k * math.pi / 16) for k in range(8)]
    matrix = torch.zeros(8, 8, dtype=torch.float64)
    half = torch.eye(4, dtype=torch.float64)
    sums, differences = torch.cat([half, half.flip(1)], dim=1), torch.cat([half, -half.flip(1)], dim=1)
    outer, inner = sums[0] - sums[3], sums[1] - sums[2]
    matrix[0] = sums.sum(0) * 2**_BITS
    matrix[4] = (sums[0] + sums[3] - sums[1] - sums[2]) * 2**_BITS
    turned = (outer + inner) * fixed(c[6])
    matrix[2] = turned + outer * fixed(c[2] - c[6])
    matrix[6] = turned - inner * fixed(c[2] + c[6])
    d7, d6, d5, d4 = differences
    both = (d4 + d6 + d5 + d7) * fixed(c[3])
    across, along = both - (d4 + d6) * fixed(c[3] + c[5]), both - (d5 + d7) * fixed(c[3] - c[5])
    near, far = (d4 + d7) * fixed(c[3] - c[7]), (d5 + d6) * fixed(c[1] + c[3])
    matrix[7] = d4 * fixed(-c[1] + c[3] + c[5] - c[7]) - near + across
    matrix[5] = d5 * fixed(c[1] + c[3] - c[5] + c[7]) - far + along
    matrix[3] = d6 * fixed(c[1] + c[3] + c[5] - c[7]) - far + across
    matrix[1] = d7 * fixed(c[1] + c[3] - c[5] - c[7]) - near + along
    return matrix.to(device)


def _doubled(planes: Tensor) -> Tensor:
    """Enlarge by 2: three parts of the nearest value, one of the next; the half is rounded up and down by turns."""
    height, width = planes.shape[-2:]
    wide = F.pad(planes, (1, 1, 1, 1), mode="replicate")
    above, below = (3 * wide[..., 1:-1, :] + wide[..., :-2, :], 3 * wide[..., 1:-1, :] + wide[..., 2:, :])
    rows = torch.stack([above, below], dim=-2).reshape(*planes.shape[:-2], 2 * height, width + 2)
    left = (3 * rows[..., 1:-1] + rows[..., :-2] + 8).div_(16).floor_()
    right = (3 * rows[..., 1:-1] + rows[..., 2:] + 7).div_(16).floor_()
    return torch.stack([left, right], dim=-1).reshape(*planes.shape[:-2], 2 * height, 2 * width)
