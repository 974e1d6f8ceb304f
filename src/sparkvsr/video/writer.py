"""Write restored frames, and with them everything else that the source holds.

Output goes to a temporary name in the same folder and takes its final name only when complete.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import cast

import av
import av.error
import torch
from torch import Tensor

from sparkvsr.errors import EncodeError

from .border import encode_error, encoding
from .color import ColorTags, assumed_tags
from .images import DEEP_IMAGE_SUFFIXES, DEFAULT_SEQUENCE_FPS, encode_image, is_pattern
from .info import VideoInfo
from .options import CODECS, EncodeOptions, check_output, choose_pixel_format, encoder_bits, output_kind
from .pixels import pixels_to_frame, to_float
from .streams import StreamCopier


class VideoWriter:
    """Encode frames to a video, an image sequence or one image.

    Args:
        path: a video file (``.mp4``, ``.mkv``, ``.mov``, ``.webm``, ``.ts``, ``.avi``), a folder (trailing slash or no
            suffix: ``00000.png`` and so on), a pattern (``out/%05d.png``) or one image.
        source: the clip that is restored: its colour tags, aspect ratio, timing and other streams are carried over.
        size: ``(H, W)`` of the frames that will come.
        options: codec and quality.
        overwrite: replace an existing output.
        fps: frame rate; None for the source's, or 24.
        time_base: unit of `pts` in `write`; None for the source's.
        clip_range: ``(start, frames)`` when only a part of the source is written: sound, subtitles and chapters are
            cut to it and times begin at zero.

    Raises:
        EncodeError: anything that `check_output` finds, or an encoder that refuses size or options.

    Example:
        >>> with VideoReader("in.mp4") as reader:
        ...     with VideoWriter("out.mp4", source=reader.info, size=(720, 1280)) as writer:
        ...         for frame in reader:
        ...             writer.write(restore(frame.pixels), pts=frame.pts, duration=frame.duration)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        source: VideoInfo | None,
        size: tuple[int, int],
        options: EncodeOptions | None = None,
        overwrite: bool = False,
        fps: Fraction | None = None,
        time_base: Fraction | None = None,
        clip_range: tuple[int, int] | None = None,
    ) -> None:
        self.options = options or EncodeOptions()
        check_output(path, overwrite, self.options)
        self.notes: list[str] = []
        """What the output cannot hold or holds differently, one line each."""
        self.num_frames = 0
        self._is_open = True
        fps = fps or (source.average_fps if source else DEFAULT_SEQUENCE_FPS)
        kind = output_kind(path)
        self._sink: _VideoSink | _ImageSink
        if kind == "video":
            self._sink = _VideoSink(Path(path), source, size, self.options, fps, time_base, clip_range, self.notes)
        else:
            self._sink = _ImageSink(Path(path), kind, source, size)

    def write(
        self, pixels: Tensor, pts: int | None = None, duration: int | None = None, *, alpha: Tensor | None = None
    ) -> None:
        """Encode the next frame.

        Args:
            pixels: ``(3, H, W)`` RGB, float in [0, 1] (clipped, rounded to the nearest code) or uint8; any device.
            pts: presentation time in the time base, later than the frame before; None for one frame step later.
            duration: in the time base.
            alpha: ``(1, H, W)`` float in [0, 1], for outputs with transparency.

        Raises:
            EncodeError: another shape than announced, a time that does not advance, or the disk or encoder fails.
        """
        if not self._is_open:
            msg = f"{self._sink.path} is closed; no more frames can be written"
            raise EncodeError(msg)
        expected = (3, *self._sink.size)
        if tuple(pixels.shape) != expected:
            msg = f"frame {self.num_frames} has shape {tuple(pixels.shape)}, the output was opened for {expected}"
            raise EncodeError(msg)
        with torch.no_grad():
            pixels = to_float(pixels.detach().cpu())
            alpha = None if alpha is None else alpha.detach().float().cpu()
            with encoding(self._sink.path):
                self._sink.write(pixels, pts, duration, alpha)
        self.num_frames += 1

    def close(self) -> Path:
        """Finish the output and give it its final name.

        Returns:
            The finished file or folder.

        Raises:
            EncodeError: nothing was written, or the disk or encoder fails; the partial output is removed.
        """
        if not self._is_open:
            return self._sink.path
        if self.num_frames == 0:
            self.abort()
            msg = f"no frame was written to {self._sink.path}; nothing is left there"
            raise EncodeError(msg)
        self._is_open = False
        try:
            with encoding(self._sink.path):
                self._sink.finish()
        except BaseException:
            self._sink.discard()
            raise
        return self._sink.path

    def abort(self) -> None:
        """Give up: remove the partial output, leave what was there before."""
        if self._is_open:
            self._is_open = False
            self._sink.discard()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if exc_type is None:
            self.close()
        else:
            self.abort()


class _VideoSink:
    """One video file being written."""

    def __init__(
        self,
        path: Path,
        source: VideoInfo | None,
        size: tuple[int, int],
        options: EncodeOptions,
        fps: Fraction,
        time_base: Fraction | None,
        clip_range: tuple[int, int] | None,
        notes: list[str],
    ) -> None:
        self.path, self.size = path, size
        self._source, self._options, self._notes, self._fps = source, options, notes, fps
        self._clip_range = clip_range
        has_times = source is not None and source.kind == "video"
        self._time_base = time_base or (source.time_base if source is not None and has_times else 1 / fps)
        self._pixel_format, more = choose_pixel_format(options, source, size)
        notes += more
        self._tags = source.color if source else ColorTags(1, 1, 1, 1)
        self._written_tags = self._tags_to_write()
        self._convert_tags = assumed_tags(self._written_tags, source.height if source else size[0])
        self._last_pts: int | None = None
        self._origin: int | None = None
        self._copier: StreamCopier | None = None
        path.parent.mkdir(parents=True, exist_ok=True)
        self._partial = path.with_name(f".{path.stem}.partial{path.suffix}")
        with encoding(path):
            container_options = {"movflags": "+faststart"} if path.suffix.lower() in (".mp4", ".m4v", ".mov") else {}
            self._container = av.open(os.fspath(self._partial.absolute()), "w", container_options=container_options)
        try:
            with encoding(path, "set up the encoder for"):
                self._add_streams()
        except BaseException:
            self.discard()
            raise

    def _tags_to_write(self) -> ColorTags:
        """Carry the source's tags; RGB sources become BT.709, and a full-range tag is kept where it has a place."""
        tags = self._tags
        is_rgb_out = self._pixel_format.startswith(("gbr", "bgr", "rgb"))
        if is_rgb_out:
            return ColorTags(0, 2, tags.primaries, tags.transfer)
        if self._source is None or self._source.kind != "video" or tags.matrix == 0:
            return ColorTags(1, 1, 1, 1)
        return tags

    def _add_streams(self) -> None:
        source = self._source
        if source is not None and source.kind == "video" and self._options.copy_streams:
            self._copier = StreamCopier(source, self._container, self.path.suffix.lower(), self._notes)
            self._copier.add_before()
        spec = CODECS[self._options.codec]
        stream = cast(av.video.stream.VideoStream, self._container.add_stream(spec.encoder, rate=self._fps))
        stream.height, stream.width = self.size
        stream.pix_fmt = self._pixel_format
        context = stream.codec_context
        context.time_base = self._time_base
        stream.time_base = self._time_base
        if source is not None and source.sample_aspect_ratio != 1:
            context.sample_aspect_ratio = source.sample_aspect_ratio
        tags = self._written_tags
        context.colorspace, context.color_range = tags.matrix, tags.range
        context.color_primaries, context.color_trc = tags.primaries, tags.transfer
        # Carries the length of each frame to the container, for variable frame rates.
        context.flags |= av.codec.context.Flags.frame_duration
        context.thread_count = 0
        context.options = self._encoder_options()
        if self._options.codec == "hevc" and self.path.suffix.lower() in (".mp4", ".m4v", ".mov"):
            context.codec_tag = "hvc1"  # Apple's players take no other
        self._stream = stream
        if self._copier is not None:
            self._copier.copy_picture_tags(stream)
            self._copier.add_after()
        context.open()

    def _encoder_options(self) -> dict[str, str]:
        spec = CODECS[self._options.codec]
        codec = self._options.codec
        options: dict[str, str] = {}
        crf = self._options.crf if self._options.crf is not None else spec.crf
        preset = self._options.preset or spec.preset
        if preset is not None:
            options["preset"] = preset
        if crf is not None:
            options["crf"] = str(crf)
        hdr = self._source.hdr if self._source is not None else None
        parameters: list[str] = []
        if codec == "h264" and hdr is not None:
            parameters += [f"mastering-display={text}"] if (text := hdr.mastering_display()) else []
            parameters += [f"cll={text}"] if (text := hdr.content_light()) else []
        elif codec == "hevc":
            parameters.append("log-level=none")
            if hdr is not None:
                parameters += [f"master-display={text}"] if (text := hdr.mastering_display()) else []
                parameters += [f"max-cll={text}"] if (text := hdr.content_light()) else []
        elif codec == "av1":
            os.environ.setdefault("SVT_LOG", "1")  # the encoder writes its settings to stderr otherwise
            if hdr is not None:
                parameters += [f"mastering-display={text}"] if (text := hdr.mastering_display_float()) else []
                parameters += [f"content-light={text}"] if (text := hdr.content_light()) else []
        elif codec == "ffv1":
            options |= {"level": "3", "slicecrc": "1", "g": "1"}
        elif codec == "prores":
            options["profile"] = "4444" if "444" in self._pixel_format else "hq"
        if parameters:
            options[{"h264": "x264-params", "hevc": "x265-params", "av1": "svtav1-params"}[codec]] = ":".join(
                parameters
            )
        return options

    def write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None:
        step = max(1, round(1 / (self._fps * self._time_base)))
        if pts is None:
            pts = 0 if self._last_pts is None else self._last_pts + step
        if self._last_pts is not None and pts <= self._last_pts:
            msg = f"frame time {pts} does not come after {self._last_pts} (unit {self._time_base} s)"
            raise EncodeError(msg)
        if self._origin is None:
            self._start(pts)
        assert self._origin is not None
        frame = self._to_frame(pixels, alpha)
        frame.pts = pts - self._origin
        frame.time_base = self._time_base
        frame.duration = duration or step
        self._container.mux(self._stream.encode(frame))
        self._last_pts = pts
        if self._copier is not None:
            self._copier.advance(pts * self._time_base)

    def _start(self, pts: int) -> None:
        """Fix what becomes time zero: the first frame of a part, or the start of the source as a whole."""
        if self._copier is None:
            self._origin = pts if self._clip_range is not None else 0
            return
        if self._clip_range is None:
            self._origin = round(self._copier.start_seconds / self._time_base)
            self._copier.set_range(self._copier.start_seconds, None, is_cut=False)
            return
        self._origin = pts
        origin = pts * self._time_base
        start, frames = self._clip_range
        end = self._end_of_range(start + frames, origin, frames)
        self._copier.set_range(origin, end, is_cut=True)

    def _end_of_range(self, stop: int, origin: Fraction, frames: int) -> Fraction | None:
        if self._source is not None and stop >= self._source.num_frames:
            return None
        return origin + frames / self._fps

    def _to_frame(self, pixels: Tensor, alpha: Tensor | None) -> av.VideoFrame:
        target = self._pixel_format
        if target.startswith(("bgr", "rgb")):
            via = "gbrap" if target in ("bgra", "rgba") else "gbrp"
            return pixels_to_frame(pixels, via, self._convert_tags, alpha).reformat(format=target)
        frame = pixels_to_frame(pixels, target, self._convert_tags, alpha)
        frame.colorspace, frame.color_range = self._written_tags.matrix, self._written_tags.range
        frame.color_primaries, frame.color_trc = self._written_tags.primaries, self._written_tags.transfer
        return frame

    def finish(self) -> None:
        if self._copier is not None:
            self._copier.advance(None)
        self._container.mux(self._stream.encode(None))
        self._container.close()
        if self._copier is not None:
            self._copier.close()
        self._partial.replace(self.path)

    def discard(self) -> None:
        # The trailer of an unfinished file cannot always be written; the file is removed anyway.
        with suppress(av.error.FFmpegError, OSError, ValueError):
            self._container.close()
        if self._copier is not None:
            self._copier.close()
        self._partial.unlink(missing_ok=True)


class _ImageSink:
    """An image sequence or one image being written."""

    def __init__(self, path: Path, kind: str, source: VideoInfo | None, size: tuple[int, int]) -> None:
        self.path, self.size = path, size
        self._is_single = kind == "image"
        self._bits = source.bit_depth if source else 8
        self._count = 0
        if self._is_single:
            self._final_folder, self._pattern = path.parent, path.name.replace("%", "%%")
            self._partial = path.parent / f".{path.name}.partial"
        elif is_pattern(path):
            self._final_folder, self._pattern = path.parent, path.name
            self._partial = path.parent / ".sequence.partial"
        else:
            self._final_folder, self._pattern = path, "%05d.png"
            self._partial = path.parent / f".{path.name}.partial"
        self._suffix = Path(self._pattern).suffix.lower()
        with encoding(path):
            if self._partial.is_dir():
                shutil.rmtree(self._partial)
            self._partial.mkdir(parents=True)

    def write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None:  # noqa: ARG002
        if self._is_single and self._count:
            msg = f"{self.path} holds one picture; write several to a folder/ or to a pattern such as %05d.png"
            raise EncodeError(msg)
        bits = self._bits if self._suffix in DEEP_IMAGE_SUFFIXES else 8
        name = self._pattern % () if self._is_single else self._pattern % self._count
        (self._partial / name).write_bytes(encode_image(pixels, self._suffix, bits=bits, alpha=alpha))
        self._count += 1

    def finish(self) -> None:
        if not self._final_folder.exists():
            self._partial.rename(self._final_folder)
            return
        for file in sorted(self._partial.iterdir()):
            file.replace(self._final_folder / file.name)
        self._partial.rmdir()

    def discard(self) -> None:
        shutil.rmtree(self._partial, ignore_errors=True)


__all__ = ["EncodeOptions", "VideoWriter", "check_output", "encode_error", "encoder_bits"]
