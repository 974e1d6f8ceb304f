"""Samples finished on the training device (here the CPU) against those that the loader makes whole."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.config import compose_config
from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.device_samples import RawBatch, SamplesAhead, augment_references, finish_sample
from sparkvsr.data.keyframe_images import ReferenceAugmentation, ReferenceChange, augment_reference
from sparkvsr.data.raw_clips import as_float, stored
from sparkvsr.data.samples import SampleRequest
from sparkvsr.errors import ConfigError
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.build import build_adapter, build_pairs

CPU = torch.device("cpu")
SMALL = (
    *("model=tiny", "stage=1", "data.num_frames=9", "data.crop=[64,64]", "keyframes.augmentation.noise_sigma=0"),
    *("keyframes.policy.dropout=0", "data.augment=true"),
)


def pairs_of(*overrides: str) -> PairedClips:
    config = compose_config([*SMALL, *overrides])
    return build_pairs(config, adapter_of(str(config.model._target_)), None)


@cache
def adapter_of(target: str) -> TrainingAdapter:
    """One of each kind for all tests: none of them changes it."""
    name = {"nano": "tiny", "lite": "lite"}[target.split(".")[-2]]
    return build_adapter(compose_config([*SMALL, f"model={name}"]))


def test_a_sample_is_the_same_wherever_it_is_made() -> None:
    loader, device = pairs_of(), pairs_of("degradation.device=cpu")
    assert (loader.made_on, device.made_on) == (None, "cpu")
    for number in (0, 3):
        whole, raw = loader[SampleRequest(number)], device[SampleRequest(number)]
        assert raw.raw is not None
        finished = finish_sample(raw, CPU)
        assert (finished.name, finished.times, finished.keyframe_indices, finished.number) == (
            *(whole.name, whole.times, whole.keyframe_indices, whole.number),
        )
        assert torch.allclose(finished.hr, whole.hr, atol=1e-6)
        # Halves may be rounded to either side.
        assert float((finished.lr - whole.lr).abs().max()) <= 1.01 / 255
        assert float((finished.lr - whole.lr).abs().mean()) < 1e-4
        assert finished.keyframes.shape == whole.keyframes.shape
        assert float((finished.keyframes - whole.keyframes).abs().max()) < 2e-3


def test_8_bit_pixels_travel_as_bytes() -> None:
    levels = torch.arange(256).view(1, 1, 16, 16).float() / 255
    assert stored(levels).dtype == torch.uint8
    assert torch.equal(as_float(stored(levels)), levels)
    finer = levels + 0.3 / 255
    assert torch.equal(as_float(stored(finer)), finer), "a 10-bit source keeps its levels"


def test_the_second_order_pipeline_and_stills_go_the_same_way() -> None:
    device = pairs_of("degradation=corrected", "degradation.device=cpu", "data.image_ratio=0.5")
    for is_image in (False, True):
        sample = finish_sample(device[SampleRequest(1, is_image)], CPU)
        frames = 1 if is_image else 9
        assert sample.lr.shape == (frames, 3, 16, 16)
        assert sample.hr.shape == (frames, 3, 64, 64)
        levels = sample.lr * 255
        assert float((levels - levels.round()).abs().max()) < 1e-3
        again = finish_sample(device[SampleRequest(1, is_image)], CPU)
        assert torch.equal(sample.lr, again.lr)


def test_batches_come_in_order_and_do_not_depend_on_threads() -> None:
    device = pairs_of("degradation.device=cpu")
    raw = [[device[SampleRequest(2 * batch + k)] for k in range(2)] for batch in range(4)]
    ahead = SamplesAhead([RawBatch(one) for one in raw], CPU, threads=3)
    assert len(ahead) == 4
    for expected, batch in zip(raw, ahead, strict=True):
        assert batch.numbers.tolist() == [sample.number for sample in expected]
        assert torch.equal(batch.lr, torch.stack([finish_sample(sample, CPU).lr for sample in expected]))


def test_an_error_of_a_sample_reaches_the_step() -> None:
    sample = pairs_of("degradation.device=cpu")[SampleRequest(0)]
    assert sample.raw is not None
    sample.raw.times = [99]
    with pytest.raises(IndexError):
        list(SamplesAhead([RawBatch([sample])], CPU))


def pictures() -> Tensor:
    y, x = torch.meshgrid(torch.linspace(0, 1, 24), torch.linspace(0, 1, 32), indexing="ij")
    return torch.stack([torch.stack([x, y, (x * y * k).frac()]) for k in range(6)])


def test_references_change_alike() -> None:
    drawn = ReferenceAugmentation(1.0, 0.2, 0.5, noise_sigma=0.0).draw(6, (24, 32), np.random.default_rng(0))
    drawn[4] = ReferenceChange(wrong="shifted", shift=(9, 8))
    drawn[5] = ReferenceChange(wrong="mirrored")
    assert len({one.order for one in drawn}) > 2
    expected = torch.stack([augment_reference(image, one) for image, one in zip(pictures(), drawn, strict=True)])
    assert float((augment_references(pictures(), drawn) - expected).abs().max()) < 2e-3


def test_noise_of_references_has_its_strength() -> None:
    noisy = augment_references(torch.full((2, 3, 64, 64), 0.5), [ReferenceChange(noise=0.025, seed=s) for s in (1, 2)])
    assert float(noisy.std()) == pytest.approx(0.025, rel=0.05)
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["model=lite", "degradation.device=cpu"], "lite computes motion"),
        (["degradation.device=gpu"], "degradation.device=gpu is unknown; use auto, cpu, cuda, loader"),
        (["degradation.device=cpu", "data.crop_tries=3"], "data.crop_tries"),
        (["degradation.device=cpu", "keyframes.isr.ratio=0.5", "keyframes.isr.upscaler=bicubic"], "keyframes.isr"),
        (["degradation.device=cpu", "data.precompute.enabled=true"], "keeps degraded samples"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_what_the_device_cannot_do_is_refused(overrides: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        pairs_of(*overrides)


def test_auto_is_the_loader_without_a_gpu() -> None:
    assert pairs_of("trainer.accelerator=cpu").made_on is None
    assert pairs_of("model=lite", "trainer.accelerator=gpu").made_on is None


def test_a_run_on_the_device_learns_what_a_run_by_the_loader_learns(tmp_path: Path) -> None:
    from sparkvsr.training.run import train

    losses: list[dict[int, Any]] = []
    for place in ("loader", "cpu"):
        seen: dict[int, Any] = {}

        def note(event: dict[str, Any], seen: dict[int, Any] = seen) -> None:
            if event["event"] == "step":
                seen[event["step"]] = event["terms"]["loss"]

        hook: Callable[[dict[str, Any]], None] = note
        overrides = [
            "debug=quick",
            "data.num_frames=9",
            "data.validation_frames=9",
            "data.validation=null",
            "export_at_end=false",
            "data.batch_size=1",
        ]
        train(
            compose_config([*SMALL, *overrides, f"degradation.device={place}", f"paths.output_dir={tmp_path / place}"]),
            hook,
        )
        losses.append(seen)
    assert len(losses[0]) == 2
    assert losses[1] == pytest.approx(losses[0], rel=2e-3)
