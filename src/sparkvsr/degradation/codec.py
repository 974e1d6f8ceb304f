"""Real video compression, in memory: encode and decode with the codecs themselves.

PyAV is used here directly and not through ``sparkvsr.video``: nothing of a file (time stamps, colour tags, rotation)
matters, only what the codec does to the pixels.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from fractions import Fraction
from typing import Any

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.error import FFmpegError
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.errors import EncodeError

CODECS = ("libx264", "h264", "mpeg4")
"""What the published pipeline draws from. ``h264`` resolves to the same encoder as ``libx264``."""


# x264's macroblock tree gives other bits from run to run where it takes its AVX-512 path (seen with the x264 of PyAV
# 18.1: 10 of 60 encodes of one clip differed, none without the tree). A sample must be a function of its seed.
_X264_OPTIONS = {"x264-params": "mbtree=0"}


def compress_bit_rate(clip: Tensor, codec: str, bit_rate: int) -> Tensor:
    """Compress at a bit rate with one frame a second, so that ``bit_rate`` is bits per frame (docs/method.md 5.3).

    Args:
        clip: ``(F, 3, h, w)`` float in [0, 1].
        codec: one of ``CODECS``.
        bit_rate: bits per second.

    Returns:
        ``(F, 3, h, w)`` float32 in [0, 1], 8-bit values.

    Raises:
        EncodeError: this FFmpeg lacks the encoder, or it refuses the clip.
    """
    encoder = "libx264" if codec == "h264" else codec
    options = _X264_OPTIONS if encoder == "libx264" else {}
    return _round_trip(clip, encoder, rate=1, bit_rate=bit_rate, options=options)


def compress_crf(clip: Tensor, crf: int, preset: str = "veryfast") -> Tensor:
    """Compress with x264 at constant quality, as most files found in the wild were made.

    Args:
        clip: ``(F, 3, h, w)`` float in [0, 1].
        crf: 0 (lossless) to 51.
        preset: of x264.

    Raises:
        EncodeError: see ``compress_bit_rate``.
    """
    return _round_trip(
        clip, "libx264", rate=25, bit_rate=None, options={"crf": str(crf), "preset": preset, **_X264_OPTIONS}
    )


def _round_trip(clip: Tensor, encoder: str, rate: int, bit_rate: int | None, options: Mapping[str, str]) -> Tensor:
    height, width = clip.shape[-2:]
    # 4:2:0 needs even sides: one reflected row or column, cropped afterwards. One encoder thread keeps the result
    # the same on every machine.
    padded = F.pad(clip, (0, width % 2, 0, height % 2), mode="reflect" if min(height, width) > 1 else "replicate")
    frames = padded.clamp(0, 1).mul_(255).round_().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    try:
        decoded = _decode(_encode(frames, encoder, rate, bit_rate, options))
    except (FFmpegError, ValueError) as exc:
        msg = f"degradation: {encoder} cannot compress a {width}x{height} clip ({exc}); use degradation=bicubic"
        raise EncodeError(msg) from exc
    if len(decoded) != len(frames):
        msg = f"degradation: {encoder} gave back {len(decoded)} of {len(frames)} frames; use degradation=bicubic"
        raise EncodeError(msg)
    result = torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).float().div_(255)
    return result[..., :height, :width].contiguous()


def _encode(
    frames: NDArray[np.uint8], encoder: str, rate: int, bit_rate: int | None, options: Mapping[str, str]
) -> io.BytesIO:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream: Any = container.add_stream(encoder, rate=rate, options=dict(options))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if bit_rate is not None:
            stream.bit_rate = bit_rate
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    file.seek(0)
    return file


def _decode(file: io.BytesIO) -> list[NDArray[np.uint8]]:
    with av.open(file, "r") as container:
        container.streams.video[0].codec_context.thread_count = 1
        return [np.asarray(frame.to_ndarray(format="rgb24"), np.uint8) for frame in container.decode(video=0)]
