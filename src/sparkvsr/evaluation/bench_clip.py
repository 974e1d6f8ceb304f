"""One clip of a bench: its ground truth, its LR frames and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from sparkvsr.errors import ConfigError, DatasetError
from sparkvsr.evaluation import degrade
from sparkvsr.evaluation.bench import Bench
from sparkvsr.evaluation.demo_clips import demo_clip
from sparkvsr.evaluation.frames import CroppedClip, FileClip, FrameClip
from sparkvsr.evaluation.layout import ClipFiles, size_problem
from sparkvsr.metrics.colour import Image8, to_pixels

if TYPE_CHECKING:
    from sparkvsr.inference.clip.analysis import ClipRecord
    from sparkvsr.keyframes.shots import Shot
    from sparkvsr.video import Frame


class LrFrames(Protocol):
    """The LR frames of a clip, which may be read several times and from any frame on."""

    def open(self, start: int = 0) -> Iterator[Frame]:
        """The frames from ``start`` on, pixels ``(3, h, w)`` float32 in [0, 1]."""


@dataclass(frozen=True)
class FileFrames:
    """LR frames read from a file, as ``sparkvsr upscale`` reads them.

    Attributes:
        path: what ``sparkvsr.video`` reads.
        num_frames: at most.
    """

    path: Path
    num_frames: int

    def open(self, start: int = 0) -> Iterator[Frame]:
        """See ``LrFrames``."""
        from sparkvsr.inference.clip.analysis import open_frames

        return open_frames(self.path, start, self.num_frames - start, "auto")


@dataclass(frozen=True)
class MadeFrames:
    """LR frames that were made from the ground truth, held in memory: making them takes longer than reading them.

    Attributes:
        images: ``(h, w, 3)`` uint8 each.
    """

    images: Sequence[Image8]

    def open(self, start: int = 0) -> Iterator[Frame]:
        """See ``LrFrames``."""
        from sparkvsr.video import Frame

        return (Frame(k, k, 1, to_pixels(self.images[k])) for k in range(start, len(self.images)))


@dataclass
class BenchClip:
    """A clip of a bench, opened; sizes and counts agree."""

    name: str
    gt: FrameClip | None
    lr: FileClip | None
    num_frames: int
    available: int
    size: tuple[int, int]
    lr_size: tuple[int, int]
    fps: float
    notes: list[str]

    @classmethod
    def open(cls, bench: Bench, files: ClipFiles, max_frames: int | None) -> BenchClip:
        """Raises DatasetError where sizes or counts do not fit."""
        gt: FrameClip | None = None
        if bench.kind == "generated":
            gt = demo_clip(files.name, bench.frames_of(files.name) or 12)
        elif files.gt is not None:
            gt = FileClip(files.gt, files.name)
        lr = FileClip(files.lr, files.name) if files.lr is not None else None
        first = gt or lr
        assert first is not None
        if gt is not None and lr is not None:
            if gt.num_frames != lr.num_frames:
                msg = (
                    f"{bench.name}/{files.name}: GT has {gt.num_frames} frames but LR {lr.num_frames}; they must agree"
                )
                raise DatasetError(msg)
            problem = size_problem(bench, lr.size, gt.size)
            if problem:
                msg = f"{bench.name}/{files.name}: {problem}; check the data with --check"
                raise DatasetError(msg)
        available = first.num_frames
        count = min(n for n in (available, bench.frames_of(files.name), max_frames) if n is not None)
        scale = bench.scale
        lr_size = lr.size if lr is not None else (first.size[0] // scale, first.size[1] // scale)
        size = (lr_size[0] * scale, lr_size[1] * scale)
        notes = [text for source in (gt, lr) if source is not None for text in source.warnings()]
        if gt is not None and gt.size != size:
            notes.append(
                f"ground truth cut from {gt.size[1]}x{gt.size[0]} to {size[1]}x{size[0]}, a multiple of {scale}"
            )
        if gt is not None and (gt.size != size or count != available):
            gt = CroppedClip(gt, size, (0, 0), count)
        is_video = isinstance(first, FileClip) and first.is_video()
        fps = first.fps if is_video or bench.kind == "generated" else bench.fps
        return cls(files.name, gt, lr, count, available, size, lr_size, fps, notes)

    @property
    def truth(self) -> FrameClip:
        """The ground truth of a clip that has one."""
        assert self.gt is not None
        return self.gt

    def identity(self) -> str:
        """Text that changes when the frames that are measured change."""
        return f"{self.lr.identity() if self.lr else 'made'} {self.gt.identity() if self.gt else ''} {self.num_frames}"

    def lr_frames(self, bench: Bench) -> LrFrames:
        """Its LR frames, made now where the set has none."""
        if self.lr is not None:
            return FileFrames(self.lr.path, self.num_frames)
        assert self.gt is not None
        return MadeFrames([degrade.make_lr(frame, bench.degradation, bench.scale) for frame in self.gt.frames()])

    def look_through(self, lr: LrFrames, *, judge: bool = False, follow: bool = False) -> tuple[list[Shot], ClipRecord]:
        """Cuts and colour of its LR frames, see ``analysis.look_through``.

        Raises:
            DatasetError: fewer frames than the clip should have.
        """
        from sparkvsr.inference.clip.analysis import look_through

        shots, record = look_through(lr.open(), judge=judge, follow=follow)
        count = shots[-1].stop if shots else 0
        if count != self.num_frames:
            msg = f"{self.name}: {count} frames could be read, {self.num_frames} were expected"
            raise DatasetError(msg)
        return shots, record

    def iframes(self, keyframes: str) -> list[int]:
        """I-frames of the LR video.

        Raises:
            ConfigError: the LR frames are not a video.
        """
        from sparkvsr.video import iframe_indices

        if self.lr is None or not self.lr.is_video():
            msg = (
                f"--keyframes {keyframes}: the LR frames of {self.name} are not a video, so there are no I-frames; "
                "use first, every:N or frame numbers"
            )
            raise ConfigError(msg)
        return [index for index in iframe_indices(self.lr.path) if index < self.num_frames]
