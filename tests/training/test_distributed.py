"""Runs whose processes share one model out: they train as one process does, resume exactly and can be exported.

Two CPU processes, started as torchrun starts them, so that several runs share the time it takes to import torch.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.training.checkpoints import network_state, read_checkpoint, read_header
from sparkvsr.training.export import export_model

from .conftest import SMALL

# Sums over a batch in another order; Adam's first steps enlarge differences of tiny gradients.
TOLERANCE = 1e-6
COMMON = ("stage=1", *SMALL, "export_at_end=false", "logger=none", "data.validation=null", "optimizer.ema_decay=0.9")
TWO = ("trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true", "callbacks.checkpoint_every=1")

# For each set of overrides: two steps in NAME, and step 2 once more in NAME_again from the checkpoint of step 1.
SCRIPT = """
import json, os, shutil, sys
from pathlib import Path
import torch
from sparkvsr.config import compose_config
from sparkvsr.training.run import train

root = Path(sys.argv[1])
for name, overrides in json.loads(sys.argv[2]).items():
    run, again = root / name, root / f"{name}_again"
    train(compose_config([*overrides, f"paths.output_dir={run}"]))
    if os.environ["RANK"] == "0":
        again.mkdir()
        copy = shutil.copytree if (run / "step-000001.ckpt").is_dir() else shutil.copy
        copy(run / "step-000001.ckpt", again / "step-000001.ckpt")
    torch.distributed.barrier()
    train(compose_config([*overrides, f"ckpt={again / 'step-000001.ckpt'}"]))
"""


def run_two_processes(folder: Path, runs: dict[str, tuple[str, ...]]) -> None:
    """Run the script above in two processes.

    Args:
        folder: where the run folders are made.
        runs: overrides by name.
    """
    script = folder / "run_training.py"
    script.write_text(SCRIPT)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    environment = {
        **os.environ,
        **world,
        "TORCHELASTIC_RUN_ID": "test",
        "OMP_NUM_THREADS": "1",
        "DS_ACCELERATOR": "cpu",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(folder), json.dumps(runs)],
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank), "GROUP_RANK": "0"},
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    try:
        texts = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(text[-3000:] for text in texts)


def largest_difference(first: dict[str, Tensor], second: dict[str, Tensor]) -> float:
    """Over all weights; the names have to be the same."""
    assert set(first) == set(second)
    return max(float((first[name] - second[name]).abs().max()) for name in first)


def check_run(folder: Path, name: str, expected: Path, exported: Path) -> None:
    """Same weights as one process, the same after resuming, and an export that holds them."""
    whole, again = (
        read_checkpoint(folder / name / "step-000002.ckpt"),
        read_checkpoint(folder / f"{name}_again" / "step-000002.ckpt"),
    )
    for ema in (True, False):
        state = network_state(whole, ema=ema)
        assert largest_difference(state, network_state(read_checkpoint(expected), ema=ema)) < TOLERANCE
        assert largest_difference(state, network_state(again, ema=ema)) == 0
    assert largest_difference(network_state(whole, ema=True), network_state(whole, ema=False)) > 0

    from safetensors.torch import load_file

    model = export_model(folder / name, exported)
    weights = load_file(next((model / "transformer").glob("*.safetensors")))
    assert not any("lora" in key for key in weights)
    if not any(".lora_" in key for key in network_state(whole)):
        assert largest_difference(weights, network_state(whole)) == 0


@pytest.fixture(scope="module")
def fsdp_runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with checkpoints as one file, and with shards and LoRA."""
    folder = tmp_path_factory.mktemp("fsdp")
    fsdp = (*COMMON, "trainer=fsdp", *TWO, "data.batch_size=1")
    sharded = ("trainer.strategy.checkpoints=sharded", "optimizer.lora.rank=2")
    run_two_processes(folder, {"full": fsdp, "sharded": (*fsdp, *sharded)})
    return folder


def test_shards_hold_the_average_and_are_whole(fsdp_runs: Path) -> None:
    """Written in the background, named when whole; nothing of the average is gathered into the small file."""
    run = fsdp_runs / "sharded"
    assert not list(run.glob("*.part"))
    step = run / "step-000001.ckpt"
    beside = torch.load(step / "meta.pt", weights_only=True)
    assert "ema" not in beside["sparkvsr"]
    average = read_checkpoint(step)["sparkvsr"]["ema"]
    assert average
    assert all(".lora_" in name for name in average)


@pytest.mark.parametrize(("name", "extra"), [("full", ()), ("sharded", ("optimizer.lora.rank=2",))])
def test_fsdp_equals_one_process_and_resumes_exactly(
    fsdp_runs: Path, train_small: Callable[..., tuple[Path, object]], tmp_path: Path, name: str, extra: tuple[str, ...]
) -> None:
    one, _ = train_small(*COMMON, *extra, "data.batch_size=2", name="one")
    assert (fsdp_runs / name / "last.ckpt").is_dir() == (name == "sharded")
    assert read_header(fsdp_runs / name / "last.ckpt")["global_step"] == 2
    check_run(fsdp_runs, name, one / "last.ckpt", tmp_path / "exported")


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is None, reason="needs the extra deepspeed")
def test_deepspeed_equals_one_process_and_resumes_exactly(
    train_small: Callable[..., tuple[Path, object]], tmp_path: Path
) -> None:
    zero = (*COMMON, "trainer=deepspeed", *TWO, "data.batch_size=1")
    run_two_processes(tmp_path, {"zero": zero, "lora": (*zero, "optimizer.lora.rank=2")})
    for name, extra in (("zero", ()), ("lora", ("optimizer.lora.rank=2",))):
        one, _ = train_small(*COMMON, *extra, "data.batch_size=2", name=f"one_{name}")
        assert (tmp_path / name / "last.ckpt" / "checkpoint").is_dir()
        check_run(tmp_path, name, one / "last.ckpt", tmp_path / f"exported_{name}")


def test_optimiser_state_of_another_strategy_is_refused(
    fsdp_runs: Path, train_small: Callable[..., tuple[Path, object]]
) -> None:
    for name in ("full", "sharded"):
        with pytest.raises(ConfigError, match=r"written by trainer=fsdp.*init="):
            train_small(*COMMON, f"ckpt={fsdp_runs / name / 'last.ckpt'}", "trainer.max_steps=4")
    folder, _ = train_small(*COMMON, f"init={fsdp_runs / 'full'}", name="started")
    before = network_state(read_checkpoint(fsdp_runs / "full" / "last.ckpt"))
    after = network_state(read_checkpoint(folder / "last.ckpt"))
    assert 0 < largest_difference(before, after) < 0.1


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("trainer=fsdp", "model=lite"), "model=lite is small"),
        (("trainer=fsdp", "trainer.strategy.checkpoints=some"), "checkpoints=some is unknown"),
        (("trainer.strategy=fsdp",), "choose it by trainer=fsdp"),
        (("trainer=fsdp", "trainer.strategy.shard_over=0"), "shard_over=0 must be at least 1"),
    ],
)
def test_refusals(train_small: Callable[..., object], tmp_path: Path, overrides: tuple[str, ...], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        train_small(*COMMON, *overrides, "trainer.accelerator=cpu", "trainer.devices=2", name="refused")
    assert not (tmp_path / "refused").exists()


def test_processes_started_from_outside_need_a_named_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.config import compose_config
    from sparkvsr.training.run import train

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "test")
    with pytest.raises(ConfigError, match=r"by paths.output_dir"):
        train(compose_config([*COMMON]))


def test_zero_stage_3_keeps_no_average(monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.training.adapters.nano import build_nano_adapter
    from sparkvsr.training.strategies import ZeroStrategy, check_strategy

    strategy = ZeroStrategy.__new__(ZeroStrategy)
    strategy.stage = 3
    with pytest.raises(ConfigError, match="stages 1 and 2"):
        check_strategy(strategy, build_nano_adapter(), averages=True)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sparkvsr\[deepspeed\]'"):
        ZeroStrategy()


def test_pixels_stay_float32_under_deepspeed() -> None:
    from lightning.pytorch.plugins.precision import DeepSpeedPrecision

    from sparkvsr.training.strategies import ZeroStrategy

    strategy = ZeroStrategy.__new__(ZeroStrategy)
    strategy.precision_plugin = DeepSpeedPrecision("bf16-mixed")
    pixels = torch.rand(2, 3)
    assert strategy.precision_plugin.convert_input(pixels) is pixels
