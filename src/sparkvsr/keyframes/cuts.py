"""Where one shot ends and the next begins: PySceneDetect's adaptive detector, fed by our own reader, and a second look.

Feeding frames instead of a path keeps one decoder for everything (image sequences, rotation, 10 bit), and
lets the same pass count the frames. The detector sees every sudden change; what a flash, a strobe, a fade or a damaged
frame changes is taken back here, where the picture afterwards is that of before (benchmarks/cuts.py measures it).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

if TYPE_CHECKING:
    from scenedetect import FrameTimecode

ANALYSIS_LONG_SIDE = 192
"""Frames are reduced to this long side: cuts are visible there, and a 4K clip costs no more than its decoding."""

MIN_SHOT_FRAMES = 4
"""Shorter shots are flashes; splitting them off would leave nothing to propagate in."""

LOOK_FRAMES = 24
"""How far around a change the same picture is looked for: a blackout or strobe of up to a second."""

NEAR_FLASH_FRAMES = 3
"""How far beside an empty picture a cut is looked for that the detector did not see."""

THUMB_LONG_SIDE = 32
FLAT_SPREAD = 0.02
"""Standard deviation of a thumbnail below which it shows nothing (black, white, a fade's end)."""

_SAME_SHARE = 0.35
"""Two frames are the same picture when they differ by less than this share of the change between them."""
_SAME_CORRELATION = 0.6
_LIT_CORRELATION = 0.85
"""Structure that stays while brightness changes: a flash that does not blind, an exposure change, a fade."""
_MOVED_CORRELATION = 0.9
"""Higher, as many places are tried."""
_OTHER_CORRELATION = 0.5
_OTHER_DISTANCE = 0.05
"""Beside a flash a picture is another one where less of the structure stays and more of the pixels change."""
_RAMP_FRAMES = 3
_RAMP = 0.8

Thumb = NDArray[np.float32]


def detect_cuts(frames: Iterable[Tensor], *, on_frame: Callable[[int], None] | None = None) -> tuple[list[int], int]:
    """Find the hard cuts of a clip in one pass with bounded memory.

    Flashes, strobes, blackouts of up to `LOOK_FRAMES`, fades and single odd frames are no cuts.

    Args:
        frames: ``(3, h, w)`` float in [0, 1] each.
        on_frame: called with the number of frames seen so far.

    Returns:
        The positions of the first frames of new shots within ``frames`` (never 0), and the number of frames.
    """
    finder = CutFinder()
    for pixels in frames:
        finder.push(pixels)
        if on_frame is not None:
            on_frame(finder.count)
    finder.finish()
    return finder.cuts, finder.count


@dataclass(frozen=True, order=True)
class _Change:
    """Where a shot may begin: the detector saw it, or an empty picture begins or ends there and may hide one beside it.

    The detector weighs a change against its neighbours, and those of a flash are larger than any.
    """

    place: int
    is_seen: bool

    @property
    def first(self) -> int:
        """The first frame at which it may find a cut."""
        return self.place if self.is_seen else max(1, self.place - NEAR_FLASH_FRAMES)


class CutFinder:
    """Takes the frames of a clip in order and says where its shots begin, a little later.

    Attributes:
        cuts: positions of the first frames of new shots, never 0. Those up to ``known_until`` stay as they are.
        count: frames seen.
    """

    def __init__(self) -> None:
        from scenedetect import AdaptiveDetector, FrameTimecode

        # Thresholds are the library's own; how short a shot may be is decided after the second look.
        self._detector = AdaptiveDetector(min_scene_len=1)
        self._timecode = FrameTimecode
        self._thumbs: dict[int, Thumb] = {}
        self._waiting: list[_Change] = []
        self._is_finished = False
        self.cuts: list[int] = []
        self.count = 0

    @property
    def known_until(self) -> int:
        """The last frame of which it is known whether a shot begins there; -1 before the first."""
        if self._is_finished:
            return self.count - 1
        # The detector compares a change with those on both sides of it.
        decided = self.count - 1 - max(self._detector.window_width, NEAR_FLASH_FRAMES)
        decided = min([decided, *(one.first - 1 for one in self._waiting)])
        if self.cuts and decided < self.cuts[-1] + MIN_SHOT_FRAMES - 1:
            # Another one close behind it would take its place.
            return self.cuts[-1] - 1
        return max(decided, -1)

    def push(self, pixels: Tensor) -> None:
        """The next frame, ``(3, h, w)`` float in [0, 1]."""
        small = reduced(pixels, ANALYSIS_LONG_SIDE)
        index = self.count
        self.count += 1
        self._thumbs[index] = reduced(small, THUMB_LONG_SIDE).numpy().astype(np.float32)
        bgr = small.flip(0).mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        self._wait_for(self._detector.process_frame(self._timecode(index, fps=25.0), bgr))
        if index and is_flat(self._thumbs[index]) != is_flat(self._thumbs[index - 1]):
            self._waiting.append(_Change(index, is_seen=False))
        self._look_again(is_end=False)

    def finish(self) -> None:
        """The clip has ended: everything is known."""
        if self.count:
            last = self._timecode(self.count - 1, fps=25.0)
            self._wait_for(self._detector.post_process(last))
        self._look_again(is_end=True)
        self._is_finished = True

    def _wait_for(self, found: Sequence[FrameTimecode]) -> None:
        self._waiting += [_Change(one.frame_num, is_seen=True) for one in found]

    def _look_again(self, *, is_end: bool) -> None:
        while due := [one for one in self._waiting if is_end or one.place + LOOK_FRAMES < self.count]:
            change = min(due)
            self._waiting.remove(change)
            surroundings = _Surroundings(self._thumbs)
            if change.is_seen:
                is_new = 0 < change.place < self.count and surroundings.is_cut(change.place)
                found = change.place if is_new else None
            else:
                near = range(change.first, change.place + NEAR_FLASH_FRAMES + 1)
                found = next(filter(surroundings.is_hidden_cut, near), None)
            if found is not None and found not in self.cuts:
                self._keep(found)
        oldest = min([self.count, *(one.first for one in self._waiting)]) - 2 * LOOK_FRAMES
        for index in [index for index in self._thumbs if index < oldest]:
            del self._thumbs[index]

    def _keep(self, cut: int) -> None:
        """Leave shots to propagate in; of two that are too close the later one begins the longer shot."""
        if cut < MIN_SHOT_FRAMES:
            return
        if self.cuts and cut - self.cuts[-1] < MIN_SHOT_FRAMES:
            self.cuts.pop()
        self.cuts.append(cut)


class _Surroundings:
    """The thumbnails around a change. Each frame and each pair is judged once, as the same ones are asked for often.

    Args:
        thumbs: ``(3, h, w)`` thumbnails by frame, up to `LOOK_FRAMES` on both sides of the change.
    """

    def __init__(self, thumbs: dict[int, Thumb]) -> None:
        self._thumbs = thumbs
        self._centred: dict[int, tuple[Thumb, float]] = {}
        self._flat: dict[int, bool] = {}
        self._lit_alike: dict[tuple[int, int], bool] = {}

    def is_cut(self, candidate: int) -> bool:
        """Whether a sudden change, whose first frame is ``candidate``, is the beginning of another shot."""
        before = candidate - 1
        if self._is_lit_as(before, candidate) or _is_fade(candidate, self._thumbs):
            return False
        jump = _distance(self._thumbs[before], self._thumbs[candidate])
        return not self._is_back_later(candidate, jump)

    def _is_back_later(self, candidate: int, jump: float, *, is_shown: bool = False) -> bool:
        """Whether a picture of before the change is there again after it; ``is_shown``: one that shows something."""
        for start in range(candidate - 1, candidate - LOOK_FRAMES - 1, -1):
            for stop in range(candidate, min(candidate + LOOK_FRAMES, start + LOOK_FRAMES + 1)):
                if stop - start < 2 or start not in self._thumbs or stop not in self._thumbs:
                    continue
                if is_shown and self._is_empty(start):
                    continue
                if self._is_passing(start, stop) and self._is_same(start, stop, jump):
                    return True
        return False

    def is_hidden_cut(self, candidate: int) -> bool:
        """`is_cut` for a frame at which the detector saw nothing: a different picture, not one that moved on."""
        near = range(candidate - 1, candidate - MIN_SHOT_FRAMES - 1, -1)
        before = next((k for k in near if k in self._thumbs and not self._is_empty(k)), None)
        if before is None or candidate not in self._thumbs or self._is_empty(candidate):
            return False
        is_other = self._correlated(before, candidate) < _OTHER_CORRELATION
        jump = _distance(self._thumbs[before], self._thumbs[candidate])
        if not is_other or jump < _OTHER_DISTANCE or _is_fade(candidate, self._thumbs):
            return False
        return not self._is_back_later(candidate, jump, is_shown=True)

    def _is_passing(self, start: int, stop: int) -> bool:
        """Whether the frames between two are no shot of their own: few, empty, or one of the two in another light."""
        between = [k for k in range(start + 1, stop) if k in self._thumbs]
        if len(between) < MIN_SHOT_FRAMES:
            return True
        return all(self._is_empty(k) or self._is_lit_as(start, k) or self._is_lit_as(stop, k) for k in between)

    def _is_same(self, start: int, stop: int, jump: float) -> bool:
        one, other = self._thumbs[start], self._thumbs[stop]
        flat = (self._is_empty(start), self._is_empty(stop))
        if all(flat):
            return _distance(one, other) < _SAME_SHARE * jump
        if any(flat):
            return False
        if _distance(one, other) < _SAME_SHARE * jump and self._correlated(start, stop) > _SAME_CORRELATION:
            return True
        return _is_moved(one, other, jump)

    def _is_empty(self, index: int) -> bool:
        if index not in self._flat:
            self._flat[index] = is_flat(self._thumbs[index])
        return self._flat[index]

    def _is_lit_as(self, one: int, other: int) -> bool:
        """Whether two frames show the same structure, whatever their brightness."""
        if (one, other) not in self._lit_alike:
            is_seen = not self._is_empty(one) and not self._is_empty(other)
            self._lit_alike[one, other] = is_seen and self._correlated(one, other) > _LIT_CORRELATION
        return self._lit_alike[one, other]

    def _correlated(self, one: int, other: int) -> float:
        x, x_norm = self._of(one)
        y, y_norm = self._of(other)
        return float((x * y).sum()) / (x_norm * y_norm) if x_norm * y_norm > 0 else 0.0

    def _of(self, index: int) -> tuple[Thumb, float]:
        if index not in self._centred:
            luma = _luma(self._thumbs[index])
            centred = luma - luma.mean()
            self._centred[index] = centred, float(np.sqrt((centred * centred).sum()))
        return self._centred[index]


def is_flat(thumb: Thumb) -> bool:
    """Whether a picture shows nothing."""
    return float(_luma(thumb).std()) < FLAT_SPREAD


def _is_moved(one: Thumb, other: Thumb, jump: float) -> bool:
    """Whether the same scene went on moving while nothing was to be seen: the same picture at another place."""
    height, width = one.shape[-2:]
    for down in range(-(height // 4), height // 4 + 1):
        for right in range(-(width // 4), width // 4 + 1):
            rows = slice(max(0, down), height + min(0, down)), slice(max(0, -down), height + min(0, -down))
            columns = slice(max(0, right), width + min(0, right)), slice(max(0, -right), width + min(0, -right))
            a, b = one[:, rows[0], columns[0]], other[:, rows[1], columns[1]]
            if _distance(a, b) < _SAME_SHARE * jump and _correlation(a, b) > _MOVED_CORRELATION:
                return True
    return False


def _is_fade(candidate: int, thumbs: dict[int, Thumb]) -> bool:
    """Whether an empty picture turns into one that is still growing, or one that was shrinking into an empty one."""
    for edge, step, empty in ((candidate, 1, candidate - 1), (candidate - 1, -1, candidate)):
        if not is_flat(thumbs[empty]) or is_flat(thumbs[edge]):
            continue
        chain = [thumbs.get(edge + k * step) for k in range(_RAMP_FRAMES + 1)]
        shown = [thumb for thumb in chain if thumb is not None]
        spreads = [float(_luma(thumb).std()) for thumb in shown]
        is_rising = all(a < b for a, b in pairwise(spreads))
        if len(shown) > _RAMP_FRAMES and is_rising and spreads[0] < _RAMP * spreads[-1]:
            return _correlation(shown[0], shown[-1]) > _SAME_CORRELATION
    return False


def reduced(pixels: Tensor, long_side: int) -> Tensor:
    """``(3, h, w)`` in [0, 1] averaged down to a long side; smaller frames as they are."""
    h, w = pixels.shape[-2:]
    factor = max(1.0, max(h, w) / long_side)
    if factor == 1:
        return pixels
    return F.interpolate(pixels[None], size=(max(1, round(h / factor)), max(1, round(w / factor))), mode="area")[0]


def _luma(thumb: Thumb) -> Thumb:
    return np.tensordot(np.array([0.299, 0.587, 0.114], np.float32), thumb, 1)


def _distance(one: Thumb, other: Thumb) -> float:
    return float(np.abs(one - other).mean())


def _correlation(one: Thumb, other: Thumb) -> float:
    x, y = _luma(one), _luma(other)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / norm if norm > 0 else 0.0
