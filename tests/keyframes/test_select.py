"""Keyframe selection is arithmetic: every rule is checked over many sizes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes import select
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP
from sparkvsr.keyframes.shots import Shot, shots_from_cuts


def test_shots_cover_the_clip_without_overlap() -> None:
    shots = shots_from_cuts([10, 25, 25, 3], 5, 30)
    assert shots == [Shot(5, 10), Shot(10, 25), Shot(25, 30)]


def test_manual_keyframes_are_sorted_and_kept() -> None:
    assert select.manual([96, 0, 48], 0, 100).indices == (0, 48, 96)


@pytest.mark.parametrize(
    ("indices", "words"),
    [([0, 100], "outside the clip"), ([-1], "outside"), ([7, 7], "given twice"), ([0, 3], "at least 4")],
)
def test_bad_manual_keyframes_are_refused(indices: list[int], words: str) -> None:
    with pytest.raises(KeyframeError, match=words):
        select.manual(indices, 0, 100)


def test_all_intra_clip_keeps_every_fourth_frame_and_says_what_was_dropped() -> None:
    selection = select.iframes(range(10), [Shot(0, 10)])
    assert selection.indices == (0, 4, 8)
    assert selection.dropped == (1, 2, 3, 5, 6, 7, 9)


def test_shot_starts_win_over_close_iframes_and_cuts_separate() -> None:
    shots = [Shot(0, 20), Shot(20, 40)]
    selection = select.iframes_and_scenes([0, 18, 22], shots)
    assert selection.indices == (0, 18, 20)  # 18 and 20 lie on both sides of the cut
    assert selection.dropped == (22,)


def test_every_counts_from_the_first_frame() -> None:
    assert select.every(24, [Shot(10, 80)]).indices == (10, 34, 58)
    with pytest.raises(ConfigError, match="--every 3"):
        select.every(3, [Shot(0, 80)])


@pytest.mark.parametrize("num_frames", [1, 4, 5, 13, 100])
def test_random_frames_are_apart_and_repeatable(num_frames: int) -> None:
    room = (num_frames - 1) // MIN_KEYFRAME_GAP + 1
    for count in range(1, room + 1):
        shots = [Shot(7, 7 + num_frames)]
        drawn = select.random_frames(count, shots, seed=count).indices
        assert drawn == select.random_frames(count, shots, seed=count).indices
        assert len(drawn) == count
        assert all(7 <= index < 7 + num_frames for index in drawn)
        assert all(b - a >= MIN_KEYFRAME_GAP for a, b in pairwise(drawn))


def test_random_reaches_every_frame() -> None:
    seen = {select.random_frames(1, [Shot(0, 9)], seed).indices[0] for seed in range(200)}
    assert seen == set(range(9))


def test_too_many_random_frames_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 to 3 keyframes"):
        select.random_frames(4, [Shot(0, 10)], 0)


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        (None, KeyframeChoice()),
        ("iframes", KeyframeChoice("iframes")),
        ("every:24", KeyframeChoice("every", number=24)),
        ("0,48", KeyframeChoice("manual", indices=(0, 48))),
        ([0, 48], KeyframeChoice("manual", indices=(0, 48))),
        ([], KeyframeChoice("none")),
    ],
)
def test_choices_are_parsed(text: object, choice: KeyframeChoice) -> None:
    assert KeyframeChoice.parse(text) == choice  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["often", "every:x", "0,a", "random"])
def test_unknown_choices_are_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        KeyframeChoice.parse(text)


def test_iframes_are_read_only_where_they_are_needed() -> None:
    def never() -> list[int]:
        pytest.fail("I-frames were read")

    assert KeyframeChoice("scenes").select([Shot(0, 9), Shot(9, 20)], never, 0).indices == (0, 9)
    assert KeyframeChoice("none").select([Shot(0, 9)], never, 0).indices == ()


def test_keyframes_are_moved_to_the_multiples_of_their_shot_unless_the_user_fixed_them() -> None:
    shots = [Shot(0, 50), Shot(50, 90)]
    moved = KeyframeChoice("iframes").select(shots, lambda: [0, 7, 50, 61], 0, multiple=4)
    assert moved.indices == (0, 4, 50, 58)
    assert "moved back" in moved.method
    fixed = KeyframeChoice("manual", indices=(7, 61)).select(shots, lambda: [], 0, multiple=4)
    assert fixed.indices == (7, 61)
