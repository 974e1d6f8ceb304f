"""One pass over a clip before anything is restored: cuts, true length, times and a hash of every frame."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import DecodeError
from sparkvsr.hooks import Hook
from sparkvsr.inference.clip.unchanged import FileIdentity, frame_digest
from sparkvsr.keyframes.coverage import Coverage
from sparkvsr.keyframes.cuts import detect_cuts
from sparkvsr.keyframes.frame_watch import FrameWatch
from sparkvsr.keyframes.makers.interface import ReferenceMaker
from sparkvsr.keyframes.shots import Shot, shots_from_cuts
from sparkvsr.video import (
    Frame,
    VideoInfo,
    VideoReader,
)
from sparkvsr.video.cadence import Cadence

GREY_SPREAD = 1.5 / 255
"""How far the channels of a grey clip may lie apart: rounding."""


@dataclass
class ClipRecord:
    """What the pass over the clip found besides the cuts.

    Attributes:
        start: index of the first frame.
        times: presentation time and duration of each frame in the clip's time base.
        digests: hash of each frame's pixels.
        colour: largest difference between the channels of a pixel, 0 to 1; 0 for a grey clip.
        warnings: of the reader, and what is odd about the frames.
        side_data: what the frames carry beside their pixels, see ``VideoInfo.side_data``.
        bad_frames: that no automatic keyframe should lie on; looked for where keyframes are automatic.
        identity: of the file, None for several files.
        wanted: frames where keyframes should lie by the motion; None where it was not followed.
        others: hashes of frames that lie outside ``digests``, in a part.
    """

    start: int
    times: list[tuple[int | None, int | None]] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    colour: float = 0.0
    warnings: list[str] = field(default_factory=list)
    side_data: frozenset[str] = frozenset()
    bad_frames: frozenset[int] = frozenset()
    identity: FileIdentity | None = None
    wanted: tuple[int, ...] | None = None
    others: dict[int, bytes] = field(default_factory=dict)

    def digest(self, index: int) -> bytes:
        """Hash of the frame at an index of the clip."""
        return self.others[index] if index in self.others else self.digests[index - self.start]

    def part(self, start: int, stop: int, keyframes: Iterable[int]) -> ClipRecord:
        """What rendering the frames ``[start, stop)`` with these keyframes has to know."""
        keys = list(keyframes)
        return ClipRecord(
            start,
            digests=self.digests[start - self.start : stop - self.start],
            identity=self.identity,
            others={index: self.digest(index) for index in keys},
        )

    def stays_grey(self, keyframes: Sequence[int], maker: ReferenceMaker | None) -> bool:
        """Whether the clip is grey and no keyframe image may bring colour into it."""
        return self.colour <= GREY_SPREAD and not (keyframes and maker is not None and maker.may_colour)


def open_frames(
    path: Path, start: int, frames: int | None, deinterlace: str, stream: int | None = None
) -> Generator[Frame, None, None]:
    """Iterate over decoded frames; the file is closed when the iterator is."""
    with VideoReader(path, start=start, frames=frames, deinterlace=deinterlace, stream=stream) as reader:
        yield from reader


def look_through(
    frames: Iterable[Frame],
    start: int = 0,
    on_frame: Callable[[int], None] | None = None,
    *,
    judge: bool = False,
    follow: bool = False,
) -> tuple[list[Shot], ClipRecord]:
    """One pass over frames with bounded memory: cuts, times, hashes, colour.

    Args:
        frames: the LR frames from ``start`` on.
        start: index of the first one.
        on_frame: called with the number of frames seen so far.
        judge: also look for frames that no automatic keyframe should lie on.
        follow: also follow the motion, to place keyframes by it.

    Returns:
        The shots, none when there was no frame, and what else was found.
    """
    record = ClipRecord(start)
    watch = FrameWatch() if judge else None
    coverage = Coverage() if follow else None
    cadence = Cadence()

    def noted() -> Iterator[Tensor]:
        for frame in frames:
            record.times.append((frame.pts, frame.duration))
            record.digests.append(frame_digest(frame.pixels))
            if record.colour <= GREY_SPREAD:
                spread = frame.pixels.amax(0) - frame.pixels.amin(0)
                record.colour = max(record.colour, float(spread.max()))
            if watch is not None:
                watch.see(frame.pixels)
            if coverage is not None:
                coverage.take(frame.pixels)
            cadence.see(frame.pixels)
            yield frame.pixels

    cuts, count = detect_cuts(noted(), on_frame=on_frame)
    shots = shots_from_cuts([start + cut for cut in cuts], start, start + count) if count else []
    if (note := cadence.note()) is not None:
        record.warnings.append(note)
    if coverage is not None:
        record.wanted = tuple(start + index for index in coverage.wanted)
    if watch is not None:
        record.bad_frames = watch.bad(start, shots)
    return shots, record


def read_through(
    info: VideoInfo,
    start: int,
    stop: int,
    deinterlace: str,
    hook: Hook,
    *,
    judge: bool = False,
    follow: bool = False,
) -> tuple[list[Shot], ClipRecord]:
    """``look_through`` for the frames ``[start, stop)`` of a file.

    Raises:
        DecodeError: not one frame could be decoded.
    """
    total = stop - start
    every = max(1, total // 100)

    def report(done: int) -> None:
        if done % every == 0 or done == total:
            hook({"event": "analysis", "done": done, "total": total})

    with VideoReader(info.path, start=start, frames=total, deinterlace=deinterlace, stream=info.stream_index) as reader:
        shots, record = look_through(reader, start, report, judge=judge, follow=follow)
        record.warnings += reader.warnings
        record.side_data = frozenset(reader.side_data)
    if not shots:
        msg = f"{info.path} has no decodable frame from {start} on"
        raise DecodeError(msg)
    return shots, record
