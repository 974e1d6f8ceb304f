"""Where the frames of a stream go: y4m, or a Matroska file that is written without going back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import replace
from pathlib import Path

import av
import av.error
import numpy as np
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.video.border import encoding
from sparkvsr.video.colour_tags import (
    MATRIX_NAMES,
    RANGE_FULL,
    RANGE_LIMITED,
    ColourTags,
    assumed_tags,
)
from sparkvsr.video.info import VideoInfo
from sparkvsr.video.options import EncodeOptions, check_codec
from sparkvsr.video.pixels import (
    frame_bit_depth,
    has_alpha_format,
    is_grey_format,
    pixels_to_frame,
    plane_array,
    to_float,
)
from sparkvsr.video.video_sink import VideoSink, tags_to_write
from sparkvsr.video.writer import VideoWriter

from .descriptors import PipeWriter
from .y4m import DEPTHS, FRAME_LINE, has_word, y4m_header

OUTPUT_FORMATS = ("y4m", "mkv")


class PipeSink(ABC):
    """Takes restored frames in order.

    Attributes:
        notes: what the result does not hold, one line each.
        num_frames: written so far.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.num_frames = 0

    def write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None = None) -> None:
        """Write the next frame.

        Args:
            pixels: ``(3, H, W)`` RGB, float in [0, 1].
            pts, duration: in the source's time base.
            alpha: ``(1, H, W)`` float in [0, 1].

        Raises:
            EncodeError: it cannot be written.
        """
        with torch.no_grad():
            self._write(to_float(pixels.detach().cpu()), pts, duration, alpha)
        self.num_frames += 1

    @abstractmethod
    def _write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None: ...

    def stop(self) -> None:  # noqa: B027  (a file does not wait for anybody)
        """End a `write` that waits for a reader, from any thread."""

    @abstractmethod
    def close(self) -> None:
        """End the stream as a whole one."""

    @abstractmethod
    def abort(self) -> None:
        """End it as it is; what was handed on cannot be taken back."""


class Y4mSink(PipeSink):
    """A y4m stream.

    Args:
        writer: where it goes.
        source: the clip that is restored: colours, rate, depth and layout follow it.
        size: ``(H, W)``.
        options: only the pixel format is looked at.

    Raises:
        EncodeError: y4m cannot hold the pixel format that was asked for.
    """

    def __init__(self, writer: PipeWriter, source: VideoInfo, size: tuple[int, int], options: EncodeOptions) -> None:
        super().__init__()
        self._writer = writer
        self.pixel_format = options.pixel_format or y4m_pixel_format(source)
        if not has_word(self.pixel_format):
            msg = f"y4m has no pixel format {self.pixel_format}; it takes yuv420p, yuv422p, yuv444p, gray, to 16 bit"
            raise EncodeError(msg)
        written = tags_to_write(source, self.pixel_format, size[0])
        if is_grey_format(self.pixel_format) and written.range != RANGE_LIMITED:
            written = replace(written, range=RANGE_FULL)
        self._tags = assumed_tags(written, source.height)
        self._header = y4m_header(self.pixel_format, size, source.average_fps, source.sample_aspect_ratio, written)
        self.notes += _y4m_losses(source, self.pixel_format, self._tags, size)

    def _write(
        self,
        pixels: Tensor,
        pts: int | None,  # noqa: ARG002  (one rate)
        duration: int | None,  # noqa: ARG002
        alpha: Tensor | None,  # noqa: ARG002  (a note says that it is dropped)
    ) -> None:
        picture = pixels_to_frame(pixels, self.pixel_format, self._tags)
        dtype = np.uint8 if frame_bit_depth(self.pixel_format) == 8 else np.uint16
        planes = [plane_array(plane, dtype).tobytes() for plane in picture.planes]
        self._writer.write(b"".join([self._take_header(), FRAME_LINE, *planes]))

    def stop(self) -> None:
        """See ``PipeSink.stop``."""
        self._writer.stop()

    def _take_header(self) -> bytes:
        header, self._header = self._header, b""
        return header

    def close(self) -> None:
        """See ``PipeSink.close``."""
        if self._header:
            self._writer.write(self._take_header())

    def abort(self) -> None:
        """See ``PipeSink.abort``."""


class MatroskaSink(PipeSink):
    """An encoded stream with the source's colour tags, and its sound where the source is a file.

    Args:
        writer: where it goes.
        source: the clip that is restored.
        size: ``(H, W)``.
        options: codec and quality.
        clip_range: first frame and number of frames of a part of the clip.

    Raises:
        EncodeError: the codec and its settings do not go together.
    """

    def __init__(
        self,
        writer: PipeWriter,
        source: VideoInfo,
        size: tuple[int, int],
        options: EncodeOptions,
        clip_range: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        check_codec(_MKV_NAME, "video", options)
        self._writer = writer
        self._sink = _PipeVideoSink(writer, source, size, options, clip_range, self.notes)

    def _write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None:
        with encoding(_MKV_NAME):
            self._sink.write(pixels, pts, duration, alpha)

    def stop(self) -> None:
        """See ``PipeSink.stop``."""
        self._writer.stop()

    def close(self) -> None:
        """See ``PipeSink.close``."""
        with encoding(_MKV_NAME):
            self._sink.finish()

    def abort(self) -> None:
        """See ``PipeSink.abort``."""
        self._sink.discard()


_MKV_NAME = Path("stdout.mkv")


class _PipeVideoSink(VideoSink):
    def __init__(
        self,
        writer: PipeWriter,
        source: VideoInfo,
        size: tuple[int, int],
        options: EncodeOptions,
        clip_range: tuple[int, int] | None,
        notes: list[str],
    ) -> None:
        self._writer = writer
        super().__init__(_MKV_NAME, source, size, options, source.average_fps, None, clip_range, notes)

    def _open_container(self) -> av.container.OutputContainer:
        # `live`: clusters are closed as they go, and nothing at the end has to be put in at the beginning.
        return av.open(self._writer, "w", format="matroska", container_options={"live": "1"})

    def _keep(self) -> None:
        pass

    def _drop(self) -> None:
        pass


class FileSink(PipeSink):
    """A file under its final name when complete, from the frames of a stream.

    Args:
        path, size, options, overwrite: see ``VideoWriter``.
        source: the clip that is restored.
    """

    def __init__(
        self, path: Path, source: VideoInfo, size: tuple[int, int], options: EncodeOptions, *, overwrite: bool
    ) -> None:
        super().__init__()
        self._writer = VideoWriter(path, source=source, size=size, options=options, overwrite=overwrite)
        self.notes += self._writer.notes

    def _write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None:
        self._writer.write(pixels, pts, duration, alpha=alpha)

    def close(self) -> None:
        """See ``PipeSink.close``.

        Raises:
            EncodeError: nothing was written.
        """
        self._writer.close()

    def abort(self) -> None:
        """Remove the unfinished file."""
        self._writer.abort()


def check_output_format(name: str, options: EncodeOptions) -> None:
    """Refuse an ``--output-format``, before anything is read or loaded.

    Raises:
        ConfigError: unknown name, or a setting that does nothing there.
    """
    if name not in OUTPUT_FORMATS:
        msg = f"--output-format {name!r} is unknown; use {' or '.join(OUTPUT_FORMATS)}"
        raise ConfigError(msg)
    if name == "y4m" and (options.crf is not None or options.codec != "h264"):
        msg = "-o - writes y4m, which is not encoded: --codec and --crf need --output-format mkv"
        raise ConfigError(msg)


def open_sink(
    name: str,
    writer: PipeWriter,
    source: VideoInfo,
    size: tuple[int, int],
    options: EncodeOptions,
    clip_range: tuple[int, int] | None = None,
) -> PipeSink:
    """The sink of an ``--output-format``.

    Raises:
        ConfigError: see ``check_output_format``.
        EncodeError: see the sinks.
    """
    check_output_format(name, options)
    if name == "mkv":
        return MatroskaSink(writer, source, size, options, clip_range)
    return Y4mSink(writer, source, size, options)


def y4m_pixel_format(source: VideoInfo) -> str:
    """The pixel format of y4m that keeps most of a source: its depth, its chroma; RGB becomes 4:4:4."""
    layout = av.VideoFormat(source.pixel_format, 64, 64)
    bits = next((depth for depth in (8, *DEPTHS) if depth >= source.bit_depth), 16)
    depth = "" if bits == 8 else f"{bits}le"
    if is_grey_format(source.pixel_format):
        return f"gray{depth}"
    if layout.is_rgb or layout.has_palette:
        return f"yuv444p{depth}"
    across, down = 64 // layout.chroma_width(64), 64 // layout.chroma_height(64)
    chroma = {(1, 1): "444", (2, 1): "422"}.get((across, down), "420")
    return f"yuv{chroma}p{depth}"


def _y4m_losses(source: VideoInfo, pixel_format: str, tags: ColourTags, size: tuple[int, int]) -> list[str]:
    notes = []
    if source.has_alpha and not has_alpha_format(pixel_format):
        notes.append("y4m is written without transparency; --output-format mkv --codec ffv1 keeps it")
    if source.bit_depth > frame_bit_depth(pixel_format):
        notes.append(f"{pixel_format} has {frame_bit_depth(pixel_format)} bits, the source has {source.bit_depth}")
    if source.num_audio or source.num_subtitles:
        notes.append("y4m holds pictures only: sound and subtitles stay behind; --output-format mkv carries them")
    if source.is_vfr:
        notes.append("y4m has one frame rate: the variable one of the source is lost; --output-format mkv keeps it")
    matrix = tags.matrix
    is_named = source.color.transfer in (16, 18) or matrix != assumed_tags(ColourTags(), size[0]).matrix
    if is_named and not is_grey_format(pixel_format):
        name = MATRIX_NAMES[matrix]
        notes.append(
            f"y4m does not say its colour matrix, which is {name} here as in the source; tell the next program "
            f"(ffmpeg: -vf setparams=colorspace={name}), or take --output-format mkv"
        )
    return notes
