"""Pixels between FFmpeg's frames and float tensors: the only place where integers become [0, 1] and back.

FFmpeg's own converter (swscale) rounds YUV to RGB up to two codes off and writes chroma up to 1.8 codes off, so the
matrix arithmetic is done here in float. swscale only rearranges memory (packed to planar), which is exact.

Shapes: h w pixels. Colour is RGB, float32 in [0, 1].
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import lru_cache

import av
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .colour_tags import RANGE_FULL, RANGE_LIMITED, ColourTags, assumed_tags, rgb_to_ycbcr, ycbcr_to_rgb

# Packed or semi-planar layouts and the planar layout that holds the same samples.
_PLANAR_TWIN = {
    "nv12": "yuv420p",
    "nv21": "yuv420p",
    "nv16": "yuv422p",
    "nv24": "yuv444p",
    "nv42": "yuv444p",
    "nv20le": "yuv422p10le",
    "yuyv422": "yuv422p",
    "uyvy422": "yuv422p",
    "yvyu422": "yuv422p",
    "uyyvyy411": "yuv411p",
    "p010le": "yuv420p10le",
    "p012le": "yuv420p12le",
    "p016le": "yuv420p16le",
    "p210le": "yuv422p10le",
    "p216le": "yuv422p16le",
    "p410le": "yuv444p10le",
    "p416le": "yuv444p16le",
    "y210le": "yuv422p10le",
    "y212le": "yuv422p12le",
    "xv30le": "yuv444p10le",
    "xv36le": "yuv444p12le",
    "v30xle": "yuv444p10le",
    "vuya": "yuva444p",
    "ayuv": "yuva444p",
    "vuyx": "yuv444p",
    "ayuv64le": "yuva444p16le",
}


_REACH = 8
"""Luma rows and columns that the interpolation of chroma reaches at most; a multiple of every ratio of both."""


def is_grey_format(name: str) -> bool:
    """Whether a pixel format has no colour: one channel, or one and transparency."""
    return name.startswith(("gray", "ya", "mono"))


def has_alpha_format(format_name: str) -> bool:
    """Whether a pixel format carries transparency (a palette counts: its entries may be transparent)."""
    pixel_format = av.VideoFormat(format_name)
    return pixel_format.has_palette or any(component.is_alpha for component in pixel_format.components)


def frame_bit_depth(format_name: str) -> int:
    """Bits of one sample, 8 to 16 (32 for float formats)."""
    pixel_format = av.VideoFormat(format_name)
    if pixel_format.has_palette or not pixel_format.components:
        return 8
    return max(8, *(component.bits for component in pixel_format.components))


def plane_array(plane: av.video.plane.VideoPlane, dtype: type[np.generic]) -> np.ndarray:
    """View one plane as ``(height, width)`` without its row padding; writing to the view writes the frame."""
    rows = np.frombuffer(memoryview(plane), dtype=dtype)
    stride = plane.line_size // np.dtype(dtype).itemsize
    return rows[: stride * plane.height].reshape(plane.height, stride)[:, : plane.width]


def _planes_as_float(frame: av.VideoFrame, count: int) -> list[Tensor]:
    bits = frame_bit_depth(frame.format.name)
    dtype = np.uint8 if bits == 8 else np.uint16
    # `astype` copies, so the tensors stay valid after FFmpeg reuses the frame's memory.
    return [torch.from_numpy(plane_array(plane, dtype).astype(np.float32)) for plane in frame.planes[:count]]


@lru_cache(maxsize=16)
def _upsampling_taps(source: int, target: int, factor: int, is_cosited: bool) -> tuple[Tensor, Tensor]:
    """Positions ``(4, target)`` and weights ``(4, target)`` of a Catmull-Rom enlargement of one chroma axis."""
    shift = 0.0 if is_cosited else (factor - 1) / 2
    position = (torch.arange(target, dtype=torch.float64) - shift) / factor
    left = position.floor()
    t = position - left
    weights = torch.stack(
        [
            -0.5 * t + t**2 - 0.5 * t**3,
            1 - 2.5 * t**2 + 1.5 * t**3,
            0.5 * t + 2 * t**2 - 1.5 * t**3,
            -0.5 * t**2 + 0.5 * t**3,
        ]
    )
    indices = left.long() + torch.arange(-1, 3)[:, None]
    return indices.clamp(0, source - 1), weights.float()


def _upsample(plane: Tensor, axis: int, target: int, factor: int, is_cosited: bool) -> Tensor:
    indices, weights = _upsampling_taps(plane.shape[axis], target, factor, is_cosited)
    shape = (-1, 1) if axis == 0 else (1, -1)
    taps = [plane.index_select(axis, indices[k]).mul_(weights[k].reshape(shape)) for k in range(4)]
    return taps[0].add_(taps[1]).add_(taps[2]).add_(taps[3])


def frame_to_pixels(
    frame: av.VideoFrame,
    tags: ColourTags,
    *,
    is_center_sited: bool = False,
    window: tuple[slice, slice] | None = None,
) -> tuple[Tensor, Tensor | None]:
    """Convert a decoded frame to RGB.

    Args:
        frame: any pixel format that FFmpeg decodes to.
        tags: of the clip; what is untagged is filled in by `color.assumed_tags` with the frame's height.
        is_center_sited: whether chroma samples sit between two luma columns (JPEG, MPEG-1) instead of on the left
            one (everything else).
        window: rows and columns to convert, the same values as in the whole picture; None takes all of it.

    Returns:
        RGB ``(3, h, w)`` and alpha ``(1, h, w)`` or None; float32 in [0, 1].
    """
    if window is not None:
        return _window_to_pixels(frame, tags, window, is_center_sited=is_center_sited)
    frame = _to_readable_layout(frame)
    name = frame.format.name
    bits = frame_bit_depth(name)
    top = float(2**bits - 1)
    has_alpha = has_alpha_format(name)

    # 1. RGB: planes come in the order G B R (A)
    if name.startswith("gbr"):
        planes = _planes_as_float(frame, 4 if has_alpha else 3)
        pixels = torch.stack([planes[2], planes[0], planes[1]]).div_(top)
        return pixels, planes[3][None].div_(top) if has_alpha else None

    # 2. Grey: full range unless the file says otherwise, as every encoder of grey writes it
    if name.startswith("gray"):
        luma = _planes_as_float(frame, 1)[0]
        unit = 2 ** (bits - 8)
        luma = luma.sub_(16 * unit).div_(219 * unit) if tags.range == RANGE_LIMITED else luma.div_(top)
        return luma.clamp_(0, 1)[None].repeat(3, 1, 1), None

    # 3. Y'CbCr
    luma, cb, cr, *rest = _planes_as_float(frame, 4 if has_alpha else 3)
    read_as = _read_as(name, tags, luma.shape[0])
    pixels = _from_ycbcr(luma, cb, cr, read_as, bits, is_center_sited=is_center_sited)
    return pixels, rest[0][None].div_(top) if rest else None


def _window_to_pixels(
    frame: av.VideoFrame, tags: ColourTags, window: tuple[slice, slice], *, is_center_sited: bool
) -> tuple[Tensor, Tensor | None]:
    """``frame_to_pixels`` of a part: Y'CbCr without alpha is cut before it is converted, all else after it."""
    frame = _to_readable_layout(frame)
    name, bits = frame.format.name, frame_bit_depth(frame.format.name)
    rows, columns = window
    if name.startswith(("gbr", "gray")) or has_alpha_format(name):
        pixels, alpha = frame_to_pixels(frame, tags, is_center_sited=is_center_sited)
        return pixels[:, rows, columns], None if alpha is None else alpha[:, rows, columns]
    dtype = np.uint8 if bits == 8 else np.uint16
    planes = [plane_array(plane, dtype) for plane in frame.planes[:3]]
    height, width = planes[0].shape
    down, across = _ratio(height, planes[1].shape[0]), _ratio(width, planes[1].shape[1])
    # Whole chroma samples, and as many more as the interpolation reaches.
    wide = [
        slice(max(0, (side.start - _REACH) // _REACH * _REACH), min(full, side.stop + _REACH))
        for side, full in ((rows, height), (columns, width))
    ]
    luma = planes[0][wide[0], wide[1]]
    chroma = [
        plane[wide[0].start // down : -(-wide[0].stop // down), wide[1].start // across : -(-wide[1].stop // across)]
        for plane in planes[1:]
    ]
    parts = [torch.from_numpy(part.astype(np.float32)) for part in (luma, *chroma)]
    read_as, ratios = _read_as(name, tags, height), (down, across)
    pixels = _from_ycbcr(parts[0], parts[1], parts[2], read_as, bits, is_center_sited=is_center_sited, ratios=ratios)
    top, left = rows.start - wide[0].start, columns.start - wide[1].start
    return pixels[:, top : top + rows.stop - rows.start, left : left + columns.stop - columns.start], None


def _read_as(format_name: str, tags: ColourTags, height: int) -> ColourTags:
    """The tags by which a Y'CbCr picture of so many rows is read: the j of yuvj says full range."""
    full = replace(tags, range=RANGE_FULL) if format_name.startswith("yuvj") else tags
    return assumed_tags(full, height)


def _ratio(luma: int, chroma: int) -> int:
    return max(1, 2 ** round(math.log2(luma / chroma))) if luma > 1 else 1


def _from_ycbcr(
    luma: Tensor,
    cb: Tensor,
    cr: Tensor,
    tags: ColourTags,
    bits: int,
    *,
    is_center_sited: bool,
    ratios: tuple[int, int] | None = None,
) -> Tensor:
    """Codes as float to RGB ``(3, h, w)``; ratios are luma over chroma rows and columns, None asks the sizes."""
    h, w = luma.shape
    down, across = ratios or (_ratio(h, cb.shape[0]), _ratio(w, cb.shape[1]))
    chroma = []
    for plane in (cb, cr):
        if down > 1:
            plane = _upsample(plane, 0, h, down, False)
        if across > 1:
            plane = _upsample(plane, 1, w, across, not is_center_sited)
        chroma.append(plane)
    return ycbcr_to_rgb(torch.stack([luma, *chroma]), tags, bits)


def _to_readable_layout(frame: av.VideoFrame) -> av.VideoFrame:
    """Rearrange to one of the planar layouts read here, without changing a sample."""
    name = frame.format.name
    pixel_format = frame.format
    is_planar_yuv = name.startswith("yuv") and pixel_format.is_planar and not name.endswith("be")
    if is_planar_yuv or (name.startswith(("gbrp", "gbrap")) and not name.endswith(("be", "f32le", "f16le"))):
        return frame
    if name.startswith("gray") and not name.endswith(("be", "f32le", "f16le")):
        return frame
    deep = frame_bit_depth(name) > 8
    if name in _PLANAR_TWIN:
        target = _PLANAR_TWIN[name]
    elif pixel_format.is_rgb or pixel_format.has_palette or name.startswith(("ya", "gray", "mono", "bayer", "xyz")):
        target = ("gbrap" if has_alpha_format(name) else "gbrp") + ("16le" if deep else "")
    else:
        target = ("yuva444p" if has_alpha_format(name) else "yuv444p") + ("16le" if deep else "")
        # Both sides carry the same range, so swscale moves samples and changes none.
        return frame.reformat(format=target, src_color_range=RANGE_LIMITED, dst_color_range=RANGE_LIMITED)
    return frame.reformat(format=target)


def to_uint8(pixels: Tensor) -> Tensor:
    """Round ``[0, 1]`` float to ``[0, 255]`` uint8, any shape; values outside are clipped."""
    return pixels.mul(255.0).add_(0.5).clamp_(0.0, 255.0).to(torch.uint8)


def to_float(pixels: Tensor) -> Tensor:
    """Return float32 in [0, 1] from float, uint8 or uint16 pixels of any shape."""
    if pixels.dtype == torch.uint8:
        return pixels.float().div_(255.0)
    if pixels.dtype == torch.uint16:
        return pixels.to(torch.int32).float().div_(65535.0)
    return pixels.float()


def _round_codes(plane: Tensor, bits: int) -> np.ndarray:
    rounded = plane.add(0.5).clamp_(0, 2**bits - 1)
    if bits == 8:
        return rounded.to(torch.uint8).numpy()
    # int32 first: uint16 tensors have few operators before torch 2.6
    return rounded.to(torch.int32).numpy().astype(np.uint16)


def pixels_to_frame(pixels: Tensor, pixel_format: str, tags: ColourTags, alpha: Tensor | None = None) -> av.VideoFrame:
    """Convert RGB to a frame that an encoder takes.

    Chroma is subsampled for the left-sited layout of H.264, HEVC and AV1, with short half-band filters
    ([-1 0 9 16 9 0 -1]/32 across, [-1 9 9 -1]/16 down): they hardly blur what was subsampled before, where the usual
    averages would soften colour with every generation.

    Args:
        pixels: ``(3, h, w)`` float32 RGB in [0, 1].
        pixel_format: planar ``yuv…``/``yuva…``/``gbrp…``/``gbrap…`` or ``gray…``, or packed ``rgb24``, ``rgba``,
            ``rgb48be``, ``rgba64be``.
        tags: with matrix and range filled in (`color.assumed_tags`); not read for RGB.
        alpha: ``(1, h, w)`` float32 in [0, 1]; opaque when missing and the format has alpha.
    """
    _, h, w = pixels.shape
    frame = av.VideoFrame(w, h, pixel_format)
    bits = frame_bit_depth(pixel_format)
    top = 2**bits - 1
    has_alpha = has_alpha_format(pixel_format)
    if has_alpha and alpha is None:
        alpha = torch.ones(1, h, w)

    # 1. Packed RGB, for PNG
    if pixel_format.startswith("rgb"):
        channels = torch.cat([pixels, alpha]) if has_alpha and alpha is not None else pixels
        codes = np.ascontiguousarray(np.moveaxis(_round_codes(channels.float() * top, bits), 0, -1)).reshape(h, -1)
        if bits == 16:
            codes = codes.astype(">u2").view(np.uint8)
        plane = frame.planes[0]
        rows = np.frombuffer(memoryview(plane), dtype=np.uint8)[: plane.line_size * h].reshape(h, plane.line_size)
        rows[:, : codes.shape[1]] = codes.view(np.uint8).reshape(h, -1)
        return frame

    # 2. Planar: compute each plane, then round once
    if pixel_format.startswith("gbr"):
        scaled = pixels.float() * top
        planes = [scaled[1], scaled[2], scaled[0]]
    else:
        luma, *chroma = rgb_to_ycbcr(pixels.float(), tags, bits)
        planes = [luma, *(_subsample(plane, frame) for plane in chroma)]
        if pixel_format.startswith("gray"):
            planes = planes[:1]
    if has_alpha and alpha is not None:
        planes.append(alpha[0].float() * top)
    dtype = np.uint8 if bits == 8 else np.uint16
    for plane, codes in zip(frame.planes, planes, strict=True):
        plane_array(plane, dtype)[:] = _round_codes(codes, bits)
    return frame


def _subsample(plane: Tensor, frame: av.VideoFrame) -> Tensor:
    h, w = plane.shape
    rows, columns = frame.format.chroma_height(h), frame.format.chroma_width(w)
    if rows * 2 == h:
        upper, lower = plane[0::2], plane[1::2]
        above = torch.cat([lower[:1], lower[:-1]])
        below = torch.cat([upper[1:], upper[-1:]])
        plane = (upper + lower).mul_(9 / 16).sub_(above + below, alpha=1 / 16)
    if columns * 2 == w:
        even, odd = plane[:, 0::2], plane[:, 1::2]
        left1 = torch.cat([odd[:, :1], odd[:, :-1]], dim=1)
        left3 = torch.cat([left1[:, :1], left1[:, :-1]], dim=1)
        right3 = torch.cat([odd[:, 1:], odd[:, -1:]], dim=1)
        plane = (left1 + odd).mul_(9 / 32).sub_(left3 + right3, alpha=1 / 32).add_(even, alpha=0.5)
    return plane


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(3, h, w)`` or ``(F, 3, h, w)`` to ``size`` = ``(H, W)``: antialiased bicubic, clamped to [0, 1]."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    batched = image if image.ndim == 4 else image[None]
    out = F.interpolate(batched.float(), size=size, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)
    return out if image.ndim == 4 else out[0]
