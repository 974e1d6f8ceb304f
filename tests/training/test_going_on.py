"""Which checkpoint a run goes on with, and that what is typed then holds."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from torch.optim.lr_scheduler import CosineAnnealingLR

from sparkvsr.config import compose_config, load_config
from sparkvsr.errors import ConfigError
from sparkvsr.training.adversary import Adversary
from sparkvsr.training.optimizer_values import hold_typed_values, hyperparameters
from sparkvsr.training.resume import check_same_run, resumed_checkpoint

from .conftest import SMALL

Train = Callable[..., tuple[Path, Any]]


def asked(ckpt: str, folder: Path | None = None) -> DictConfig:
    """The part of a configuration that says where to go on."""
    setup_globals()  # Hydra's resolvers
    pattern = "runs/${now:%Y-%m-%d_%H-%M-%S}_stage${stage}"  # as shipped in conf/paths
    return OmegaConf.create({"ckpt": ckpt, "stage": 1, "paths": {"output_dir": str(folder or pattern)}})


def test_a_named_folder_is_never_left(tmp_path: Path) -> None:
    neighbour = tmp_path / "alice_stage1"
    neighbour.mkdir()
    (neighbour / "last.ckpt").touch()
    mine = tmp_path / "bob_stage1"
    with pytest.raises(ConfigError, match=r"holds no run with a checkpoint; ckpt=auto starts one"):
        resumed_checkpoint(asked("last", mine), any_stage=True)
    assert resumed_checkpoint(asked("auto", mine)) is None
    with pytest.raises(ConfigError, match="ckpt=auto needs the folder"):
        resumed_checkpoint(asked("auto"))
    mine.mkdir()
    (mine / "step-000003.ckpt").touch()
    for how in ("auto", "last"):
        assert resumed_checkpoint(asked(how, mine)) == (mine / "step-000003.ckpt").resolve()


def test_without_a_named_folder_last_is_the_newest_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "2026_stage1"
    run.mkdir(parents=True)
    (run / "last.ckpt").touch()
    assert resumed_checkpoint(compose_config(["ckpt=last"])) == (run / "last.ckpt").resolve()


@pytest.mark.parametrize(
    ("key", "value"), [("stage", 2), ("model._target_", "b.other"), ("optimizer.build._target_", "torch.optim.SGD")]
)
def test_another_stage_model_or_optimiser_is_another_run(key: str, value: object) -> None:
    kept = {"stage": 1, "model": {"_target_": "a.model"}, "optimizer": {"build": {"_target_": "torch.optim.AdamW"}}}
    header = {"sparkvsr": {"config": kept}}
    config = OmegaConf.create(kept)
    check_same_run(header, config, Path("x.ckpt"))
    OmegaConf.update(config, key, value)
    with pytest.raises(ConfigError, match=r"start a new run from its weights: init=x\.ckpt"):
        check_same_run(header, config, Path("x.ckpt"))


def test_a_job_script_starts_goes_on_with_what_is_typed_and_ends(train_small: Train, tmp_path: Path) -> None:
    """One folder, the same command again and again; stage 2, where micro-batches differ in kind."""
    common = ("stage=2", *SMALL, "ckpt=auto", f"paths.output_dir={tmp_path / 'job'}", "data.image_ratio=0.5")
    common += ("data.num_frames=2", "data.validation=null", "trainer.accumulate_grad_batches=2", "export_at_end=false")
    run, first = train_small(*common, "optimizer.learning_rate=1e-3", "trainer.max_steps=1")
    assert run == (tmp_path / "job").resolve()
    again, second = train_small(*common, "optimizer.learning_rate=5e-3", "optimizer.build.weight_decay=0.5")
    assert again == run
    rates = [event["learning_rate"] for event in (*first.events, *second.events) if event["event"] == "step"]
    assert rates == pytest.approx([1e-3 / 100, 5e-3 * 2 / 100])  # a warm-up of 100 steps
    kept = torch.load(run / "last.ckpt", weights_only=True)
    assert kept["optimizer_states"][0]["param_groups"][0]["weight_decay"] == 0.5
    assert load_config(run / "config.yaml").optimizer.learning_rate == 5e-3
    # A step's terms are means over its micro-batches, and the log holds those and no others.
    terms = second.last("step")["terms"]
    assert {"loss", "loss_clips", "loss_stills", "frame_difference", "mse"} == set(terms)
    logs = sorted(run.glob("logs/csv*/metrics.csv"))
    with logs[-1].open() as file:
        row = list(csv.DictReader(file))[-1]
    assert float(row["train/loss"]) == pytest.approx(terms["loss"])
    assert float(row["train/gradient_norm"]) == pytest.approx(second.last("step")["gradient_norm"])
    _, third = train_small(*common)
    assert [event["event"] for event in third.events] == ["done"]
    assert third.last("done")["step"] == 2
    with pytest.raises(ConfigError, match=r"goes on in its own folder .*another.* init="):
        train_small(*common[:-1], f"ckpt={run / 'last.ckpt'}", f"paths.output_dir={tmp_path / 'other'}")


def test_any_schedule_goes_on_by_the_present_settings() -> None:
    """After 3 steps of one cosine the run goes on with another rate and length, as if it had had them all along."""

    def made(rate: float, length: int) -> tuple[Any, Any, Any]:
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(2))], lr=rate, betas=(0.5, 0.6))
        typed = hyperparameters(optimizer)
        return optimizer, CosineAnnealingLR(optimizer, length), typed

    def advance(optimizer: Any, schedule: Any, steps: int) -> float:
        for _ in range(steps):
            optimizer.step()
            schedule.step()
        return float(optimizer.param_groups[0]["lr"])

    before, old_schedule, _ = made(1.0, 10)
    advance(before, old_schedule, 3)
    optimizer, schedule, typed = made(0.1, 20)
    optimizer.load_state_dict(before.state_dict())
    schedule.load_state_dict(old_schedule.state_dict())
    trainer: Any = SimpleNamespace(
        global_step=3, optimizers=[optimizer], lr_scheduler_configs=[SimpleNamespace(scheduler=schedule)]
    )
    hold_typed_values(trainer, typed, lambda chosen: CosineAnnealingLR(chosen, 20))
    through, whole, _ = made(0.1, 20)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(advance(through, whole, 3))
    assert advance(optimizer, schedule, 4) == pytest.approx(advance(through, whole, 4))


def test_a_discriminators_typed_rate_holds() -> None:
    def adversary(rate: float) -> Adversary:
        return Adversary(torch.nn.Conv2d(3, 1, 1), learning_rate=rate)

    after = adversary(0.5)
    after.load_state_dict(adversary(0.25).state_dict())
    assert after.optimizer.param_groups[0]["lr"] == 0.5
