"""Clips as streams of 8-bit frames, wherever they come from: image folders, videos, or a generator."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

from sparkvsr.errors import DecodeError
from sparkvsr.metrics.colour import Image8, to_uint8
from sparkvsr.suffixes import IMAGE_SUFFIXES, VIDEO_SUFFIXES

_LOSSLESS_CODECS = {"ffv1", "rawvideo", "png", "bmp", "tiff", "utvideo", "huffyuv", "ffvhuff", "magicyuv", "qtrle"}


class FrameClip(ABC):
    """One clip.

    Attributes:
        name: of the clip.
        num_frames: may be an estimate for damaged videos.
        size: ``(H, W)``.
        fps: frames per second; a nominal value for image folders.
        numbers: those in the names of its images, rising; empty where there are none.
        file_names: of its images, in order; empty for what is no sequence of images.
    """

    name: str
    num_frames: int
    size: tuple[int, int]
    fps: float
    numbers: tuple[int, ...] = ()
    file_names: tuple[str, ...] = ()

    @abstractmethod
    def frames(self) -> Iterator[Image8]:
        """The frames from the start, ``(H, W, 3)`` uint8 RGB; may be called again."""

    def frame(self, index: int) -> Image8:
        """One frame, ``(H, W, 3)`` uint8 RGB.

        Raises:
            DecodeError: the clip has no such frame.
        """
        found = next(islice(self.frames(), index, None), None)
        if found is None:
            msg = f"{self.name} has no frame {index}"
            raise DecodeError(msg)
        return found

    @abstractmethod
    def identity(self) -> str:
        """Text that changes when the clip changes."""

    def warnings(self) -> list[str]:
        """What makes numbers measured on this clip less than exact, one line each."""
        return []

    def describe(self) -> str:
        """Where the frames come from and how they were stored, for the record."""
        return "computed"


class FileClip(FrameClip):
    """An image folder, an image or a video.

    Args:
        path: what ``sparkvsr.video`` reads.
        name: of the clip, by default the path's stem.
        limit: at most this many frames.

    Raises:
        DecodeError: not readable.
    """

    def __init__(self, path: Path, name: str | None = None, limit: int | None = None) -> None:
        from sparkvsr.video import probe

        self.path = path
        self.name = name or (path.name if path.is_dir() else path.stem)
        self._info = probe(path)
        self._limit = limit
        self.num_frames = self._info.num_frames if limit is None else min(limit, self._info.num_frames)
        self.size = (self._info.height, self._info.width)
        self.fps = float(self._info.average_fps)
        self.numbers = self._info.numbers[: self.num_frames]
        self.file_names = tuple(file.name for file in self._info.files[: self.num_frames])

    def frames(self) -> Iterator[Image8]:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB, deeper sources rounded to 8 bit."""
        from sparkvsr.video import VideoReader

        with VideoReader(self.path, frames=self._limit) as reader:
            for frame in reader:
                yield to_uint8(frame.pixels)

    def frame(self, index: int) -> Image8:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB."""
        from sparkvsr.video import read_frames

        return to_uint8(read_frames(self.path, [index])[index])

    def identity(self) -> str:
        """See ``FrameClip``: path, sizes and times of the files (of their change too, which no tool puts back)."""
        files = self._info.files or (self.path,)
        digest = hashlib.sha256()
        for file in files:
            state = file.stat()
            times = f"{state.st_mtime_ns} {state.st_ctime_ns}"
            digest.update(os.fsencode(file.name) + f" {state.st_size} {times}\n".encode())
        return f"{self.path.resolve()} {digest.hexdigest()[:16]} {self._limit}"

    def describe(self) -> str:
        """See ``FrameClip``."""
        return f"{self.path} ({self._info.kind}, {self._info.codec} {self._info.pixel_format})"

    def is_video(self) -> bool:
        """Whether it is a video file, not images."""
        return self._info.kind == "video"

    def warnings(self) -> list[str]:
        """See ``FrameClip``: lossy codecs, subsampled colour, more than 8 bit."""
        info = self._info
        found = []
        if info.kind == "video":
            subsampled = "420" in info.pixel_format or "422" in info.pixel_format or info.pixel_format.startswith("nv1")
            if info.codec not in _LOSSLESS_CODECS:
                found.append(
                    f"{self.path.name} is {info.codec} {info.pixel_format}: if it was encoded with loss, the codec is "
                    "part of what is measured (crf 18 alone limits PSNR to about 39 dB); compare frames before encoding"
                )
            elif subsampled:
                found.append(
                    f"{self.path.name} is {info.pixel_format}: subsampled colour alone limits PSNR to about 45 dB"
                )
        elif info.codec in {"mjpeg", "webp"}:
            found.append(f"{self.path.name} holds {info.codec} images, which are compressed with loss")
        if info.bit_depth > 8:
            found.append(f"{self.path.name} has {info.bit_depth} bits; it is rounded to 8 bits for measuring")
        return found


class MadeClip(FrameClip):
    """A clip computed on the fly.

    Args:
        name, num_frames, size, fps: see ``FrameClip``.
        make: gives frame ``index``, ``(H, W, 3)`` uint8.
        version: changes when ``make`` changes.
    """

    def __init__(
        self,
        name: str,
        num_frames: int,
        size: tuple[int, int],
        make: Callable[[int], Image8],
        *,
        fps: float = 24.0,
        version: str = "1",
    ) -> None:
        self.name, self.num_frames, self.size, self.fps = name, num_frames, size, fps
        self._make, self._version = make, version

    def frames(self) -> Iterator[Image8]:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB."""
        return (self._make(index) for index in range(self.num_frames))

    def frame(self, index: int) -> Image8:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB."""
        return self._make(index)

    def identity(self) -> str:
        """See ``FrameClip``."""
        return f"made {self.name} {self._version} {self.num_frames} {self.size}"


class CroppedClip(FrameClip):
    """Another clip, cut to a window and a number of frames.

    Args:
        clip: the clip.
        size: ``(H, W)`` to keep.
        corner: ``(top, left)`` of the window.
        num_frames: frames to keep.
    """

    def __init__(self, clip: FrameClip, size: tuple[int, int], corner: tuple[int, int], num_frames: int) -> None:
        self.name, self.fps = clip.name, clip.fps
        self.size, self.num_frames = size, num_frames
        self._clip, self._corner = clip, corner

    def frames(self) -> Iterator[Image8]:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB."""
        return (self._cut(frame) for frame in islice(self._clip.frames(), self.num_frames))

    def frame(self, index: int) -> Image8:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB."""
        return self._cut(self._clip.frame(index))

    def _cut(self, frame: Image8) -> Image8:
        top, left = self._corner
        return frame[top : top + self.size[0], left : left + self.size[1]].copy()

    def identity(self) -> str:
        """See ``FrameClip``."""
        return f"{self._clip.identity()} cut {self.size} {self._corner} {self.num_frames}"

    def warnings(self) -> list[str]:
        """See ``FrameClip``."""
        return self._clip.warnings()

    def describe(self) -> str:
        """See ``FrameClip``."""
        return self._clip.describe()


def holds_images(folder: Path) -> bool:
    """Whether a folder directly holds images."""
    return any(entry.suffix.lower() in IMAGE_SUFFIXES and not entry.name.startswith(".") for entry in folder.iterdir())


def clip_paths(folder: Path) -> dict[str, Path]:
    """The clips below a folder, by name: subfolders with images, and videos."""
    found: dict[str, Path] = {}
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            if holds_images(entry):
                found[entry.name] = entry
        elif entry.suffix.lower() in VIDEO_SUFFIXES:
            found.setdefault(entry.stem, entry)
    return found


def check_readable(clip: FrameClip) -> int:
    """Read a clip to the end and return its number of frames.

    Raises:
        DecodeError: a frame cannot be read, or the sizes change.
    """
    count = 0
    for frame in clip.frames():
        if frame.shape[:2] != clip.size:
            msg = f"{clip.name} changes size at frame {count}: {frame.shape[1]}x{frame.shape[0]}"
            raise DecodeError(msg)
        count += 1
    return count
