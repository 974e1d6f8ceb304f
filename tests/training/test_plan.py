"""The memory plan: counted parts against arithmetic, the trace of a block against what it must keep."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from sparkvsr.config import compose_config
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.training.adapters.nano import build_nano_adapter
from sparkvsr.training.plan import ActivationTrace, plan_memory, plan_text, trace_activations

SIZES = ("data.num_frames=9", "data.crop=[64,64]", "data.batch_size=2")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configuration files of the nano model; no weights."""
    path = tmp_path_factory.mktemp("configs")
    adapter: Any = build_nano_adapter()
    for name, network in (("transformer", adapter.network), ("vae", adapter.vae)):
        (path / name).mkdir()
        (path / name / "config.json").write_text(json.dumps(dict(network.config), default=list))
    return path


def config_of(folder: Path, *overrides: str) -> Any:
    """The composed configuration."""
    return compose_config(["model=cogvideox", f"model.path={folder}", *SIZES, *overrides])


def read(folder: Path, name: str) -> dict[str, Any]:
    """One configuration file."""
    values: dict[str, Any] = json.loads((folder / name / "config.json").read_text())
    return values


def test_each_further_block_costs_what_it_keeps(folder: Path) -> None:
    vae, transformer = read(folder, "vae"), read(folder, "transformer")

    # What is made once in a process and kept, a few kilobytes, belongs to no block.
    trace_activations(config_of(folder, "stage=1"), transformer, vae)

    def block(*overrides: str) -> int:
        config = config_of(folder, "stage=1", *overrides)
        six, four = (trace_activations(config, {**transformer, "num_layers": n}, vae).step for n in (6, 4))
        return (six - four) // 2

    # A checkpointed block keeps its input: (text 8 + video 2 x 4 x 4 tokens) of 32 channels in bf16, batch 2.
    assert block() == 2 * (8 + 2 * 4 * 4) * 32 * 2
    assert block("model.gradient_checkpointing=false") > 10 * block()


def test_float32_norms_cost_memory_and_more_frames_too(folder: Path) -> None:
    config, longer = config_of(folder, "stage=1"), config_of(folder, "stage=1", "data.num_frames=17")
    vae, transformer = read(folder, "vae"), read(folder, "transformer")
    mixed, pure = (trace_activations(config, transformer, vae, autocast=auto) for auto in (True, False))
    assert mixed.step > pure.step
    assert mixed.encode > 1.25 * pure.encode, "the VAE's encoder runs under autocast, too: its norms are float32"
    assert trace_activations(longer, transformer, vae).step > mixed.step


@pytest.mark.parametrize("stage", [1, 2])
def test_counted_parts(folder: Path, stage: int) -> None:
    config = config_of(
        folder,
        f"stage={stage}",
        "data.num_frames=2",
        "trainer.devices=2",
        "optimizer.ema_decay=0.9",
        "optimizer.lora.rank=4",
    )
    lora, whole, fsdp, zero = plan_memory(config)
    count = whole.fixed["weights"] // 4
    assert whole.gradients == 4 * count
    assert whole.fixed["optimiser state"] == 8 * count
    assert whole.fixed["moving average"] == 4 * count
    assert fsdp.fixed["weights"] == pytest.approx(2 * count, abs=8)
    assert fsdp.trainer == "fsdp trainer.devices=2"
    assert zero.fixed["weights"] == 2 * count
    assert lora.fixed["optimiser state"] < whole.fixed["optimiser state"] / 2
    assert min(plan.activations for plan in (lora, whole, fsdp, zero)) > 0
    assert all(plan.total > sum(plan.fixed.values()) for plan in (lora, whole, fsdp, zero))
    text = plan_text([lora, whole, fsdp, zero], config)
    assert "computed on the meta device, not measured" in text
    assert f"Stage {stage}" in text


@pytest.mark.shared
def test_the_5b_model(shared_dir: Path) -> None:
    config = config_of(shared_dir / "golden" / "cogvideox1.5-5b-i2v", "stage=1", "trainer.devices=4")
    _, whole, fsdp, zero = plan_memory(config)
    assert whole.fixed["weights"] == 4 * 5_571_594_880
    assert fsdp.fixed["optimiser state"] == 2 * 5_571_594_880
    assert zero.total < 80 << 30 < whole.total


def test_refusals(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--plan is for model=cogvideox"):
        plan_memory(compose_config(["stage=1"]))
    (tmp_path / "odd" / "transformer").mkdir(parents=True)
    os.mkfifo(tmp_path / "odd" / "transformer" / "config.json")
    with pytest.raises(WeightsError, match=r"config\.json cannot be read \(it is no file\)"):
        plan_memory(config_of(tmp_path / "odd"))
    with pytest.raises(WeightsError, match="needs the configuration files"):
        plan_memory(config_of(tmp_path, "stage=1"))


def test_without_peft_only_its_column_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.training import lora, plan

    monkeypatch.setattr(plan, "has_peft", lambda: False)
    monkeypatch.setattr(lora, "has_peft", lambda: False)

    def trace(*parts: Any, lora_rank: int = 0, autocast: bool = True) -> ActivationTrace:
        del parts, autocast
        if lora_rank:
            lora.add_lora(None, rank=lora_rank, alpha=1, targets=[])  # type: ignore[arg-type]
        return ActivationTrace(1, 1)

    monkeypatch.setattr(plan, "trace_activations", trace)
    config = config_of(folder, "stage=1")
    plans = plan_memory(config)
    assert [plan.trainer.split()[0] for plan in plans] == ["gpu,", "fsdp", "deepspeed"]
    assert "LoRA is left out: to plan it, pip install 'sparkvsr[lora]'" in plan_text(plans, config)
    with pytest.raises(ConfigError, match="needs the package peft"):
        plan_memory(config_of(folder, "stage=1", "optimizer.lora.rank=4"))
