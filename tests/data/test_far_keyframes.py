"""Samples whose keyframe lies outside their window, several samples of one clip, and turning them with their motion."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparkvsr.data.augmentation import turned
from sparkvsr.data.datasets import PairedClips, sample_times
from sparkvsr.data.keyframe_policies import AnyPolicy, PaperPolicy
from sparkvsr.data.precomputed import PrecomputedPairs
from sparkvsr.data.samples import SampleRequest, collate
from sparkvsr.data.synthetic import SyntheticClips
from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.errors import ConfigError
from sparkvsr.models.lite.resampling import warp
from sparkvsr.training.adapters.lite import build_lite_adapter


def far_pairs(**settings: object) -> PairedClips:
    values: dict = {"num_frames": 3, "span": 9, "crop": (128, 128), "samples_per_clip": 4, **settings}
    policy = values.pop("policy", AnyPolicy(dropout=0.0, max_keyframes=1))
    return PairedClips(SyntheticClips(8), None, BicubicDegradation(), policy, **values)


def test_a_window_and_its_keyframe() -> None:
    rng = np.random.default_rng(0)
    gaps = set()
    for _ in range(300):
        key = int(rng.integers(0, 9))
        times = sample_times(9, 3, [key], rng)
        assert len(times) == 4
        assert key in times
        assert times == sorted(set(times))
        assert times[0] >= 0
        assert times[-1] < 9
        assert sum(step != 1 for step in np.diff(times)) <= 1, "one window, one keyframe"
        gaps.add(int(np.diff(times).max()))
    assert gaps >= {1, 2, 3, 4, 5, 6}, "keyframes near and far"
    assert len(sample_times(9, 3, [], rng)) == 4, "one size for all samples of a batch"


def test_samples_of_one_clip_differ_and_come_again() -> None:
    pairs, again = far_pairs(), far_pairs()
    samples = [pairs[SampleRequest(number)] for number in range(8)]
    assert len({sample.name for sample in samples[:4]}) == 1
    assert samples[3].name != samples[4].name
    assert len({(tuple(s.times or ()), float(s.hr.sum())) for s in samples}) >= 6
    # In any order, as several loaders make them.
    for number in (5, 0, 7, 2):
        assert torch.equal(again[SampleRequest(number)].hr, samples[number].hr)
    batch = collate(samples)
    assert batch.times.shape == (8, 4)
    rows = torch.arange(8)
    assert torch.equal(batch.keyframes[:, 0], batch.hr[rows, batch.keyframe_indices[:, 0]])


def test_motion_is_cut_with_its_clip() -> None:
    adapter = build_lite_adapter(upscaler={"blocks": 1})
    whole, cut = far_pairs(prepare=adapter.prepare_clip), far_pairs()
    for number in range(3):
        sample, plain = whole[SampleRequest(number)], cut[SampleRequest(number)]
        assert torch.equal(sample.lr, plain.lr)
        assert sample.extras["key_flow"].shape == (4, 2, 32, 32)
        assert sample.extras["key_slot"].shape == (4,)
        key = sample.keyframe_indices[0]
        assert float(sample.extras["key_flow"][key].abs().max()) == 0, "a keyframe is where it is"


def test_turned_samples_keep_their_motion() -> None:
    """The flow of a turned sample still finds each pixel in the frame before, as well as it did before."""
    adapter = build_lite_adapter(upscaler={"blocks": 1})
    pairs = far_pairs(prepare=adapter.prepare_clip)

    def miss(lr: torch.Tensor, flow: torch.Tensor) -> float:
        return float((warp(lr[1:2], flow[2:3]) - lr[2:3])[..., 4:-4, 4:-4].abs().mean())

    ways = set()
    for number in range(24):
        sample = pairs[SampleRequest(number)]
        if np.diff(sample.times or [])[1] != 1 or float(sample.extras["step_flow"][2].abs().max()) < 0.5:
            continue
        rng = np.random.default_rng(number)
        maps = {key: sample.extras[key] for key in ("step_flow", "round_trip", "key_slot")}
        lr, hr, maps = turned(sample.lr, sample.hr, maps, rng)
        before = miss(sample.lr, sample.extras["step_flow"])
        gain = float(lr.mean() / sample.lr.mean())
        assert miss(lr, maps["step_flow"]) == pytest.approx(before * gain, rel=0.35, abs=2e-3)
        shrunk = BicubicDegradation()(hr, rng)
        assert float((shrunk - lr)[..., 4:-4, 4:-4].abs().mean()) < 0.01, "LR and HR turned alike"
        ways.add(tuple(np.sign(maps["step_flow"][2].mean(dim=(1, 2)).numpy())))
    assert len(ways) >= 3


def test_kept_samples_have_their_motion_and_new_keyframe_images(tmp_path: Path) -> None:
    adapter = build_lite_adapter(upscaler={"blocks": 1})
    pairs = far_pairs(prepare=adapter.prepare_clip)
    store = PrecomputedPairs(pairs, tmp_path / "kept", 8, seed=42)
    store.make(is_image=False)
    sample = store[SampleRequest(3)]
    number = int(sample.name.rpartition("/")[2])
    fresh = pairs[SampleRequest(number)]
    assert torch.allclose(sample.hr, fresh.hr, atol=2e-3)
    assert sample.times == fresh.times
    assert sample.keyframe_indices == fresh.keyframe_indices
    assert torch.allclose(sample.extras["key_flow"], fresh.extras["key_flow"], atol=2e-2)
    # ... and turned anew each time where the run asks for it
    turning = PrecomputedPairs(far_pairs(prepare=adapter.prepare_clip, augment=True), tmp_path / "kept", 8, seed=42)
    assert not all(torch.equal(turning[SampleRequest(n)].lr, store[SampleRequest(n)].lr) for n in range(8))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"span": 3}, "data.span=3 must be larger"),
        ({"samples_per_clip": 0}, "at least 1"),
        ({"crop_tries": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        far_pairs(**settings)


def test_a_span_takes_one_keyframe() -> None:
    with pytest.raises(ConfigError, match="max_keyframes=1"):
        far_pairs(policy=PaperPolicy(dropout=0.0, min_keyframe_gap=1))[SampleRequest(0)]


def test_busy_places_are_preferred() -> None:
    wide = far_pairs(crop=(64, 64), crop_tries=8)
    flat = torch.zeros(3, 40, 40)
    flat[:, :16, :16] = torch.rand(3, 16, 16)
    rows, columns = wide._window(flat, np.random.default_rng(0))
    assert rows.start < 16
    assert columns.start < 16
