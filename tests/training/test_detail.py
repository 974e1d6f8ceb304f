"""Runs of the keyframe network: distillation from disk, a discriminator that goes on exactly, export."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.models.lite.detail import DetailConfig, DetailUpscalerNet, load_detail_upscaler
from sparkvsr.training.checkpoints import read_checkpoint
from sparkvsr.training.teacher import Teacher, teacher_state

Train = Callable[..., tuple[Path, Any]]

SMALL = (
    "stage=2",
    "model=detail",
    "loss=terms",
    "keyframes=none",
    "debug=quick",
    "data.num_frames=1",
    "data.validation_frames=1",
    "data.validation.num_clips=1",
    "data.clips.num_clips=2",
    "model.features=8",
    "model.growth=4",
    "model.blocks=1",
)
GAN = ("adversary=unet", "adversary.discriminator.features=4", "adversary.crop=32", "adversary.start_step=1")
STEADY = "optimizer.schedule.kind=constant"  # a cosine depends on the steps to come


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A file as Real-ESRGAN publishes them, tiny."""
    torch.manual_seed(9)
    network = DetailUpscalerNet(DetailConfig(features=8, growth=4, blocks=3))
    torch.save({"params_ema": network.state_dict()}, tmp_path / "teacher.pth")
    return tmp_path / "teacher.pth"


def test_a_run_learns_its_teachers_results_and_exports_a_network(
    train_small: Train, teacher: Path, tmp_path: Path
) -> None:
    folder, recorder = train_small(
        *SMALL,
        f"model.start_from={teacher}",
        f"data.precompute.teacher={teacher}",
        "data.precompute.enabled=true",
        "data.precompute.num_samples=2",
        "data.augment=true",
        "loss.terms.l1.target=teacher",
    )
    exported = load_detail_upscaler(folder / "model")
    assert exported is not None
    assert exported.config == DetailConfig(8, 4, 1)
    trained = read_checkpoint(folder / "last.ckpt")["state_dict"]["adapter.network.conv_last.weight"]
    assert torch.equal(exported.conv_last.weight, trained.half().float())
    from sparkvsr.models.lite.weights import embedded_folder, fingerprint_of

    assert fingerprint_of(folder / "model") == fingerprint_of(embedded_folder())  # a whole lite folder
    for file in ("DETAIL_LICENCE.txt", "README.md"):
        assert "Copyright (c) 2021, Xintao Wang" in (folder / "model" / file).read_text(), file
    # What the samples on disk carry is the teacher's output, whichever way they were turned.
    from safetensors.torch import load_file

    from sparkvsr.data.samples import TrainSample

    kept = load_file(next((tmp_path / "cache" / "precomputed").rglob("clip-*.safetensors")))
    lr = kept["lr"].float() / 255
    expected = Teacher(teacher)(TrainSample(lr, lr, lr[:0], []))
    assert float((kept["teacher"].float() / 255 - expected).abs().max()) <= 1.01 / 255
    assert recorder.losses()[2] > 0


def test_a_run_with_a_discriminator_goes_on_as_if_it_had_not_stopped(train_small: Train) -> None:
    whole, all_events = train_small(*SMALL, *GAN, STEADY, "trainer.max_steps=4", name="whole")
    begun, _ = train_small(*SMALL, *GAN, STEADY, name="begun")
    resumed, later = train_small(
        *SMALL, *GAN, STEADY, "trainer.max_steps=4", f"ckpt={begun / 'last.ckpt'}", f"paths.output_dir={begun}"
    )
    expected = all_events.losses()
    for step, loss in later.losses().items():
        assert loss == pytest.approx(expected[step], rel=1e-4), step
    first, second = (read_checkpoint(run / "last.ckpt")["sparkvsr"]["adversary"] for run in (whole, resumed))
    for name, value in first["discriminator"].items():
        assert torch.allclose(value, second["discriminator"][name], atol=1e-6), name
    moments = first["optimizer"]["state"][0]["exp_avg"]
    assert float(moments.abs().max()) > 0
    assert torch.allclose(moments, second["optimizer"]["state"][0]["exp_avg"], atol=1e-6)
    names = all_events.last("step")["terms"]
    assert {"l1", "discriminator_real", "discriminator_fake", "adversarial", "loss"} == set(names)


def test_a_discriminator_needs_a_loss_of_terms_and_a_checkpoint_that_has_one(train_small: Train) -> None:
    with pytest.raises(ConfigError, match="loss of terms"):
        train_small(*(text for text in SMALL if text != "loss=terms"), *GAN, name="wrong")
    begun, _ = train_small(*SMALL, name="plain")
    with pytest.raises(ConfigError, match="no discriminator"):
        train_small(*SMALL, *GAN, "trainer.max_steps=4", f"ckpt={begun / 'last.ckpt'}", f"paths.output_dir={begun}")


def test_a_loss_against_a_teacher_needs_one(train_small: Train) -> None:
    with pytest.raises(ConfigError, match="data.precompute.teacher=FILE"):
        train_small(*SMALL, "loss.terms.l1.target=teacher")


def test_what_is_no_teacher_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        teacher_state(tmp_path / "none.pth")
    (tmp_path / "bad.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="cannot be read"):
        teacher_state(tmp_path / "bad.pth")
    torch.save({"params": {"a": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="no RRDB"):
        teacher_state(tmp_path / "other.pth")
    torch.save({"params": {"conv_first.weight": torch.zeros(8, 3, 3, 3)}}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match="no RRDB network x4"):
        Teacher(tmp_path / "part.pth")
