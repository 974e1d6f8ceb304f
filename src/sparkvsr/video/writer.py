"""Write restored frames, and with them everything else that the source holds.

Output goes to a temporary name in the same folder and takes its final name only when complete.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from sparkvsr.errors import EncodeError

from .border import encoding
from .carry import losses
from .image_sink import ImageSink
from .images import DEFAULT_SEQUENCE_FPS
from .info import VideoInfo
from .options import EncodeOptions, check_output, output_kind
from .pixels import to_float
from .video_sink import VideoSink


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
        self._sink: VideoSink | ImageSink
        if kind == "video":
            self._sink = VideoSink(Path(path), source, size, self.options, fps, time_base, clip_range, self.notes)
        else:
            numbers = source.numbers[clip_range[0] if clip_range else 0 :] if source is not None else None
            self._sink = ImageSink(Path(path), kind, source, size, numbers)
            self.notes += losses(source, Path(path), self.options, size)

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
