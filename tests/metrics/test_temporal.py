"""Metrics over neighbouring frames, on motion that is known exactly."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from reference_formulas import distorted, textured

from sparkvsr.metrics import colour, temporal

SHIFT = 3


@pytest.fixture(scope="module")
def panning() -> tuple[np.ndarray, np.ndarray]:
    """Two windows of one large picture, SHIFT pixels apart: everything moves left by SHIFT."""
    wide = textured(1, (96, 140))
    return wide[:, :128].copy(), wide[:, SHIFT : 128 + SHIFT].copy()


@pytest.mark.parametrize("flow_of", [temporal.dis_flow, temporal.farneback_flow])
def test_flow_points_from_the_first_frame_to_the_second(flow_of: object, panning: tuple) -> None:
    flow = flow_of(colour.gray(panning[0]), colour.gray(panning[1]))  # type: ignore[operator]
    inner = flow[16:-16, 16:-16]
    assert np.median(inner[..., 0]) == pytest.approx(-SHIFT, abs=0.3)
    assert np.median(inner[..., 1]) == pytest.approx(0, abs=0.3)


def test_warping_by_the_true_flow_restores_the_first_frame(panning: tuple) -> None:
    first, second = panning
    flow = np.zeros((*first.shape[:2], 2), np.float32)
    flow[..., 0] = -SHIFT
    warped = temporal.warp(second, flow)
    assert np.abs(warped[:, SHIFT:] - first[:, SHIFT:]).max() < 1e-3
    assert not warped[:, :SHIFT].any()
    mask = np.ones(first.shape[:2], bool)
    mask[:, :SHIFT] = False
    assert temporal.masked_warping_error(first, second, flow, mask) == pytest.approx(0, abs=1e-6)


def test_warping_error_is_the_stated_formula() -> None:
    first, second = textured(1), textured(2)
    mask = np.zeros(first.shape[:2], bool)
    mask[10:20, 5:50] = True
    flow = np.zeros((*first.shape[:2], 2), np.float32)
    difference = (first.astype(np.float64) - second)[10:20, 5:50] / 255
    expected = 1000 * np.sum(difference**2) / (10 * 45)
    assert temporal.masked_warping_error(first, second, flow, mask) == pytest.approx(expected, rel=1e-5)
    assert temporal.masked_warping_error(first, second, flow, np.zeros_like(mask)) is None


def test_visible_drops_disagreeing_flow_and_motion_boundaries() -> None:
    forward = np.zeros((40, 40, 2), np.float32)
    backward = np.zeros((40, 40, 2), np.float32)
    assert temporal.visible(forward, backward).all()
    backward[10:20, 10:20] = 5
    assert not temporal.visible(forward, backward)[10:20, 10:20].any()
    step = forward.copy()
    step[:, 20:] = 2
    assert not temporal.visible(step, -step)[:, 19].any()


def test_flow_difference_is_the_mean_end_point_distance() -> None:
    zero = np.zeros((8, 8, 2), np.float32)
    other = zero + np.array([3, 4], np.float32)
    assert temporal.flow_difference(zero, other) == pytest.approx(5)


def test_flicker_is_vbench_formula(panning: tuple) -> None:
    first, second = panning
    expected = (255 - np.abs(first.astype(np.float64) - second).mean()) / 255
    assert temporal.flicker(first, second) == pytest.approx(expected, abs=1e-12)
    assert temporal.flicker(first, first) == 1.0


def test_odd_and_tiny_frames_are_halved() -> None:
    assert temporal.half_size(textured(0, (37, 53))).shape == (18, 26, 3)
    assert temporal.half_size(distorted(textured(0, (12, 12)))).shape == (16, 16, 3)


def test_raft_warping_error_takes_torchvisions_own_file(panning: tuple, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights: the flow means nothing, but the file, the sizes and the formula's zero are checked."""
    import torch
    from torchvision.models.optical_flow import raft_large

    from sparkvsr.errors import MetricError
    from sparkvsr.metrics import raft
    from sparkvsr.metrics.raft import RaftFlow

    monkeypatch.setattr(raft, "_ITERATIONS", 1)

    flow = RaftFlow(raft_large(weights=None).state_dict())
    first, second = (
        torch.nn.functional.interpolate(torch.from_numpy(x.transpose(2, 0, 1)[None].copy()).float() / 255, (129, 131))
        for x in panning
    )
    assert flow.warping_error(first, second) > 0
    assert flow.warping_error(torch.zeros_like(first), torch.zeros_like(first)) == 0
    original = importlib.util.find_spec("vsreval")
    if original is not None:  # the authors' network, optional: the same weights under their names give the same flow
        from argparse import Namespace

        from vsreval._vendor.raft.raft import RAFT

        theirs = RAFT(Namespace(small=False, mixed_precision=False, alternate_corr=False, dropout=0)).eval()
        ours = RaftFlow({f"module.{name}": value for name, value in theirs.state_dict().items()})
        a, b = (torch.nn.functional.interpolate(x, (128, 136)) for x in (first, second))
        with torch.inference_mode():
            _, expected = theirs(a * 255, b * 255, iters=1, test_mode=True)
        assert torch.allclose(ours.flow(a, b), expected, atol=1e-3)
        assert float(expected.abs().max()) > 0.1
    with pytest.raises(MetricError, match="does not fit torchvision's raft_large"):
        RaftFlow({"weight": torch.zeros(1)})


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (9, 3), (11, 11)])
def test_flow_of_the_smallest_frames(size: tuple[int, int]) -> None:
    frame = np.full(size, 90, np.uint8)
    flow = temporal.dis_flow(frame, frame)
    assert flow.shape == (*size, 2)
    assert np.abs(flow).max() < 0.01
