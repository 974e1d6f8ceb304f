"""Is the restored clip where the ground truth is? Whole pixels and one frame off, found before numbers are believed.

A picture that lies one pixel to the side, or one frame late, costs many dB and says nothing about its quality;
published tables were wrong for want of this check. Every full-reference run is checked, scored as it is, and told.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import cv2
import numpy as np

from sparkvsr.evaluation.frames import FrameClip
from sparkvsr.metrics.colour import Image8, luma_bt601

MAX_SHIFT_PX = 4
MIN_GAIN_DB = 1.0
"""A shift is told when the luma PSNR of the sampled frames rises by this much: noise and coding gain nothing so."""

NUM_SAMPLES = 8
_WINDOW_PX = 768
"""Side of the middle part that is looked at; a shift moves all of the picture."""
_MIN_SIDE_PX = 24
_CAP_DB = 80.0
_EQUAL_DB = 1.0


@dataclass(frozen=True, order=True)
class Shift:
    """Where the restored picture lies against the ground truth.

    Attributes:
        frames: how many frames late it is (-1: one early).
        right, down: pixels.
    """

    frames: int = 0
    right: int = 0
    down: int = 0

    def __str__(self) -> str:
        parts = []
        if self.right:
            parts.append(f"{abs(self.right)} px to the {'right' if self.right > 0 else 'left'}")
        if self.down:
            parts.append(f"{abs(self.down)} px {'down' if self.down > 0 else 'up'}")
        if self.frames:
            parts.append(f"{abs(self.frames)} frame {'late' if self.frames > 0 else 'early'}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Misalignment:
    """A shift that was found.

    Attributes:
        shift: the shift.
        before, after: luma PSNR in dB of the sampled frames as they are, and with the shift taken back.
    """

    shift: Shift
    before: float
    after: float

    def note(self, *, is_applied: bool = False) -> str:
        """One line for the user."""
        scores = f"luma PSNR of sampled frames {self.before:.2f} dB as it is, {self.after:.2f} dB after it"
        if is_applied:
            return f"ALIGNED: the restored clip lay {self.shift} of the ground truth, which was taken back ({scores})"
        return f"MISALIGNED: the restored clip lies {self.shift} of the ground truth ({scores}); --align takes it back"


class AlignmentCheck:
    """Looks at a few frames of a pair of clips as they pass.

    Args:
        num_frames: of the clips; the samples are spread over them.
    """

    def __init__(self, num_frames: int) -> None:
        last = max(0, num_frames - 2)
        self._wanted = {round(k * last / (NUM_SAMPLES - 1)) for k in range(NUM_SAMPLES)} | {min(1, last)}
        self._recent: deque[tuple[Image8, Image8]] = deque(maxlen=3)
        self._index = -1
        self._votes: list[dict[Shift, float]] = []

    def see(self, sr: Image8, gt: Image8) -> None:
        """Take the next frame of both, ``(H, W, 3)`` uint8 of one size."""
        self._index += 1
        self._recent.append((sr, gt))
        middle = self._index - 1
        if middle in self._wanted and len(self._recent) > 1:
            self._sample(len(self._recent) - 2)

    def result(self) -> Misalignment | None:
        """What was found, None when the clips lie on each other or cannot be compared."""
        if not self._votes and len(self._recent) == 1:
            self._sample(0)
        told = [scores for scores in self._votes if len(scores) > 1]
        best = [_simplest(scores) for scores in told]
        if not best:
            return None
        shift, count = Counter(best).most_common(1)[0]
        if shift == Shift() or 2 * count <= len(self._votes):
            return None
        pairs = [(scores[Shift()], scores[shift]) for scores in told if shift in scores]
        before, after = (float(np.mean([pair[side] for pair in pairs])) for side in (0, 1))
        return Misalignment(shift, before, after) if after - before >= MIN_GAIN_DB else None

    def _sample(self, place: int) -> None:
        """Compare one restored frame with the ground truth of its moment and of those beside it."""
        sr = _middle(self._recent[place][0])
        scores: dict[Shift, float] = {}
        for other in range(len(self._recent)):
            gt = _middle(self._recent[other][1])
            late = place - other
            places = {(0, 0), _found_shift(gt, sr)}
            for right, down in places:
                if max(abs(right), abs(down)) <= MAX_SHIFT_PX:
                    scores[Shift(late, right, down)] = _psnr(gt, sr, right, down)
        self._votes.append(scores)


def find_misalignment(sr: FrameClip, gt: FrameClip) -> Misalignment | None:
    """Read two clips and say how they lie, see ``AlignmentCheck``."""
    check = AlignmentCheck(min(sr.num_frames, gt.num_frames))
    for one, other in zip(sr.frames(), gt.frames(), strict=False):
        if one.shape != other.shape:
            return None
        check.see(one, other)
    return check.result()


def aligned(sr: FrameClip, gt: FrameClip, shift: Shift) -> tuple[FrameClip, FrameClip]:
    """Both clips cut to what they have in common when the shift is taken back."""
    height, width = sr.size
    size = (height - abs(shift.down), width - abs(shift.right))
    count = min(sr.num_frames, gt.num_frames) - abs(shift.frames)
    skips = (max(0, shift.frames), max(0, -shift.frames))
    corners = (
        (max(0, shift.down), max(0, shift.right)),
        (max(0, -shift.down), max(0, -shift.right)),
    )
    one, other = (
        WindowClip(clip, size, corner, range(skip, skip + count))
        for clip, corner, skip in zip((sr, gt), corners, skips, strict=True)
    )
    return one, other


class WindowClip(FrameClip):
    """Some frames of another clip, cut to a window.

    Args:
        clip: the clip.
        size: ``(H, W)`` to keep.
        corner: ``(top, left)`` of the window.
        positions: frames to keep, rising.
    """

    def __init__(
        self, clip: FrameClip, size: tuple[int, int], corner: tuple[int, int], positions: Iterable[int]
    ) -> None:
        self.name, self.fps = clip.name, clip.fps
        self._clip, self._corner = clip, corner
        self._positions = tuple(positions)
        self.size, self.num_frames = size, len(self._positions)

    def frames(self) -> Iterator[Image8]:
        """See ``FrameClip``: ``(H, W, 3)`` uint8 RGB."""
        top, left = self._corner
        height, width = self.size
        wanted = set(self._positions)
        stop = self._positions[-1] + 1 if self._positions else 0
        for index, frame in enumerate(islice(self._clip.frames(), stop)):
            if index in wanted:
                yield frame[top : top + height, left : left + width].copy()

    def identity(self) -> str:
        """See ``FrameClip``."""
        return f"{self._clip.identity()} window {self.size} {self._corner} {self._positions}"

    def warnings(self) -> list[str]:
        """See ``FrameClip``."""
        return self._clip.warnings()

    def describe(self) -> str:
        """See ``FrameClip``."""
        return self._clip.describe()


def _simplest(scores: dict[Shift, float]) -> Shift:
    """Of the shifts that explain a frame about equally well, the one that assumes least.

    While a camera pans, one frame late and some pixels to the side are the same picture.
    """
    top = max(scores.values())
    near = [shift for shift, score in scores.items() if score > top - _EQUAL_DB]
    return min(near, key=lambda shift: (shift != Shift(), shift.frames != 0, abs(shift.right) + abs(shift.down), shift))


def _middle(frame: Image8) -> np.ndarray:
    """Luma of the middle of a picture, float32."""
    h, w = frame.shape[:2]
    top, left = max(0, (h - _WINDOW_PX) // 2), max(0, (w - _WINDOW_PX) // 2)
    return luma_bt601(frame[top : top + _WINDOW_PX, left : left + _WINDOW_PX]).astype(np.float32)


def _found_shift(gt: np.ndarray, sr: np.ndarray) -> tuple[int, int]:
    """Whole pixels by which ``sr`` lies to the right of and below ``gt``, by phase correlation; 0 without structure."""
    if min(gt.shape) < _MIN_SIDE_PX or gt.std() < 1 or sr.std() < 1:
        return 0, 0
    window = cv2.createHanningWindow((gt.shape[1], gt.shape[0]), cv2.CV_32F)
    # OpenCV puts the window on the arrays that it is given.
    (right, down), _ = cv2.phaseCorrelate(gt.copy(), sr.copy(), window)
    return round(right), round(down)


def _psnr(gt: np.ndarray, sr: np.ndarray, right: int, down: int) -> float:
    """Of the common part, without the border that any of the shifts would lose."""
    margin = MAX_SHIFT_PX if min(gt.shape) > 4 * MAX_SHIFT_PX else 0
    h, w = gt.shape
    if not margin and (right or down):
        return 0.0
    a = gt[margin : h - margin, margin : w - margin]
    b = sr[margin + down : h - margin + down, margin + right : w - margin + right]
    error = float(np.square(a - b).mean())
    return _CAP_DB if error <= 0 else min(_CAP_DB, 10 * float(np.log10(255**2 / error)))
