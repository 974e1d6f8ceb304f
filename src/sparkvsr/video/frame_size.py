"""Which sizes of a frame an encoder takes; known before the first frame is made."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext

from sparkvsr.errors import EncodeError

from .info import VideoInfo
from .options import CODECS, Codec, EncodeOptions, choose_pixel_format
from .scheduling import kept_scheduling

_SMALL = 64
"""Smaller sides are tried: what encoders refuse there depends on version, shape and pixel format."""

# Longest width and height. Larger frames are not tried, since SVT-AV1 takes gigabytes when it is opened for them.
_LARGEST = {"h264": (16384, 16384), "av1": (16384, 8704)}
_SVT_NARROW, _SVT_LONG = 32, 64
"""SVT-AV1 4.1 is opened for narrow frames that are longer than a block, and then never gives one back (seen from 4x128
to 24x4000; 30 by any length went well)."""


def check_frame_size(options: EncodeOptions, source: VideoInfo | None, size: tuple[int, int], suffix: str) -> None:
    """Refuse a frame that the encoder does not take.

    Args:
        options: of the encoder.
        source: the clip that is restored, for the pixel format.
        size: ``(H, W)`` of the output in pixels.
        suffix: of the output, for the advice.

    Raises:
        EncodeError: with the codecs that take it.
    """
    if takes(options, source, size):
        return
    height, width = size
    others = [
        name for name in CODECS if name != options.codec and takes(EncodeOptions(cast(Codec, name)), source, size)
    ]
    same = [name for name in others if suffix in CODECS[name].containers]
    advice = f"use --codec {' or '.join(same)}" if same else ""
    if not same and others:
        kinds = [f"--codec {name} with {' or '.join(CODECS[name].containers)}" for name in others]
        advice = f"use {' or '.join(kinds)}"
    msg = f"{options.codec} cannot encode frames of {width}x{height}; {advice or 'choose another size, or images'}"
    raise EncodeError(msg)


def takes(options: EncodeOptions, source: VideoInfo | None, size: tuple[int, int]) -> bool:
    """Whether the encoder takes frames of ``size`` ``(H, W)`` pixels; small ones are tried, large ones looked up."""
    height, width = size
    widest, highest = _LARGEST.get(options.codec, (width, height))
    if width > widest or height > highest:
        return False
    if options.codec == "av1" and min(size) < _SVT_NARROW <= _SVT_LONG < max(size):
        return False
    return min(size) >= _SMALL or _opens(options, source, size)


def _opens(options: EncodeOptions, source: VideoInfo | None, size: tuple[int, int]) -> bool:
    os.environ.setdefault("SVT_LOG", "-1")  # what it thinks of the size is no error here
    context = cast(VideoCodecContext, av.CodecContext.create(CODECS[options.codec].encoder, "w"))
    context.height, context.width = size
    context.pix_fmt = choose_pixel_format(options, source, size)[0]
    context.time_base = Fraction(1, 25)
    context.framerate = Fraction(25)
    if options.codec == "hevc":
        context.options = {"x265-params": "log-level=none"}
    try:
        with kept_scheduling():
            context.open()
    except (av.FFmpegError, OSError, ValueError):
        return False
    return True
