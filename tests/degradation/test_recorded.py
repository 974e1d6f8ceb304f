"""Footage as it is recorded: size, blur, noise, codec, and that a seed decides it all."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.degradation.recorded import RecordedDegradation
from sparkvsr.errors import ConfigError

CLEAN: dict[str, Any] = {"blur_sigma": (1.5, 1.5), "noise_probability": 0.0}


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Four frames, 96x128: a step edge over a gradient."""
    y, x = torch.meshgrid(torch.linspace(0.2, 0.8, 96), torch.linspace(0.2, 0.8, 128), indexing="ij")
    frame = torch.stack([x, y, (x > 0.5).float() * 0.6 + 0.2])
    return torch.stack([frame.roll(t, -1) for t in range(4)])


def test_a_seed_decides_the_clip(clip: Tensor) -> None:
    degrade = RecordedDegradation()
    first = degrade(clip, np.random.default_rng(1))
    assert first.shape == (4, 3, 24, 32)
    assert torch.equal(first, degrade(clip, np.random.default_rng(1)))
    assert not torch.equal(first, degrade(clip, np.random.default_rng(2)))
    assert float((first * 255 - (first * 255).round()).abs().max()) < 1e-3


def test_without_noise_and_codec_it_is_a_blur_and_a_reduction(clip: Tensor) -> None:
    lr = RecordedDegradation(**CLEAN)(clip, np.random.default_rng(0), is_image=True)
    blurred = np.stack(
        [cv2.GaussianBlur(np.ascontiguousarray(f), (0, 0), 1.5) for f in clip.permute(0, 2, 3, 1).numpy()]
    )
    small = torch.nn.functional.interpolate(torch.from_numpy(blurred).permute(0, 3, 1, 2), size=(24, 32), mode="area")
    assert float((lr - small)[..., 4:-4, 4:-4].abs().max()) < 0.03


def test_noise_has_the_strength_asked_for(clip: Tensor) -> None:
    flat = torch.full_like(clip, 0.5)
    settings: dict[str, Any] = {"blur_sigma": (1, 1), "noise_sigma": (6, 6), "noise_probability": 1.0}
    for seed in range(6):  # plain and grainy
        lr = RecordedDegradation(**settings)(flat, np.random.default_rng(seed), is_image=True)
        assert float((lr - 0.5).std() * 255) == pytest.approx(6, rel=0.15)


def test_the_codec_costs_more_at_a_higher_crf(clip: Tensor) -> None:
    errors = []
    for crf in (20, 40):
        rng = np.random.default_rng(0)
        lr = RecordedDegradation(**CLEAN, crf=(crf, crf))(clip, rng)
        plain = RecordedDegradation(**CLEAN)(clip, np.random.default_rng(0), is_image=True)
        errors.append(float((lr - plain).abs().mean()))
    assert 0 < errors[0] < errors[1]


@pytest.mark.parametrize(
    "wrong", [{"blur_sigma": (2, 1)}, {"crf": (20, 60)}, {"noise_probability": 2.0}, {"margin": 0.5}], ids=str
)
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        RecordedDegradation(**wrong)
