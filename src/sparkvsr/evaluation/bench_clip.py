"""One clip of a bench: its ground truth, its LR frames and what they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparkvsr.errors import ConfigError, DatasetError
from sparkvsr.evaluation import degrade
from sparkvsr.evaluation.bench import Bench
from sparkvsr.evaluation.demo_clips import demo_clip
from sparkvsr.evaluation.frames import ClipSource, CroppedClip, FileClip
from sparkvsr.evaluation.layout import ClipFiles, size_problem
from sparkvsr.metrics.colour import Frame

if TYPE_CHECKING:
    pass


@dataclass
class BenchClip:
    """A clip of a bench, opened; sizes and counts agree."""

    name: str
    gt: ClipSource | None
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
        gt: ClipSource | None = None
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

    def identity(self) -> str:
        """Text that changes when the frames that are measured change."""
        return f"{self.lr.identity() if self.lr else 'made'} {self.gt.identity() if self.gt else ''} {self.num_frames}"

    def lr_frames(self, bench: Bench) -> Iterator[Frame]:
        """The LR frames, ``(h, w, 3)`` uint8 RGB: those of the set, or made from the ground truth."""
        if self.lr is not None:
            yield from CroppedClip(self.lr, self.lr_size, (0, 0), self.num_frames).frames()
            return
        assert self.gt is not None
        for frame in self.gt.frames():
            yield degrade.make_lr(frame, bench.degradation, bench.scale)

    def iframes(self, keyframes: str) -> list[int]:
        """I-frames of the LR video."""
        from sparkvsr.video import iframe_indices

        if self.lr is None or not self.lr.is_video():
            msg = (
                f"--keyframes {keyframes}: the LR frames of {self.name} are not a video, so there are no I-frames; "
                "use first, every:N or frame numbers"
            )
            raise ConfigError(msg)
        return [index for index in iframe_indices(self.lr.path) if index < self.num_frames]

    def gt_frame(self, index: int) -> Frame:
        """One frame of the ground truth, ``(H, W, 3)`` uint8 RGB.

        Raises:
            DatasetError: the clip has no such frame.
        """
        assert self.gt is not None
        for number, frame in enumerate(self.gt.frames()):
            if number == index:
                return frame
        msg = f"{self.name}: the ground truth has no frame {index}"
        raise DatasetError(msg)
