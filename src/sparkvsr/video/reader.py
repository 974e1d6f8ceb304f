"""Read clips as float frames, one after another, in bounded memory."""

from __future__ import annotations

import copy
from bisect import bisect_right
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import av.error
from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError

from .border import alpha_decoder, decoding, main_video_stream, open_input
from .deinterlace import Deinterlacer
from .images import decode_image, image_to_pixels
from .info import VideoInfo, probe_with_scan
from .orientation import UPRIGHT, as_displayed, display_matrix
from .pixels import frame_to_pixels
from .scan import PacketScan
from .side_data import side_data_names

DEINTERLACE_MODES = ("auto", "on", "off")


@dataclass
class Frame:
    """One picture of a clip."""

    index: int
    """Position in the whole file, 0-based, in display order."""
    pts: int | None
    """Presentation time in the reader's `time_base` units; None when the file has no usable times."""
    duration: int | None
    """How long it is shown, in `time_base` units."""
    pixels: Tensor
    """``(3, h, w)`` float32 RGB in [0, 1], as displayed."""
    alpha: Tensor | None = None
    """``(1, h, w)`` float32 in [0, 1], when the source has transparency."""

    def __repr__(self) -> str:
        return f"Frame(index={self.index}, pts={self.pts}, duration={self.duration}, pixels={tuple(self.pixels.shape)})"


_FEW_DAMAGED = 8
"""Packets: more behind a join are hardly damage."""


class VideoReader:
    """Iterate over the frames of a clip.

    Frames come in display order with contiguous indices. A frame that cannot be decoded is replaced by a copy of the
    one before it (the one after it at the very start), so that count and times hold; `warnings` says so. Rotation is
    applied; the sample aspect ratio is left to the writer. Only a handful of frames are held at a time.

    Args:
        path: video file, image, folder of images or printf pattern.
        start: first frame to give, 0-based. Found by seeking where the file allows, exact to the frame in any case.
        frames: how many at most; None for all that follow.
        stream: index of the video stream, as for `probe`.
        deinterlace: ``auto`` when the file is flagged as interlaced (with a warning), ``on`` always, ``off`` never.

    Raises:
        DecodeError: missing, unreadable, no video stream, no frames, an absurd size, or `start` behind the end.
        ConfigError: `deinterlace` is none of the three.

    Example:
        >>> with VideoReader("in.mp4", start=48, frames=24) as reader:
        ...     for frame in reader:
        ...         frame.pixels
    """

    def __init__(
        self,
        path: str | Path,
        *,
        start: int = 0,
        frames: int | None = None,
        deinterlace: str = "auto",
        stream: int | None = None,
    ) -> None:
        if deinterlace not in DEINTERLACE_MODES:
            msg = f"deinterlace {deinterlace!r} is unknown; use one of {', '.join(DEINTERLACE_MODES)}"
            raise ConfigError(msg)
        if start < 0 or (frames is not None and frames < 1):
            msg = f"a clip part needs start >= 0 and frames >= 1, got {start = }, {frames = }"
            raise DecodeError(msg)
        self._window: tuple[slice, slice] | None = None
        self._path = Path(path)
        self.info: VideoInfo
        self.info, self._scan = probe_with_scan(self._path, stream)
        if start >= self.info.num_frames and self.info.num_frames_is_exact:
            msg = (
                f"start {start} is behind the end: {path} has {self.info.num_frames} frames, "
                f"0 to {self.info.num_frames - 1}; pass a smaller --start"
            )
            raise DecodeError(msg)
        self.start = start
        self.stop = self.info.num_frames if frames is None else min(self.info.num_frames, start + frames)
        self.warnings: list[str] = list(self.info.warnings)
        """What was wrong or unusual, one line each; complete once iteration has ended."""
        self.side_data: set[str] = set(self.info.side_data)
        """What the frames given so far carry beside their pixels, see `VideoInfo.side_data`."""
        self._is_deinterlacing = deinterlace == "on" or (deinterlace == "auto" and self.info.is_interlaced is True)
        self._is_deinterlace_forced = deinterlace == "on"
        if self._is_deinterlacing and deinterlace == "auto":
            self.warnings.append(
                f"{self._path.name} is interlaced and is deinterlaced (bwdif); --deinterlace off keeps the fields"
            )

    def part(self, start: int, frames: int, window: tuple[slice, slice] | None = None) -> VideoReader:
        """A reader of another part of the same file, without looking through its packets again.

        Args:
            start: first frame of the part, counted from the file's first frame.
            frames: at most so many.
            window: rows and columns, as displayed, that each frame is cut down to; converting less takes less time.
        """
        other = copy.copy(self)
        other._window = window
        other.warnings = list(self.warnings)
        other.start, other.stop = start, min(self.info.num_frames, start + frames)
        return other

    @property
    def time_base(self) -> Fraction:
        """Unit of `Frame.pts` and `Frame.duration`, in seconds."""
        return self.info.time_base

    @property
    def num_frames(self) -> int:
        """Number of frames that this reader gives (approximate where `info.num_frames_is_exact` is False)."""
        return max(0, self.stop - self.start)

    @property
    def times(self) -> Sequence[int] | None:
        """When each frame of the whole file is shown, in `time_base` units; None when the file does not say."""
        return self._scan.times if self._scan is not None and self._scan.times else None

    def __len__(self) -> int:
        return self.num_frames

    def __enter__(self) -> VideoReader:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Release the file; each iteration opens and closes its own handle, so nothing is held in between."""

    def __iter__(self) -> Generator[Frame, None, None]:
        yield from self.frames_from(self.start)

    def frames_from(self, start: int) -> Generator[Frame, None, None]:
        """Iterate from any frame to the reader's end, without looking through the file again."""
        if self._scan is None:
            yield from self._image_frames(range(start, self.stop))
        else:
            yield from self._video_frames(self._scan, start, self.stop, None)

    def _warn(self, text: str) -> None:
        """Note `text` once, however often the clip is iterated."""
        if text not in self.warnings:
            self.warnings.append(text)

    # Images

    def _image_frames(self, indices: Iterable[int]) -> Iterator[Frame]:
        for index in indices:
            path = self.info.files[index]
            with decoding(path):
                picture, matrix = decode_image(path, (self.info.height, self.info.width))
                self.side_data |= side_data_names([picture])
                pixels, alpha = image_to_pixels(picture, matrix)
            if pixels.shape[-2:] != (self.info.height, self.info.width):
                msg = (
                    f"{path} is {pixels.shape[-1]}x{pixels.shape[-2]} but the first image of the sequence is "
                    f"{self.info.width}x{self.info.height}; a sequence needs one size"
                )
                raise DecodeError(msg)
            yield Frame(index, index, 1, self._windowed(pixels), None if alpha is None else self._windowed(alpha))

    def _windowed(self, pixels: Tensor) -> Tensor:
        return pixels if self._window is None else pixels[:, self._window[0], self._window[1]]

    # Video

    def _video_frames(self, scan: PacketScan, start: int, stop: int, wanted: set[int] | None) -> Iterator[Frame]:
        """Yield frames ``start`` to ``stop``; with `wanted`, convert and yield only those."""
        previous: Frame | None = None
        num_repeated = 0
        index = start
        gap: list[int] = []
        for index, frame in self._indexed(scan, start, stop):
            if frame is None:
                gap.append(index)
                continue
            is_needed = wanted is None or index in wanted or any(i in wanted for i in gap)
            current = self._convert(frame, index, scan) if is_needed else None
            for missing in gap:
                stand_in = previous or current
                num_repeated += 1
                if stand_in is not None and (wanted is None or missing in wanted):
                    yield self._repeat(stand_in, missing, scan)
            gap = []
            if current is not None and (wanted is None or index in wanted):
                yield current
            # Without `wanted` the last good picture is at hand for a gap; with it, only if it was asked for too.
            previous = current if current is not None else previous
        if previous is None and wanted is None:
            msg = f"no frame of {self._path} could be decoded; the file is damaged or its codec is not supported"
            raise DecodeError(msg)
        for missing in gap:
            num_repeated += 1
            if previous is not None and (wanted is None or missing in wanted):
                yield self._repeat(previous, missing, scan)
        if num_repeated:
            self._warn(
                f"{num_repeated} damaged frame{'s' if num_repeated > 1 else ''} of {self._path.name} could not be "
                "decoded; the frame before was repeated"
            )

    def _repeat(self, frame: Frame, index: int, scan: PacketScan) -> Frame:
        return Frame(index, scan.times[index], _duration(scan, index), frame.pixels, frame.alpha)

    def _convert(self, frame: av.VideoFrame, index: int, scan: PacketScan) -> Frame:
        self.side_data |= side_data_names([frame])
        matrix = display_matrix(frame)
        is_sited = self.info.is_center_sited
        if matrix == UPRIGHT:
            pixels, alpha = frame_to_pixels(frame, self.info.color, is_center_sited=is_sited, window=self._window)
        else:
            pixels, alpha = frame_to_pixels(frame, self.info.color, is_center_sited=is_sited)
            pixels = self._windowed(as_displayed(pixels, matrix))
            alpha = None if alpha is None else self._windowed(as_displayed(alpha, matrix))
        pts = scan.times[index] if index < len(scan.times) else None
        return Frame(index, pts, _duration(scan, index), pixels, alpha)

    def _indexed(
        self, scan: PacketScan, start: int, stop: int, *, may_seek: bool = True
    ) -> Iterator[tuple[int, av.VideoFrame | None]]:
        """Yield ``(index, frame)`` for ``start`` to ``stop``; None stands for a frame that could not be decoded."""
        if not scan.has_pts:
            # No usable times: count. Frames before `start` have to be decoded as well.
            for index, frame in enumerate(self._decoded(None)):
                if index >= start:
                    yield index, frame
                # The number of packets may be less than the number of frames here, so only `frames` may end it.
                if index + 1 >= stop and stop < self.info.num_frames:
                    return
            return
        index = start
        # The deinterlacer looks at the frames around each one, so it has to see those before `start` as well.
        first = max(0, start - 2) if self._is_deinterlacing else start
        # Where the clock was set anew, a time is at several places of the file.
        seek_to = _seek_timestamp(scan, first) if may_seek and not scan.steps else None
        for frame in self._decoded(seek_to):
            if seek_to is not None and frame.pts is not None and frame.pts > scan.pts[first]:
                # The seek landed too late (a wrong index in the file): decode from the beginning instead.
                yield from self._indexed(scan, start, stop, may_seek=False)
                return
            seek_to = None
            if frame.pts is None:
                continue
            while index < stop and scan.pts[index] < frame.pts:
                yield index, None
                index += 1
            if index >= stop:
                return
            if frame.pts == scan.pts[index]:
                yield index, frame
                index += 1
            if index >= stop:
                return
        for missing in range(index, stop):
            yield missing, None

    def _decoded(self, seek_to: int | None) -> Iterator[av.VideoFrame]:
        """Decode from `seek_to` (stream time of a sync frame) or the beginning, in display order, past damage."""
        deinterlacer = Deinterlacer(is_forced=self._is_deinterlace_forced) if self._is_deinterlacing else None
        with decoding(self._path), open_input(self._path) as container:
            stream = main_video_stream(container, self._path, self.info.stream_index)
            for other in container.streams:
                if other.index != stream.index:
                    other.discard = av.stream.Discard.all
            stream.thread_type = "AUTO"
            if seek_to is not None:
                depth = stream.codec_context.reorder_depth
                container.seek(seek_to, stream=stream)
                # Seeking makes FFmpeg forget how many B-frames to wait for; it would drop the first ones.
                stream.codec_context.reorder_depth = depth
            for frame in self._packets_to_frames(container, stream):
                frame = self._at_first_size(frame)
                if deinterlacer is None:
                    yield frame
                else:
                    yield from deinterlacer.push(frame)
            if deinterlacer is not None:
                yield from deinterlacer.flush()

    def _packets_to_frames(
        self, container: av.container.InputContainer, stream: av.video.stream.VideoStream
    ) -> Iterator[av.VideoFrame]:
        num_bad = num_packets = 0
        steps = list(self._scan.steps) if self._scan is not None else []
        shift = 0
        packets = container.demux(stream)
        decoder = alpha_decoder(stream) or stream.codec_context
        while True:
            try:
                packet = next(packets, None)
            except (av.error.FFmpegError, ValueError, OSError) as exc:
                self._warn(f"{self._path.name} is cut short or damaged: {exc}; what is there was read")
                packet = None
            if packet is None:
                # A demuxer that failed gives no flush packet
                with suppress(av.error.FFmpegError, ValueError):
                    yield from decoder.decode(None)
                break
            if packet.size:
                if steps and steps[0].packet == num_packets:
                    shift = round(steps.pop(0).seconds / packet.time_base)
                num_packets += 1
                packet.pts = None if packet.pts is None else packet.pts + shift
                packet.dts = None if packet.dts is None else packet.dts + shift
            try:
                frames = decoder.decode(packet)
            except av.error.EOFError:
                break
            except (av.error.FFmpegError, ValueError):
                num_bad += 1
                continue
            yield from frames
        if num_bad:
            joined = ""
            if self.info.time_steps and num_bad > _FEW_DAMAGED:
                joined = " (what is joined behind may be in another codec; bring the parts into one first)"
            self._warn(f"{num_bad} damaged packet{'s' if num_bad > 1 else ''} in {self._path.name} skipped{joined}")

    def _at_first_size(self, frame: av.VideoFrame) -> av.VideoFrame:
        width, height = self.info.width, self.info.height
        if self.info.rotation_degrees in (90, 270):
            width, height = height, width
        if (frame.width, frame.height) == (width, height):
            return frame
        self._warn(f"the frame size changes inside {self._path.name}; later frames were resized to {width}x{height}")
        pts, time_base = frame.pts, frame.time_base
        frame = frame.reformat(width=width, height=height, interpolation="BICUBIC")
        frame.pts, frame.time_base = pts, time_base
        return frame


def _seek_timestamp(scan: PacketScan, start: int) -> int | None:
    """Where to seek so that frame `start` decodes: the last sync frame at or before it, None for the beginning."""
    position = bisect_right(scan.sync_indices, start) - 1
    if position < 1:
        return None
    return scan.sync_timestamps[position]


def _duration(scan: PacketScan, index: int) -> int | None:
    times = scan.times
    if index >= len(times):
        return None
    if index + 1 < len(times):
        return times[index + 1] - times[index]
    if scan.last_duration > 0:
        return scan.last_duration
    return times[-1] - times[-2] if len(times) > 1 else None


def read_frames(
    path: str | Path, indices: Sequence[int], *, deinterlace: str = "auto", stream: int | None = None
) -> dict[int, Tensor]:
    """Read single frames of a clip, decoding only from the sync frame before each of them.

    Args:
        path: video file, image, folder of images or printf pattern.
        indices: 0-based frame indices in any order; repeats count once.
        deinterlace, stream: as for `VideoReader`.

    Returns:
        Index to ``(3, h, w)`` float32 RGB in [0, 1], in ascending order.

    Raises:
        DecodeError: unreadable file, or an index that the clip does not have.
    """
    reader = VideoReader(path, deinterlace=deinterlace, stream=stream)
    wanted = sorted(set(indices))
    beyond = [i for i in wanted if i < 0 or (i >= reader.info.num_frames and reader.info.num_frames_is_exact)]
    if beyond:
        msg = f"{path} has no frame {beyond[0]}: it has {reader.info.num_frames}, 0 to {reader.info.num_frames - 1}"
        raise DecodeError(msg)
    found: dict[int, Tensor] = {}
    scan = reader._scan
    if scan is None:
        return {frame.index: frame.pixels for frame in reader._image_frames(wanted)}
    # Frames that share the way from one sync frame are read in one go.
    runs: list[list[int]] = []
    for index in wanted:
        sync = _last_sync(scan, index)
        if runs and (not scan.has_pts or sync <= runs[-1][-1]):
            runs[-1].append(index)
        else:
            runs.append([index])
    for run in runs:
        for frame in reader._video_frames(scan, run[0], run[-1] + 1, set(run)):
            found[frame.index] = frame.pixels
    missing = [i for i in wanted if i not in found]
    if missing:
        msg = f"frame {missing[0]} of {path} could not be decoded; the file is damaged there, choose another frame"
        raise DecodeError(msg)
    return found


def _last_sync(scan: PacketScan, index: int) -> int:
    position = bisect_right(scan.sync_indices, index) - 1
    return scan.sync_indices[position] if position >= 0 else 0
