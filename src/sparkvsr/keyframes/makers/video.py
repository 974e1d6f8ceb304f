"""References from another video: what any tool made of the same clip, at any size and rate.

A frame of the clip is looked up by its time. Whether the other video really is the same clip, and whether it begins
where the clip does, is looked at in the pictures (``settle``).
"""

from __future__ import annotations

import hashlib
import statistics
import threading
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError, KeyframeError
from sparkvsr.file_parts import spread_parts
from sparkvsr.home import expanded, is_there
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker, file_state
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.video import Frame, VideoReader
from sparkvsr.video.pixels import resize_image

FARTHEST_OFFSET = 24
"""Frames by which another video may begin earlier or later than the clip and still be found."""

CLEARLY = 0.7
"""How much closer a frame has to be at another place, as a share of the difference, before it counts."""

_LOOKED_AT = 5
_SMALL_SIDE = 96
_SAMPLES, _SAMPLE_BYTES = 32, 1 << 16
_AHEAD = 300

Times = Callable[[int], Fraction | None]


class VideoMaker(ReferenceMaker):
    """Frames of another video of the same clip.

    Args:
        path: the video.
        offset: frames by which it runs behind the clip; None to find it out.

    Raises:
        DecodeError: it cannot be read.
    """

    holds_images = True
    covers_clip = True

    def __init__(self, path: Path, offset: int | None = None) -> None:
        self.path = path
        self.name = str(path)
        self._reader = VideoReader(path)
        self._offset = offset
        self._times_of_clip: Times | None = None
        self._clip_aspect: Fraction | None = None
        self._frames: Iterator[Frame] | None = None
        self._next = -1
        self._kept: OrderedDict[int, Tensor] = OrderedDict()
        self._lock = threading.Lock()
        times = self._reader.times
        base = self._reader.time_base
        self._times = None if times is None else [(time - times[0]) * base for time in times]
        self._step = 1 / self._reader.info.average_fps

    @property
    def num_frames(self) -> int:
        """Of the other video."""
        return self._reader.info.num_frames

    @property
    def spec(self) -> str:
        """See ``ReferenceMaker.spec``: with what ``settle`` found out."""
        return f"video:{self.path}@{self._offset or 0}"

    def check_clip(self, path: Path) -> None:
        """See ``ReferenceMaker.check_clip``: a frame is looked up by the time that the clip gives it."""
        try:
            reader = VideoReader(path)
        except DecodeError:
            return  # reading the clip says what is wrong
        info, times, base = reader.info, reader.times, reader.time_base
        self._clip_aspect = Fraction(info.width, info.height) * info.sample_aspect_ratio
        if info.kind == "video" and times is not None and self._times is not None:
            self.set_times(lambda index: (times[index] - times[0]) * base if index < len(times) else None)
        elif info.num_frames != self.num_frames:
            self.set_times(lambda index: index / info.average_fps)

    def set_times(self, times: Times) -> None:
        """When frames of the clip are shown, counted from its first one, in seconds; None where it is not known."""
        self._times_of_clip = times

    def place(self, index: int) -> int:
        """The frame of the other video that shows a frame of the clip.

        Raises:
            KeyframeError: there is none.
        """
        offset = self._offset or 0
        time = None if self._times_of_clip is None else self._times_of_clip(index)
        if time is None or self._times is None:
            number = index
        else:
            number = bisect_left(self._times, time)
            if number and (number == len(self._times) or time - self._times[number - 1] < self._times[number] - time):
                number -= 1
            if abs(self._times[number] - time) > self._step:
                number = self.num_frames
        number += offset
        if not 0 <= number < self.num_frames:
            at = "" if time is None else f" ({float(time):.2f} s)"
            end = self.num_frames * self._step
            msg = (
                f"{self.path} has no frame for keyframe {index}{at}: it has {self.num_frames} frames and ends at "
                f"{float(end):.2f} s; leave the keyframe out, or make the video of the whole clip"
            )
            raise KeyframeError(msg)
        return number

    def check(self, indices: Sequence[int], lr_size: tuple[int, int]) -> None:  # type: ignore[override]
        """See ``ReferenceMaker.check``."""
        info = self._reader.info
        stored = Fraction(info.width, info.height)
        wanted = Fraction(lr_size[1], lr_size[0])
        shown = stored * info.sample_aspect_ratio
        is_same = abs(stored / wanted - 1) <= ASPECT_TOLERANCE
        if not is_same and abs(shown / (self._clip_aspect or wanted) - 1) > ASPECT_TOLERANCE:
            msg = (
                f"{self.path} is {info.width}x{info.height} (aspect {float(shown):.3f}), the clip is "
                f"{lr_size[1]}x{lr_size[0]} ({float(self._clip_aspect or wanted):.3f}); crop or pad it to the clip's "
                "aspect ratio"
            )
            raise KeyframeError(msg)
        if self._offset is not None:  # else `settle` looks, when it knows the offset
            for index in indices:
                self.place(index)

    def settle(self, read_lr: Callable[[Sequence[int]], Mapping[int, Tensor]], indices: Sequence[int]) -> list[str]:
        """See ``ReferenceMaker.settle``: find out whether the other video begins earlier or later than the clip."""
        notes = self.find_clip(read_lr, indices)
        for index in indices:
            self.place(index)
        return notes

    def find_clip(self, read_lr: Callable[[Sequence[int]], Mapping[int, Tensor]], indices: Sequence[int]) -> list[str]:
        """As ``settle``, by frames that need not be in the other video."""
        notes = self._rate_notes(indices)
        if self._offset is None and indices:
            offset = self._find_offset(read_lr, indices)
            self._offset = offset
            if offset:
                when = f"{abs(offset)} frame{'s' * (abs(offset) > 1)} {'later' if offset > 0 else 'earlier'}"
                notes.append(f"{self.path.name} shows each picture {when} than the clip; that was taken into account")
        return notes

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        return resize_image(self._frame(self.place(index)), size)

    def original(self, index: int, lr_size: tuple[int, int]) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.original``."""
        return self._frame(self.place(index))

    def label(self, index: int) -> str:
        """See ``ReferenceMaker.label``."""
        return f"frame {self.place(index)} of {self.path.name} (keyframe {index})"

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``: parts of the file's content, and which frame."""
        return f"{_sampled(self.path)}#{self.place(index)}"

    def close(self) -> None:
        """See ``ReferenceMaker.close``."""
        with self._lock:
            self._close_frames()

    def _close_frames(self) -> None:
        close = getattr(self._frames, "close", None)
        self._frames = None
        if close is not None:
            close()

    def _frame(self, number: int) -> Tensor:
        with self._lock:
            if number in self._kept:
                return self._kept[number]
            if self._frames is None or not self._next <= number <= self._next + _AHEAD:
                self._close_frames()
                self._frames = self._reader.frames_from(number)
            for frame in self._frames:
                self._next = frame.index + 1
                if frame.index == number:
                    self._kept[number] = frame.pixels
                    while len(self._kept) > 2:
                        self._kept.popitem(last=False)
                    return frame.pixels
        msg = f"frame {number} of {self.path} could not be decoded; the file is damaged there"
        raise KeyframeError(msg)

    def _rate_notes(self, indices: Sequence[int]) -> list[str]:
        info = self._reader.info
        if self._times_of_clip is None or len(indices) < 2 or self._times is None:
            return []
        known = [time for index in indices if (time := self._times_of_clip(index)) is not None]
        if len(known) < 2:
            return []
        clip_step = (known[-1] - known[0]) / (indices[-1] - indices[0])
        if clip_step and abs(self._step / clip_step - 1) > Fraction(1, 100):
            return [
                f"{self.path.name} has {float(info.average_fps):.6g} frames a second, the clip "
                f"{float(1 / clip_step):.6g}: frames are matched by their time"
            ]
        return []

    def _find_offset(self, read_lr: Callable[[Sequence[int]], Mapping[int, Tensor]], indices: Sequence[int]) -> int:
        """Frames by which the other video runs behind, 0 where the pictures do not clearly say otherwise."""
        inside = [index for index in indices if self._is_inside(index)] or list(indices[:1])
        step = max(1, len(inside) // _LOOKED_AT)
        found = []
        for index in inside[step // 2 :: step][:_LOOKED_AT]:
            lr = _small(read_lr([index])[index])
            middle = self._middle(index)
            first = max(0, middle - FARTHEST_OFFSET)
            differences = {}
            frames = self._reader.part(first, middle + FARTHEST_OFFSET + 1 - first)
            for frame in frames:
                differences[frame.index - middle] = float((_small(frame.pixels, lr.shape[-2:]) - lr).abs().mean())
            best = min(differences, key=lambda offset: (differences[offset], abs(offset)))
            here = differences.get(0, float("inf"))
            # A still picture fits everywhere: it says nothing.
            if differences[best] < CLEARLY * here:
                found.append(best)
            elif here < CLEARLY * statistics.median(differences.values()):
                found.append(0)
        if not found:
            return 0
        offset = int(statistics.median_low(found))
        return offset if found.count(offset) * 2 > len(found) else 0

    def _is_inside(self, index: int) -> bool:
        with suppress(KeyframeError):
            self.place(index)
            return True
        return False

    def _middle(self, index: int) -> int:
        with suppress(KeyframeError):
            return self.place(index)
        return self.num_frames - 1


def make_video(argument: str, options: MakerOptions) -> VideoMaker:  # noqa: ARG001  (every factory gets them)
    """``PATH`` or ``PATH@OFFSET``, the offset in frames.

    Raises:
        ConfigError: no such file.
        DecodeError: it cannot be read.
    """
    path = expanded(argument)
    name, at, number = argument.rpartition("@")
    offset: int | None = None
    if not is_there(path) and at and number.removeprefix("-").removeprefix("+").isdecimal():
        path, offset = expanded(name), int(number)
    if not is_there(path):
        msg = (
            f"--references video:{argument}: {path} does not exist; write it like video:other.mp4 or video:other.mp4@3"
        )
        raise ConfigError(msg)
    return VideoMaker(path, offset)


def _small(image: Tensor, size: torch.Size | None = None) -> Tensor:
    """Grey, without its mean and at one contrast, so that tools that brighten do not disturb."""
    if size is None:
        factor = max(1.0, max(image.shape[-2:]) / _SMALL_SIDE)
        size = torch.Size(max(2, round(side / factor)) for side in image.shape[-2:])
    grey = resize_image(image, (size[0], size[1])).mean(0, keepdim=True)
    return (grey - grey.mean()) / (grey.std() + 1e-3)


def _sampled(path: Path) -> str:
    """Hash of parts of a file spread over it, remembered until it is another one."""
    return _parts_digest(path, file_state(path))


@lru_cache(maxsize=16)
def _parts_digest(path: Path, state: tuple[int, ...]) -> str:
    # Films are too large to be read whole for a name.
    size = state[1]
    digest = hashlib.sha256(str(size).encode())
    for part in spread_parts(path, size, _SAMPLES, _SAMPLE_BYTES):
        digest.update(part)
    return digest.hexdigest()
