"""Film that was stretched to television's rate without a flag (hard telecine): told from the frames themselves.

3:2 pulldown makes five frames of four: either one frame of five repeats the one before, or two neighbours of five mix
the fields of two film frames. Neither is restored well: a repeat stutters, a mixed frame shows combs.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from torch import Tensor

PERIOD = 5
COLUMNS = 64
"""So many columns of a frame are looked at, all rows."""

LEAST_PERIODS = 6
STEADY = 0.8
"""Share of the steps from hit to hit that have to be one period."""

COVERED = 0.5
"""Share of the clip that lies in such steps."""

_REPEAT = 0.25
"""A repeat changes less than this share of what its neighbours change."""
_COMB = 1.25
"""How much rougher from row to row a mixed frame is than those around it."""
_LEAST_CHANGE = 0.5 / 255


class Cadence:
    """Looks at each frame of a clip once; eight bytes a frame are kept."""

    def __init__(self) -> None:
        self._before: np.ndarray | None = None
        self._changes = array("f")
        self._roughness = array("f")

    def see(self, pixels: Tensor) -> None:
        """Take the next frame, ``(3, h, w)`` float in [0, 1]."""
        rows = pixels[1, :, :: max(1, pixels.shape[-1] // COLUMNS)].numpy().astype(np.float32)
        before = self._before
        if before is None or before.shape != rows.shape:
            self._changes.append(0.0)
        else:
            self._changes.append(float(np.abs(rows - before).mean()))
        inner = rows[1:-1] - (rows[:-2] + rows[2:]) / 2
        steps = np.abs(rows[:-2] - rows[2:])
        self._roughness.append(float(np.abs(inner).mean() / (steps.mean() + 1e-4)) if len(rows) > 2 else 0.0)
        self._before = rows

    def note(self) -> str | None:
        """What is odd about the clip's frames, for the user; None where nothing is."""
        remedy = "undo it first: ffmpeg -i IN -vf fieldmatch,decimate OUT"
        if _is_steady(_starts(self._repeats(), 1), len(self._changes)):
            return f"every 5th frame repeats the one before (film at 24 in 30 frames a second); {remedy}"
        if _is_steady(_starts(self._mixed(), 2), len(self._changes)):
            return f"2 of 5 frames mix the fields of two film frames (hard telecine) and show combs; {remedy}"
        return None

    def _repeats(self) -> list[bool]:
        changes = np.asarray(self._changes)
        found = [False] * len(changes)
        for k in range(1, len(changes)):
            around = np.concatenate([changes[max(1, k - 4) : k], changes[k + 1 : k + 5]])
            usual = float(np.median(around)) if len(around) else 0.0
            found[k] = usual > _LEAST_CHANGE and changes[k] < _REPEAT * usual
        return found

    def _mixed(self) -> list[bool]:
        rough = np.asarray(self._roughness)
        usual = [float(np.median(rough[max(0, k - 4) : k + 5])) for k in range(len(rough))]
        return [value > _COMB * median for value, median in zip(rough, usual, strict=True)]


def _starts(hits: Sequence[bool], length: int) -> list[int]:
    """Where runs of exactly so many hits begin."""
    edges = [-1, *(k for k in range(len(hits)) if not hits[k]), len(hits)]
    return [a + 1 for a, b in pairwise(edges) if b - a - 1 == length]


def _is_steady(starts: Sequence[int], count: int) -> bool:
    gaps = [b - a for a, b in pairwise(starts)]
    right = gaps.count(PERIOD)
    return right >= LEAST_PERIODS and right >= STEADY * len(gaps) and right * PERIOD >= COVERED * count
