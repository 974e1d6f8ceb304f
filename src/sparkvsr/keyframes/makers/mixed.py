"""Two makers as one: images that somebody gives for some keyframes, and the model's own for those between them."""

from __future__ import annotations

from collections.abc import Collection

from torch import Tensor

from sparkvsr.keyframes.makers.interface import ReferenceMaker


class MixedMaker(ReferenceMaker):
    """Asks one maker for some keyframes and another for the rest.

    Args:
        given: makes all but ``indices``.
        own: makes ``indices``.
        indices: frame indices of the keyframes of the model's own kind.
    """

    def __init__(self, given: ReferenceMaker, own: ReferenceMaker, indices: Collection[int]) -> None:
        self._given = given
        self._own = own
        self._indices = frozenset(indices)
        self.name = f"{given.name}, {own.name} between them"
        self.jobs = given.jobs
        self.may_colour = given.may_colour
        self.holds_images = given.holds_images
        self.covers_clip = given.covers_clip
        self.weights, self.guidance = given.weights, given.guidance

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        return self._of(index).make(lr, size, index)

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``."""
        return f"{'own ' if index in self._indices else ''}{self._of(index).identity(index)}"

    def close(self) -> None:
        """See ``ReferenceMaker.close``."""
        self._given.close()
        self._own.close()

    def _of(self, index: int) -> ReferenceMaker:
        return self._own if index in self._indices else self._given
