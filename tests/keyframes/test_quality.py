"""The best frames: blur is seen in every direction, and the choice is fair and always allowed."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes.quality import FLAT_SCORE, best_frames, frame_sharpness, share_out
from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP
from sparkvsr.keyframes.shots import Shot


def texture() -> Tensor:
    return F.interpolate(torch.rand(1, 3, 60, 80), size=(120, 160), mode="bicubic")[0].clamp(0, 1)


def blur(image: Tensor, height: int, width: int) -> Tensor:
    kernel = torch.full((3, 1, height, width), 1 / (height * width))
    return F.conv2d(
        F.pad(image[None], (width // 2, width // 2, height // 2, height // 2), "reflect"), kernel, groups=3
    )[0]


def test_blur_in_any_direction_lowers_the_score() -> None:
    sharp = texture()
    for kernel in ((5, 5), (1, 9), (9, 1)):
        assert frame_sharpness(blur(sharp, *kernel)) < frame_sharpness(sharp) - 0.3
    assert frame_sharpness(blur(sharp, 1, 15)) < frame_sharpness(blur(sharp, 1, 7))


def test_contrast_and_brightness_hardly_matter() -> None:
    sharp = texture()
    assert frame_sharpness(sharp * 0.5 + 0.2) == pytest.approx(frame_sharpness(sharp), abs=0.05)


def test_flat_and_tiny_frames_score_lowest() -> None:
    assert frame_sharpness(torch.full((3, 40, 40), 0.3)) == FLAT_SCORE
    assert frame_sharpness(torch.rand(3, 2, 2)) == FLAT_SCORE


def test_each_shot_gets_one_before_any_gets_two() -> None:
    shots = [Shot(0, 100), Shot(100, 110), Shot(110, 170)]
    assert share_out(1, shots) == [1, 0, 0]
    assert share_out(2, shots) == [1, 0, 1]
    assert share_out(3, shots) == [1, 1, 1]
    assert share_out(5, shots) == [3, 1, 1]
    assert share_out(6, shots) == [3, 1, 2]


def test_no_shot_gets_more_than_fit() -> None:
    assert share_out(10, [Shot(0, 5), Shot(5, 9)]) == [2, 1]


def test_the_sharpest_frame_of_each_part_is_taken() -> None:
    sharpness = [0.0] * 40
    sharpness[7], sharpness[31] = 2.0, 1.0
    assert best_frames(2, [Shot(100, 140)], sharpness).indices == (107, 131)
    assert best_frames(1, [Shot(100, 140)], sharpness).indices == (107,)


def test_any_choice_keeps_the_distance_and_the_number() -> None:
    draw = random.Random(1)
    for _ in range(300):
        shots, start = [], draw.randrange(50)
        position = start
        for _ in range(draw.randint(1, 5)):
            length = draw.randint(1, 40)
            shots.append(Shot(position, position + length))
            position += length
        room = sum((shot.num_frames - 1) // MIN_KEYFRAME_GAP + 1 for shot in shots)
        count = draw.randint(1, room)
        sharpness = [draw.choice((0.0, draw.random())) for _ in range(position - start)]
        chosen = best_frames(count, shots, sharpness).indices
        assert len(chosen) == count
        for shot in shots:
            inside = [index for index in chosen if index in shot]
            assert all(b - a >= MIN_KEYFRAME_GAP for a, b in pairwise(inside))


def test_too_many_or_none_are_refused() -> None:
    with pytest.raises(ConfigError, match="--best 4 does not fit: 9 frames in 1 shot take 1 to 3"):
        best_frames(4, [Shot(0, 9)], [0.0] * 9)
    with pytest.raises(ConfigError, match="--best 0"):
        best_frames(0, [Shot(0, 9)], [0.0] * 9)
    with pytest.raises(ValueError, match="3 sharpness values for 9 frames"):
        best_frames(1, [Shot(0, 9)], [0.0] * 3)
