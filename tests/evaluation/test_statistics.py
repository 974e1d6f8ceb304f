"""Intervals and p-values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import permutation_test

from sparkvsr.evaluation.statistics import bootstrap_interval, compare_paired


def test_the_interval_is_seeded_and_covers_the_mean() -> None:
    values = [30.1, 31.2, 28.4, 29.9, 33.0]
    low, high = bootstrap_interval(values) or (0, 0)
    assert low < np.mean(values) < high
    assert min(values) <= low
    assert (low, high) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != (low, high)
    assert bootstrap_interval([1.0]) is None


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(60):
        low, high = bootstrap_interval(list(rng.normal(5, 1, 30))) or (0, 0)
        hits += low <= 5 <= high
    assert hits >= 51


def test_p_equals_scipy_for_few_clips() -> None:
    rng = np.random.default_rng(0)
    first = rng.normal(30, 2, 7)
    second = first + rng.normal(0.3, 0.4, 7)
    reference = permutation_test(
        (second, first), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=np.inf
    )
    result = compare_paired(list(first), list(second))
    assert result is not None
    assert result.p_value == pytest.approx(reference.pvalue)
    assert result.difference == pytest.approx(np.mean(second - first))
    assert result.smallest_p == 2**-6


def test_many_clips_are_drawn_and_never_give_zero() -> None:
    first = list(np.arange(30.0))
    result = compare_paired(first, [value + 1 for value in first])
    assert result is not None
    assert 0 < result.p_value < 0.001  # type: ignore[operator]


def test_no_difference_and_few_clips() -> None:
    same = compare_paired([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert same is not None
    assert same.p_value == 1
    one = compare_paired([1.0], [2.0])
    assert one is not None
    assert (one.p_value, one.interval, one.difference) == (None, None, 1.0)
    assert compare_paired([], []) is None
