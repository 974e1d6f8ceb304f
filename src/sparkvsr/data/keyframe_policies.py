"""Which frames of a training clip are keyframes (docs/method.md 4.3). Pure arithmetic on indices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from sparkvsr.errors import ConfigError


class KeyframePolicy(Protocol):
    """Chooses keyframes of one clip."""

    def __call__(
        self, num_frames: int, rng: np.random.Generator, iframe_indices: Sequence[int] | None = None
    ) -> list[int]:
        """Indices in ``[0, num_frames)``, strictly increasing; empty for a blind sample."""


def near_uniform_indices(num_keyframes: int, num_frames: int, min_keyframe_gap: int = 4) -> list[int]:
    """The paper's spacing: frame 0, then ``int(j * (F - 1) / (n - 1))``, each at least the gap after the one before.

    Positions beyond the last frame are capped at it, and what the cap makes equal is kept once.
    """
    if num_keyframes == 1:
        return [0]
    indices = [0]
    for j in range(1, num_keyframes):
        wanted = max(int(j * (num_frames - 1) / (num_keyframes - 1)), indices[-1] + min_keyframe_gap)
        if wanted > num_frames - 1 and num_frames - 1 - indices[-1] < min_keyframe_gap:
            break
        indices.append(min(wanted, num_frames - 1))
    return indices


class PaperPolicy:
    """None with probability ``dropout``, else 1 to ``(F - 1) // gap + 1`` near-uniform keyframes with frame 0.

    Args:
        dropout: share of blind samples, 0 to 1.
        min_keyframe_gap: frames.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(self, dropout: float = 0.1, min_keyframe_gap: int = 4) -> None:
        _check(dropout, min_keyframe_gap)
        self._dropout, self._gap = dropout, min_keyframe_gap

    def __call__(
        self, num_frames: int, rng: np.random.Generator, iframe_indices: Sequence[int] | None = None
    ) -> list[int]:
        """See ``KeyframePolicy``."""
        del iframe_indices
        if rng.random() < self._dropout:
            return []
        most = (num_frames - 1) // self._gap + 1
        return near_uniform_indices(int(rng.integers(1, most + 1)), num_frames, self._gap)


class RandomPolicy:
    """Frame 0 and random others on multiples of ``snap``; the selection the paper names and its code lacks.

    Args:
        dropout: share of blind samples.
        min_keyframe_gap: frames.
        max_keyframes: at most so many.
        snap: positions are multiples of it (4 keeps keyframes on whole latent frames).
    """

    def __init__(self, dropout: float = 0.1, min_keyframe_gap: int = 4, max_keyframes: int = 9, snap: int = 4) -> None:
        _check(dropout, min_keyframe_gap, max_keyframes, snap)
        self._dropout, self._gap, self._most, self._snap = dropout, min_keyframe_gap, max_keyframes, snap

    def __call__(
        self, num_frames: int, rng: np.random.Generator, iframe_indices: Sequence[int] | None = None
    ) -> list[int]:
        """See ``KeyframePolicy``."""
        del iframe_indices
        if rng.random() < self._dropout:
            return []
        places = np.arange(self._snap, num_frames, self._snap)
        wanted = int(rng.integers(1, self._most + 1))
        return _spaced([0, *rng.permutation(places).tolist()], self._gap, wanted)


class AnyPolicy:
    """Keyframes anywhere, not necessarily frame 0: a clip whose only keyframe is its last frame is as likely as any.

    Args:
        dropout: share of blind samples.
        min_keyframe_gap: frames.
        max_keyframes: at most so many.
    """

    def __init__(self, dropout: float = 0.1, min_keyframe_gap: int = 1, max_keyframes: int = 3) -> None:
        _check(dropout, min_keyframe_gap, max_keyframes)
        self._dropout, self._gap, self._most = dropout, min_keyframe_gap, max_keyframes

    def __call__(
        self, num_frames: int, rng: np.random.Generator, iframe_indices: Sequence[int] | None = None
    ) -> list[int]:
        """See ``KeyframePolicy``."""
        del iframe_indices
        if rng.random() < self._dropout:
            return []
        return _spaced(rng.permutation(num_frames).tolist(), self._gap, int(rng.integers(1, self._most + 1)))


class IframePolicy:
    """The file's intra frames; where it has none in the piece, those of an assumed group of pictures.

    Args:
        dropout: share of blind samples.
        min_keyframe_gap: frames; closer intra frames are left out.
        gop_frames: shortest and longest assumed group.
    """

    def __init__(self, dropout: float = 0.1, min_keyframe_gap: int = 4, gop_frames: Sequence[int] = (8, 48)) -> None:
        _check(dropout, min_keyframe_gap, *gop_frames)
        self._dropout, self._gap, self._gop = dropout, min_keyframe_gap, (int(gop_frames[0]), int(gop_frames[1]))

    def __call__(
        self, num_frames: int, rng: np.random.Generator, iframe_indices: Sequence[int] | None = None
    ) -> list[int]:
        """See ``KeyframePolicy``."""
        if rng.random() < self._dropout:
            return []
        length = int(rng.integers(self._gop[0], self._gop[1] + 1))
        assumed = range(int(rng.integers(0, length)), num_frames, length)
        chosen: list[int] = []
        for index in sorted(iframe_indices or assumed):
            if not chosen or index - chosen[-1] >= self._gap:
                chosen.append(index)
        return chosen or [0]


def _spaced(candidates: Sequence[int], gap: int, count: int) -> list[int]:
    chosen: list[int] = []
    for index in candidates:
        if len(chosen) == count:
            break
        if all(abs(index - other) >= gap for other in chosen):
            chosen.append(int(index))
    return sorted(chosen)


def _check(dropout: float, *positive: int) -> None:
    if not 0 <= dropout <= 1:
        msg = f"keyframes.policy.dropout={dropout} must lie between 0 and 1"
        raise ConfigError(msg)
    if any(value < 1 for value in positive):
        msg = f"keyframes.policy: gaps and counts must be at least 1, got {list(positive)}"
        raise ConfigError(msg)
