"""How sure a mean over a few clips is, and whether two runs differ.

Frames of one clip are not independent, so clips are the unit of every statement here.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 10_000
_EXACT_UP_TO = 16


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float] | None:
    """Percentile bootstrap interval of the mean over clips.

    Args:
        values: one per clip.
        level: coverage.
        seed: the same values give the same interval.

    Returns:
        Low and high end, or None for fewer than two clips. With a handful of clips it is too narrow; it says how
        much the mean depends on which clips were in the set, no more.
    """
    if len(values) < 2:
        return None
    data = np.asarray(values, dtype=np.float64)
    picks = np.random.default_rng(seed).integers(0, len(data), size=(RESAMPLES, len(data)))
    means = data[picks].mean(axis=1)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return float(low), float(high)


@dataclass(frozen=True)
class PairedComparison:
    """Two runs over the same clips.

    Attributes:
        difference: mean over clips of (second - first).
        interval: 95% bootstrap interval of it, None for one clip.
        p_value: two-sided, of a sign-flip permutation test; None for one clip.
        smallest_p: the smallest p that this many clips can give; above 0.05 nothing can be shown.
        clips: number of clips that both runs scored.
    """

    difference: float
    interval: tuple[float, float] | None
    p_value: float | None
    smallest_p: float
    clips: int


def compare_paired(first: Sequence[float], second: Sequence[float], seed: int = 0) -> PairedComparison | None:
    """Compare two runs clip by clip.

    Under "no difference" the sign of each clip's difference is arbitrary; p is the share of sign patterns whose mean
    is at least as far from zero as the observed one (all patterns up to 16 clips, 10 000 drawn ones above).

    Args:
        first, second: one value per clip, in the same order.

    Returns:
        None without clips.
    """
    differences = np.asarray(second, dtype=np.float64) - np.asarray(first, dtype=np.float64)
    count = len(differences)
    if count == 0:
        return None
    observed = float(differences.mean())
    if count == 1:
        return PairedComparison(observed, None, None, 1.0, 1)
    if count <= _EXACT_UP_TO:
        signs = np.array(list(itertools.product((1, -1), repeat=count)), dtype=np.float64)
        added = 0
    else:
        signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(RESAMPLES, count))
        # The observed pattern belongs to the set, otherwise p could be 0.
        added = 1
    means = np.abs(signs @ differences) / count
    tolerance = 1e-12 * max(1.0, float(np.abs(differences).max()))
    extreme = int(np.count_nonzero(means >= abs(observed) - tolerance)) + added
    p_value = extreme / (len(signs) + added)
    smallest = 2.0 ** (1 - count) if count <= _EXACT_UP_TO else 1 / (RESAMPLES + 1)
    return PairedComparison(observed, bootstrap_interval(list(differences), seed=seed), p_value, smallest, count)
