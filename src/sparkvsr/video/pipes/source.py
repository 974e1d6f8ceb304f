"""The frames of a stream as they pass: in order, each once, held as small as they came."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import av.error
from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.video.deinterlace import Deinterlacer
from sparkvsr.video.info import VideoInfo
from sparkvsr.video.pixels import frame_bit_depth, frame_to_pixels, has_alpha_format
from sparkvsr.video.reader import DEINTERLACE_MODES, Frame

from .descriptors import PipeReader
from .frame_format import FrameFormat
from .y4m import read_frame_line


@dataclass(frozen=True)
class HeldFrame:
    """A frame of the stream that can be looked at more than once.

    Attributes:
        index: counted from the first frame of the stream.
        picture: as FFmpeg holds it, 1.5 to 8 bytes a pixel.
        fmt: how to read it.
    """

    index: int
    picture: av.VideoFrame
    fmt: FrameFormat

    def frame(self) -> Frame:
        """The frame with its pixels; each call converts anew."""
        pixels, alpha = frame_to_pixels(self.picture, self.fmt.color, is_center_sited=self.fmt.is_center_sited)
        return Frame(self.index, self.index, 1, pixels, alpha)

    def pixels(self) -> Tensor:
        """``(3, h, w)`` float32 in [0, 1]."""
        return self.frame().pixels


class PipeSource:
    """The frames of a stream.

    Args:
        reader: behind the header, if there is one.
        fmt: how the frames lie.
        start: frames that are passed over first.
        frames: how many are given at most; None for all.
        deinterlace: ``auto`` (as the header says), ``on``, ``off``.

    Attributes:
        info: what is known of the clip; ``num_frames`` is 0 where the stream does not say.
        notes: one line each, for the user.
        ended_early: what was wrong with the end of the stream, known once `frames` has given all that came whole.

    Raises:
        ConfigError: ``deinterlace`` is none of the three.
        DecodeError: the header says that fields and frames are mixed, and nobody said what to do.
    """

    def __init__(
        self,
        reader: PipeReader,
        fmt: FrameFormat,
        *,
        start: int = 0,
        frames: int | None = None,
        deinterlace: str = "auto",
    ) -> None:
        if deinterlace not in DEINTERLACE_MODES:
            msg = f"deinterlace {deinterlace!r} is unknown; use one of {', '.join(DEINTERLACE_MODES)}"
            raise ConfigError(msg)
        if fmt.fields == "mixed" and deinterlace == "auto":
            msg = (
                f"{reader.name} mixes interlaced and progressive frames, and says of each frame which; "
                "give --deinterlace on or off, or -vf bwdif to the ffmpeg before"
            )
            raise DecodeError(msg)
        self.fmt = fmt
        self.info = _info(reader.name, fmt)
        self.notes = list(fmt.notes)
        self.ended_early: DecodeError | None = None
        self._reader = reader
        self._start = start
        self._stop = None if frames is None else start + frames
        self._parity = {"tff": "tff", "bff": "bff"}.get(fmt.fields, "auto")
        is_flagged = fmt.fields in ("tff", "bff")
        self._is_deinterlacing = deinterlace == "on" or (deinterlace == "auto" and is_flagged)
        if self._is_deinterlacing and deinterlace == "auto":
            self.notes.append(
                f"{reader.name} is interlaced and is deinterlaced (bwdif); --deinterlace off keeps the fields"
            )

    @property
    def first_index(self) -> int:
        """Index of the first frame that is given."""
        return self._start

    @property
    def num_frames(self) -> int | None:
        """How many frames `frames` will give; None where the stream does not say."""
        if self.fmt.num_frames is None:
            return None
        stop = self.fmt.num_frames if self._stop is None else min(self._stop, self.fmt.num_frames)
        return max(0, stop - self._start)

    def stop(self) -> None:
        """End `frames`, from any thread."""
        self._reader.stop()

    def frames(self) -> Iterator[HeldFrame]:
        """Frames ``start`` and on; a damaged or unfinished last one is told in `ended_early`."""
        pictures = self._deinterlaced() if self._is_deinterlacing else self._pictures()
        index = 0
        try:
            for index, picture in enumerate(pictures):
                if self._stop is not None and index >= self._stop:
                    return
                if index >= self._start:
                    yield HeldFrame(index, picture, self.fmt)
                if self._stop is not None and index + 1 >= self._stop:
                    return
        except DecodeError as exc:
            self.ended_early = exc

    def _deinterlaced(self) -> Iterator[av.VideoFrame]:
        deinterlacer = Deinterlacer(is_forced=True, parity=self._parity)
        error: DecodeError | None = None
        try:
            for picture in self._pictures():
                yield from deinterlacer.push(picture)
        except DecodeError as exc:
            error = exc
        yield from deinterlacer.flush()
        if error is not None:
            raise error

    def _pictures(self) -> Iterator[av.VideoFrame]:
        decoder = av.CodecContext.create("rawvideo", "r")
        assert isinstance(decoder, av.VideoCodecContext)
        decoder.width, decoder.height, decoder.pix_fmt = self.fmt.width, self.fmt.height, self.fmt.pixel_format
        size = self.fmt.frame_bytes
        time_base = 1 / self.fmt.fps
        index = 0
        while self.fmt.kind != "y4m" or read_frame_line(self._reader, index):
            data = self._reader.read(size)
            if self._reader.is_stopped or (not data and self.fmt.kind != "y4m"):
                return
            if len(data) < size:
                why = "the program before it stopped early"
                why += "" if self.fmt.kind == "y4m" else ", or --input-format does not fit"
                msg = f"{self._reader.name} ended in the middle of frame {index} ({len(data)} of {size} bytes); {why}"
                raise DecodeError(msg)
            (picture,) = decoder.decode(av.Packet(data))
            picture.pts, picture.time_base = index, time_base
            yield picture
            index += 1


def _info(name: str, fmt: FrameFormat) -> VideoInfo:
    return VideoInfo(
        path=Path(name),
        kind="video",
        width=fmt.width,
        height=fmt.height,
        num_frames=fmt.num_frames or 0,
        num_frames_is_exact=False,
        average_fps=fmt.fps,
        duration_seconds=None if fmt.num_frames is None else float(fmt.num_frames / fmt.fps),
        codec=fmt.kind,
        pixel_format=fmt.pixel_format,
        bit_depth=min(16, frame_bit_depth(fmt.pixel_format)),
        has_alpha=has_alpha_format(fmt.pixel_format),
        rotation_degrees=0,
        sample_aspect_ratio=fmt.sample_aspect_ratio,
        color=fmt.color,
        is_interlaced=fmt.fields in ("tff", "bff"),
        is_vfr=False,
        container=fmt.kind,
        time_base=Fraction(1) / fmt.fps,
        is_passing=True,
        is_center_sited=fmt.is_center_sited,
        warnings=fmt.notes,
    )
