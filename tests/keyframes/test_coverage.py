"""Where the model's own keyframes go: calm, lost motion, cuts, and between those that somebody chose."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.coverage import FARTHEST, NEAREST, Coverage, with_own_keyframes
from sparkvsr.keyframes.makers.interface import ReferenceMaker
from sparkvsr.keyframes.makers.mixed import MixedMaker
from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP, Selection, Shot


def scene(seed: int) -> torch.Tensor:
    """A rough picture, ``(3, 64, 96)``."""
    rough = torch.from_numpy(np.random.default_rng(seed).random((1, 3, 16, 24), np.float32))
    return torch.nn.functional.interpolate(rough, size=(64, 96), mode="bicubic")[0].clamp(0, 1)


def wanted(frames: list[torch.Tensor]) -> list[int]:
    coverage = Coverage()
    for frame in frames:
        coverage.take(frame)
    return coverage.wanted


def test_a_calm_clip_gets_few_keyframes() -> None:
    assert wanted([scene(0)] * 40) == [0, FARTHEST, 2 * FARTHEST]


def test_lost_motion_gets_more_but_no_more_than_the_budget() -> None:
    """Every frame shares little with the one before."""
    frames = [0.55 * scene(0) + 0.45 * scene(index + 1) for index in range(40)]
    places = wanted(frames)
    assert all(right - left == NEAREST for left, right in pairwise(places))


def test_light_that_changes_needs_none() -> None:
    assert wanted([scene(0) * (0.6 + 0.4 * (index % 2)) for index in range(FARTHEST)]) == [0]


def test_a_cut_gets_one_at_once() -> None:
    assert wanted([scene(0)] * 5 + [scene(1)] * 4) == [0, 5]


@pytest.mark.parametrize("chosen", [(), (0, 30), (7,), (40, 44, 99)])
@pytest.mark.parametrize("cuts", [(), (50,)])
def test_no_frame_is_far_from_a_keyframe(chosen: tuple[int, ...], cuts: tuple[int, ...]) -> None:
    bounds = [0, *cuts, 100]
    shots = [Shot(a, b) for a, b in pairwise(bounds)]
    selection, added = with_own_keyframes(Selection(chosen, (), "as given"), shots, [0, 16, 24, 40, 56, 64, 80, 96])
    assert set(chosen) <= set(selection.indices)
    assert added == len(selection.indices) - len(chosen)
    for shot in shots:
        inside = [index for index in selection.indices if index in shot]
        assert inside[0] - shot.start < MIN_KEYFRAME_GAP
        assert shot.stop - 1 - inside[-1] <= FARTHEST // 2
        for left, right in pairwise(inside):
            assert right - left <= FARTHEST
            assert right - left >= MIN_KEYFRAME_GAP or {left, right} <= set(chosen)


@pytest.mark.parametrize("chosen", [(0, 8, 16, 24), (3,), (1, 2, 20)])
def test_weak_keyframes_get_others_beside_them(chosen: tuple[int, ...]) -> None:
    plain, _ = with_own_keyframes(Selection(()), [Shot(0, 40)], [0, 16, 32])
    full, added = with_own_keyframes(Selection(chosen), [Shot(0, 40)], [0, 16, 32], weak={*chosen, 16})
    ours = sorted(set(full.indices) - set(chosen))
    assert added == len(ours) == len(plain.indices)
    assert all(abs(a - b) <= 1 for a, b in zip(ours, plain.indices, strict=True))
    strong, _ = with_own_keyframes(Selection(chosen), [Shot(0, 40)], [0, 16, 32], weak={17})
    assert strong == with_own_keyframes(Selection(chosen), [Shot(0, 40)], [0, 16, 32])[0]
    # Nothing is left to put one on.
    assert with_own_keyframes(Selection((0, 1)), [Shot(0, 2)], [0], weak={0, 1})[1] == 0


def test_nothing_to_add_leaves_the_selection_as_it_is() -> None:
    chosen = Selection((0, 8), (), "as given")
    assert with_own_keyframes(chosen, [Shot(0, 10)], [0, 8]) == (chosen, 0)


def test_auto_is_a_choice() -> None:
    choice = KeyframeChoice.parse("auto")
    selection = choice.select([Shot(0, 40)], lambda: [0], 0)
    full, added = with_own_keyframes(selection, [Shot(0, 40)], [0, 16, 32])
    assert full.indices == (0, 16, 32)
    assert added == 3
    assert full.method.startswith("auto")


class Flat(ReferenceMaker):
    def __init__(self, name: str, value: float) -> None:
        self.name, self._value = name, value

    def make(self, lr: torch.Tensor, size: tuple[int, int], index: int = 0) -> torch.Tensor:
        return torch.full((3, *size), self._value)


def test_two_makers_as_one() -> None:
    maker = MixedMaker(Flat("theirs", 0.2), Flat("ours", 0.8), (4, 8))
    values = [float(maker.make(torch.zeros(3, 2, 2), (4, 4), index).mean()) for index in (0, 4, 6, 8)]
    assert values == pytest.approx([0.2, 0.8, 0.2, 0.8])
    assert maker.identity(0) == "theirs"
    assert maker.identity(4) == "own ours"
    assert "theirs" in maker.name
    assert "ours" in maker.name
