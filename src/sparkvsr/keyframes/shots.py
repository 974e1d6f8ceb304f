"""Shots: the runs of frames between two cuts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class Shot:
    """Frames ``[start, stop)`` between two cuts."""

    start: int
    stop: int

    @property
    def num_frames(self) -> int:
        """Length in frames."""
        return self.stop - self.start

    def __contains__(self, index: object) -> bool:
        """Whether a frame index lies in the shot."""
        return isinstance(index, int) and self.start <= index < self.stop


def shots_from_cuts(cuts: Iterable[int], start: int, stop: int) -> list[Shot]:
    """Split ``[start, stop)`` at the cuts; a cut is the first frame of the new shot."""
    bounds = [start, *sorted({cut for cut in cuts if start < cut < stop}), stop]
    return [Shot(a, b) for a, b in pairwise(bounds)]
