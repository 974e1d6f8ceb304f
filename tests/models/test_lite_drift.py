"""Two hundred frames later nothing has been added up: a standing picture, noise over one, a slow pan, a loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lite_clips import Sharpener, shrink, texture
from torch import Tensor

from sparkvsr.models.lite.model import LiteModel
from sparkvsr.models.lite.upscaler import KeyframeUpscaler
from sparkvsr.models.lite.weights import load_propagator, load_upscaler

FRAMES, ROUND, SIDE = 200, 48, 80
"""A round is a multiple of the frames between keyframes of both looks, so the same frame is as far from one."""

QUARTERS = {"standing": (0, 0), "noisy": (0, 1), "slow pan": (1, 0), "loop": (1, 1)}
INNER = 16
"""HR pixels at the borders between quarters that are not looked at."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor]:
    """One round of the truth, and all LR frames: each kind is a quarter of the picture."""
    worlds = [torch.from_numpy(texture(SIDE, SIDE + 2 * ROUND, seed)).permute(2, 0, 1) for seed in range(4)]
    truth = torch.empty(ROUND, 3, 2 * SIDE, 2 * SIDE)
    for t in range(ROUND):
        back_and_forth = min(t, ROUND - t)
        lefts = {"standing": 0, "noisy": 0, "slow pan": back_and_forth // 4, "loop": 3 * min(t % 12, 12 - t % 12)}
        for (name, (row, column)), world in zip(QUARTERS.items(), worlds, strict=True):
            part = world[:, :, lefts[name] : lefts[name] + SIDE]
            truth[t, :, row * SIDE : (row + 1) * SIDE, column * SIDE : (column + 1) * SIDE] = part
    lr = shrink(truth).repeat(-(-FRAMES // ROUND), 1, 1, 1)[:FRAMES].clone()
    small = SIDE // 4
    noisy = lr[:, :, :small, small:]
    noisy += torch.from_numpy(np.random.default_rng(5).normal(0, 4 / 255, noisy.shape).astype(np.float32))
    return truth, (lr.clamp(0, 1) * 255).round() / 255


def quarter(frames: Tensor, name: str) -> Tensor:
    row, column = QUARTERS[name]
    top, left = row * SIDE + INNER, column * SIDE + INNER
    return frames[..., top : top + SIDE - 2 * INNER, left : left + SIDE - 2 * INNER]


def strokes(frames: Tensor) -> float:
    """How much fine detail there is."""
    return float((frames - F.avg_pool2d(frames, 5, 1, 2, count_include_pad=False)).std())


@pytest.mark.parametrize("look", ["faithful", "vivid"])
def test_nothing_adds_up_in_two_hundred_frames(clip: tuple[Tensor, Tensor], look: str) -> None:
    truth, lr = clip
    upscaler = KeyframeUpscaler(load_upscaler(), "cpu", torch.float32) if look == "faithful" else Sharpener()
    model = LiteModel(load_propagator(), upscaler, "cpu", torch.float32, "test", look)  # type: ignore[arg-type]
    made = model.restore(lr)
    early, late = made[ROUND : 2 * ROUND], made[3 * ROUND : 4 * ROUND]
    for name in QUARTERS:
        before, after, right = (quarter(frames, name) for frames in (early, late, truth))
        assert (after - right).square().mean() < 1.02 * (before - right).square().mean(), name
        assert strokes(after) == pytest.approx(strokes(before), rel=0.04), name
        if name != "noisy":
            assert (after - before).abs().mean() < 2e-3, name
