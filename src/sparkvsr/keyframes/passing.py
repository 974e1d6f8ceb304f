"""The keyframes of one shot, decided while its frames pass: what ``select`` and ``coverage`` give for a whole clip.

Every rule looks only a little ahead: a keyframe moves off a bad frame to one close by, the gap between two keyframes is
filled once both are known. So the beginning of the list is final long before the shot has ended, and equal to that of
the whole clip. The one exception: off a bad frame a keyframe is moved by at most `SEARCH` frames here.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from sparkvsr.keyframes.coverage import FARTHEST, NEAR_STEPS, NEAREST
from sparkvsr.keyframes.frame_watch import NEIGHBOURS
from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP, Selection, off_bad_frames
from sparkvsr.keyframes.shots import Shot

SEARCH = 24
"""How far from a bad frame a better one is looked for."""

_REMEMBERED = 64


@dataclass(frozen=True)
class Horizon:
    """What is known of the clip so far.

    Attributes:
        frontier: every cut below it is known.
        seen: frames below it were looked at for motion.
        judged: frames below it can be asked for in ``is_bad``; None where no frame is bad.
        wanted: where the motion asks for a keyframe, rising, all below ``seen``.
        is_bad: of a frame and the known frames of its shot.
    """

    frontier: int
    seen: int
    judged: int | None
    wanted: Sequence[int]
    is_bad: Callable[[int, range], bool]


class ShotPlacement:
    """The keyframes of one shot.

    Args:
        start: its first frame.
        candidates: chosen frames from ``start`` on, rising; may go on behind the shot, and without an end.
        moves: whether chosen frames are moved off bad ones.
        fills: whether keyframes are added by the motion, so that no gap is long.
        weak: see ``coverage.with_own_keyframes``.

    Attributes:
        stop: behind its last frame, once known.
        keyframes: final, rising.
        given: those of them that were chosen.
        until: no keyframe below it will be added any more.
        dropped, moved: what became of chosen frames on bad ones.
    """

    def __init__(
        self, start: int, candidates: Iterator[int], *, moves: bool, fills: bool, weak: Collection[int] = ()
    ) -> None:
        self.start = start
        self.stop: int | None = None
        self.keyframes: list[int] = []
        self.given: set[int] = set()
        self.until = start
        self.dropped: list[int] = []
        self.moved: list[tuple[int, int]] = []
        self._candidates = candidates
        self._candidate = next(candidates, None)
        self._moves, self._fills = moves, fills
        self._weak = weak
        self._chosen: list[int] = []
        self._marks: list[int] = []
        self._is_begun = False
        self._wanted_done = start
        self._filled = 0
        self._horizon: Horizon | None = None

    @property
    def is_complete(self) -> bool:
        """Whether all its keyframes are known."""
        return self.stop is not None and self.until >= self.stop

    def advance(self, horizon: Horizon) -> None:
        """Decide what can be decided now."""
        self._horizon = horizon
        end = self.stop if self.stop is not None else horizon.frontier
        judged = end
        if self._moves and horizon.judged is not None:
            judged = min(horizon.judged, end if self.stop is not None else end - NEIGHBOURS)
        settled = self._choose(end, judged)
        if not self._fills:
            place = bisect_left(self._chosen, settled)
            self._finish(self._chosen[:place])
            del self._chosen[:place]
            self.until = max(self.until, settled)
            return
        settled = self._follow(end, judged, settled)
        self._fill(settled)

    def _is_bad(self, index: int) -> bool:
        assert self._horizon is not None
        if not self._moves or self._horizon.judged is None:
            return False
        return self._horizon.is_bad(index, range(self.start, self.stop or self._horizon.frontier))

    def _choose(self, end: int, judged: int) -> int:
        """Take over chosen frames; returns the frame below which all of them are known."""
        while (index := self._candidate) is not None and index < end:
            if judged <= index:
                break
            if self._is_bad(index):
                if judged < min(index + SEARCH + 1, self.stop or index + SEARCH + 1):
                    break
                self._move(index, judged)
            else:
                self._take(index)
            self._candidate = next(self._candidates, None)
        if self._candidate is None or (self.stop is not None and self._candidate >= self.stop):
            return end
        return min(end, self._candidate - SEARCH if self._moves else self._candidate)

    def _take(self, index: int) -> None:
        insort(self._chosen, index)
        if index not in self._weak:
            insort(self._marks, index)
        self.given.add(index)

    def _move(self, index: int, judged: int) -> None:
        """A chosen frame is bad: take a good one close by, if there is one at the least distance from the others."""
        room = Shot(max(self.start, index - SEARCH), min(index + SEARCH + 1, self.stop or index + SEARCH + 1))
        bad = {other for other in range(room.start, min(room.stop, judged)) if self._is_bad(other)}
        others = [other for other in sorted(self.given) if room.start - MIN_KEYFRAME_GAP < other]
        others += [other for other in self._coming(room.stop + MIN_KEYFRAME_GAP) if other not in bad]
        wide = Shot(min([room.start, *others]), max([room.stop, *(other + 1 for other in others)]))
        bad |= {other for other in range(wide.start, wide.stop) if not room.start <= other < room.stop}
        chosen = Selection(tuple(sorted({index, *others})))
        result = off_bad_frames(chosen, [wide], bad.difference(others) | {index})
        if result.moved:
            self.moved += result.moved
            self._take(result.moved[0][1])
        elif result.dropped or self.given:
            self.dropped.append(index)
        else:
            self._take(index)

    def _coming(self, stop: int) -> list[int]:
        """Candidates behind the current one; they are looked at, not taken."""
        if self._candidate is None:
            return []
        ahead: list[int] = []
        for index in self._candidates:
            ahead.append(index)
            if index >= stop:
                break
        rest = self._candidates
        self._candidates = _chain(ahead, rest)
        end = self.stop if self.stop is not None else stop
        return [index for index in ahead if index < min(stop, end)]

    def _follow(self, end: int, judged: int, settled: int) -> int:
        """Add what the motion asks for; returns the frame below which all marks but those that fill gaps are known."""
        horizon = self._horizon
        assert horizon is not None
        last = self.stop if self.stop is not None else end + SEARCH  # no shot ends before what is known of it

        def is_clear(index: int) -> bool:
            return judged >= min(index + 4, last) and settled >= min(index + 2 * MIN_KEYFRAME_GAP, last)

        if not self._is_begun:
            if not is_clear(self.start):
                return self.start
            self._place(self.start)
            self._is_begun = True
        first = bisect_left(horizon.wanted, self._wanted_done)
        pending = horizon.seen
        for index in horizon.wanted[first:]:
            if index >= end or not is_clear(index):
                pending = index
                break
            self._wanted_done = index + 1
            if all(abs(index - mark) >= NEAREST // 2 for mark in self._marks[-_REMEMBERED:]):
                self._place(index)
        pending = min(pending, horizon.seen)
        if self.stop is not None and pending >= self.stop and settled >= self.stop and judged >= self.stop:
            if self._marks and self.stop - 1 - max(self._marks) > FARTHEST // 2:
                self._place(self.stop - 1)
            return self.stop
        # Until the end was looked at, a last keyframe may still come.
        return min(settled, pending - 3, end if self.stop is None else end - 1)

    def _place(self, index: int) -> None:
        self._add(self._marks, index, self._marks[-_REMEMBERED:])

    def _add(self, marks: list[int], index: int, others: Sequence[int]) -> None:
        """Add a keyframe by the motion, where it is far enough from others; off bad frames, and off weak keyframes."""
        end = self.stop
        near = [
            other
            for step in NEAR_STEPS
            if (other := index + step) >= self.start
            and (end is None or other < end)
            and not (other in self._weak and other in self.given)
        ]
        good = [other for other in near if not self._is_bad(other)] or near
        if good and all(abs(good[0] - other) >= MIN_KEYFRAME_GAP for other in others):
            insort(marks, good[0])

    def _fill(self, settled: int) -> None:
        """Fill the gaps between marks below ``settled``, and hand on what is final."""
        known = [mark for mark in self._marks if mark < settled]
        final: list[int] = []
        while self._filled + 1 < len(known):
            left, right = known[self._filled], known[self._filled + 1]
            parts = -(-(right - left) // FARTHEST)
            between: list[int] = []
            for part in range(1, parts):
                index = left + round((right - left) * part / parts)
                self._add(between, index, [*known, *between])
            final += [left, *between, right]
            self._filled += 1
            self.until = right + 1
        if self.stop is not None and settled >= self.stop:
            final += known
            self.until = self.stop
        final += [index for index in self._chosen if index in self._weak and index < self.until]
        self._finish(sorted(final))
        self._chosen = [index for index in self._chosen if index >= self.until]
        # Those far behind decide nothing any more.
        spare = self._filled - _REMEMBERED
        if spare > 0:
            del self._marks[:spare]
            self._filled -= spare

    def _finish(self, indices: Sequence[int]) -> None:
        for index in indices:
            if not self.keyframes or index > self.keyframes[-1]:
                self.keyframes.append(index)

    def forget(self, before: int) -> None:
        """Let go of keyframes long before a frame."""
        place = bisect_left(self.keyframes, before) - _REMEMBERED
        if place > 0:
            self.given.difference_update(self.keyframes[:place])
            del self.keyframes[:place]


def _chain(first: Sequence[int], rest: Iterator[int]) -> Iterator[int]:
    yield from first
    yield from rest
