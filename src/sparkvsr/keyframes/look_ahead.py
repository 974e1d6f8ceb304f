"""Shots and keyframes of a clip that passes once: a little ahead of the frames that are restored.

The same detectors and rules as for a file, fed frame by frame. How far they have to look ahead depends on the picture:
about 20 frames without a doubt about a cut, 100 at most.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Iterator
from itertools import count

from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes import select
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.coverage import Coverage
from sparkvsr.keyframes.cuts import CutFinder
from sparkvsr.keyframes.frame_watch import FrameWatch
from sparkvsr.keyframes.passing import Horizon, ShotPlacement
from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP

_NEEDS_A_FILE = {
    "iframes": "--iframes needs a file: the codec's I-frames are gone when frames pass through a pipe; "
    "take --scenes or --every N",
    "random": "--random needs to know how long the clip is, which a pipe does not say; take --every N or --keyframes",
}
_KEPT = 96


def check_passing(choice: KeyframeChoice) -> KeyframeChoice:
    """What a choice means for a clip that passes once: the default is the first frame of each shot.

    Raises:
        ConfigError: it cannot be made without the whole clip.
        KeyframeError: see ``keyframes.select``.
    """
    if choice.kind in _NEEDS_A_FILE:
        raise ConfigError(_NEEDS_A_FILE[choice.kind])
    # Whether N is too small shows within its first steps; numbers may be any.
    choice.check_early(0, 4 * MIN_KEYFRAME_GAP if choice.kind == "every" else 2**40)
    return KeyframeChoice("scenes") if choice.kind == "default" else choice


def method_of(choice: KeyframeChoice) -> str:
    """How keyframes are chosen, for the user."""
    if choice.kind == "every":
        return f"every {choice.number} frames"
    if choice.kind == "manual":
        return f"by number: {', '.join(map(str, choice.indices[:10]))}" + (", ..." if len(choice.indices) > 10 else "")
    return {"scenes": "shot starts, found as frames pass", "auto": "auto, by the look of the motion"}.get(
        choice.kind, "none (blind)"
    )


class LookAhead:
    """Takes the LR frames in order and says which of them can be restored.

    Args:
        choice: as ``check_passing`` gave it.
        fills: whether keyframes are added by the motion (``own_keyframes.wants_own_keyframes``).
        reach: a keyframe changes no frame more than this many before it.
        first: index of the first frame.
        weak: see ``coverage.with_own_keyframes``.

    Attributes:
        count: frames seen, plus ``first``.
        colour: largest difference between the channels of a pixel so far, 0 to 1.
        is_finished: whether the clip has ended.
        notes: what became of chosen frames, one line each, complete at the end.
    """

    def __init__(
        self, choice: KeyframeChoice, *, fills: bool, reach: int, first: int = 0, weak: Collection[int] = ()
    ) -> None:
        self._choice, self._fills, self._reach, self._first, self._weak = choice, fills, reach, first, weak
        self._cuts = CutFinder()
        self._coverage = Coverage() if fills else None
        self._watch = FrameWatch() if choice.follows_shots else None
        self._wanted: list[int] = []
        self._num_wanted = 0
        self._num_cuts = 0
        self._shots: deque[ShotPlacement] = deque()
        self._dropped: list[int] = []
        self._moved: list[tuple[int, int]] = []
        self.count = first
        self.colour = 0.0
        self.is_finished = False

    @property
    def gives_keyframes(self) -> bool:
        """Whether there may be keyframes at all."""
        return self._choice.kind != "none"

    def push(self, pixels: Tensor) -> None:
        """The next frame, ``(3, h, w)`` float in [0, 1]."""
        self._cuts.push(pixels)
        if self._watch is not None:
            self._watch.see(pixels)
        if self._coverage is not None:
            self._coverage.take(pixels)
        self.colour = max(self.colour, float((pixels.amax(0) - pixels.amin(0)).max()))
        self.count += 1
        self._decide()

    def finish(self) -> None:
        """The clip has ended: everything is known."""
        self._cuts.finish()
        if self._watch is not None:
            self._watch.finish()
        self.is_finished = True
        self._decide()

    def shot_start(self, index: int) -> int:
        """The first frame of the shot that a frame lies in; ``index`` was ready once."""
        return self._shot(index).start

    def shot_stop(self, index: int) -> int | None:
        """Behind the last frame of its shot; None as long as that is not known."""
        return self._shot(index).stop

    def is_complete(self, index: int) -> bool:
        """Whether all keyframes of the shot that a frame lies in are known."""
        return self._shot(index).is_complete

    def is_ready(self, index: int) -> bool:
        """Whether all that decides a frame is known: its shot, and every keyframe that may reach it."""
        if not self._shots or index >= self._frontier:
            return False
        if not self.gives_keyframes:
            return True
        shot = self._shot(index)
        return shot.is_complete or shot.until > index + self._reach

    def keyframes(self, index: int) -> list[int]:
        """The keyframes known so far of the shot that a frame lies in, rising; those long before it may be left out."""
        return self._shot(index).keyframes

    def given(self, index: int) -> set[int]:
        """Those of ``keyframes`` that were chosen, and not added by the motion."""
        return self._shot(index).given

    def forget(self, before: int) -> None:
        """Nothing before this frame is asked for any more."""
        while len(self._shots) > 1 and self._shots[1].start <= before:
            self._tell(self._shots.popleft())
        self._shots[0].forget(before)
        if self._watch is not None:
            self._watch.forget(before - self._first - _KEPT)
        place = bisect_left(self._wanted, before - _KEPT)
        del self._wanted[:place]

    @property
    def notes(self) -> list[str]:
        """What became of chosen frames that are no keyframes."""
        dropped, moved = [*self._dropped], [*self._moved]
        for shot in self._shots:
            dropped, moved = dropped + shot.dropped, moved + shot.moved
        return select.selection_notes(select.Selection((), tuple(dropped), "", tuple(moved)))

    def _tell(self, shot: ShotPlacement) -> None:
        self._dropped = (self._dropped + shot.dropped)[:_KEPT]
        self._moved = (self._moved + shot.moved)[:_KEPT]

    @property
    def _frontier(self) -> int:
        """Every cut below this frame is known."""
        return self._first + self._cuts.known_until + 1

    def _shot(self, index: int) -> ShotPlacement:
        starts = [shot.start for shot in self._shots]
        place = bisect_right(starts, index) - 1
        if place < 0:
            msg = f"frame {index} was let go"
            raise IndexError(msg)
        return self._shots[place]

    def _decide(self) -> None:
        frontier = self._frontier
        if frontier <= self._first:
            return
        if not self._shots:
            self._shots.append(self._placement(self._first))
        known = [self._first + cut for cut in self._cuts.cuts[self._num_cuts :] if self._first + cut < frontier]
        self._num_cuts += len(known)
        for cut in known:
            self._shots[-1].stop = cut
            self._shots.append(self._placement(cut))
        if self.is_finished:
            self._shots[-1].stop = self.count
        if self._coverage is not None:
            self._wanted += [self._first + index for index in self._coverage.wanted[self._num_wanted :]]
            self._num_wanted = len(self._coverage.wanted)
        horizon = Horizon(
            frontier,
            self.count,
            None if self._watch is None else self._first + self._watch.known,
            self._wanted,
            self._is_bad,
        )
        if self.gives_keyframes:
            for shot in self._shots:
                if not shot.is_complete:
                    shot.advance(horizon)

    def _is_bad(self, index: int, inside: range) -> bool:
        assert self._watch is not None
        shifted = range(inside.start - self._first, inside.stop - self._first)
        return self._watch.is_bad(index - self._first, shifted)

    def _placement(self, start: int) -> ShotPlacement:
        return ShotPlacement(
            start, self._candidates(start), moves=self._watch is not None, fills=self._fills, weak=self._weak
        )

    def _candidates(self, start: int) -> Iterator[int]:
        choice = self._choice
        if choice.kind == "scenes":
            return iter([start])
        if choice.kind == "every":
            return count(start + (self._first - start) % choice.number, choice.number)
        if choice.kind == "manual":
            return iter([index for index in choice.indices if index >= start])
        return iter([])
