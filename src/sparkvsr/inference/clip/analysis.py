"""One pass over a clip before anything is restored: cuts, true length, times and a hash of every frame."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import DecodeError
from sparkvsr.hooks import Hook
from sparkvsr.inference.clip.unchanged import FileIdentity, frame_digest
from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.keyframes.cuts import detect_cuts
from sparkvsr.keyframes.shots import Shot, shots_from_cuts
from sparkvsr.video import (
    Frame,
    VideoInfo,
    VideoReader,
)

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
        warnings: of the reader.
        identity: of the file, None for several files.
        references: identities of the reference images that the segments' keys were made with, by frame index.
        others: hashes of frames that lie outside ``digests``, in a part.
    """

    start: int
    times: list[tuple[int | None, int | None]] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=list)
    colour: float = 0.0
    warnings: list[str] = field(default_factory=list)
    identity: FileIdentity | None = None
    references: dict[int, str] = field(default_factory=dict)
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
            references={index: self.references[index] for index in keys if index in self.references},
            others={index: self.digest(index) for index in keys},
        )


def open_frames(path: Path, start: int, frames: int | None, deinterlace: str) -> Generator[Frame, None, None]:
    """Iterate over decoded frames; the file is closed when the iterator is."""
    with VideoReader(path, start=start, frames=frames, deinterlace=deinterlace) as reader:
        yield from reader


def read_through(info: VideoInfo, options: UpscaleOptions, stop: int, hook: Hook) -> tuple[list[Shot], ClipRecord]:
    """One pass over the clip with bounded memory: cuts, times, hashes."""
    start = options.start
    total = stop - start
    every = max(1, total // 100)
    record = ClipRecord(start)

    def report(done: int) -> None:
        if done % every == 0 or done == total:
            hook({"event": "analysis", "done": done, "total": total})

    def noted(reader: VideoReader) -> Iterator[Tensor]:
        for frame in reader:
            record.times.append((frame.pts, frame.duration))
            record.digests.append(frame_digest(frame.pixels))
            if record.colour <= GREY_SPREAD:
                spread = frame.pixels.amax(0) - frame.pixels.amin(0)
                record.colour = max(record.colour, float(spread.max()))
            yield frame.pixels

    with VideoReader(info.path, start=start, frames=total, deinterlace=options.deinterlace) as reader:
        cuts, count = detect_cuts(noted(reader), on_frame=report)
        record.warnings += reader.warnings
    if count == 0:
        msg = f"{info.path} has no decodable frame from {start} on"
        raise DecodeError(msg)
    return shots_from_cuts([start + cut for cut in cuts], start, start + count), record
