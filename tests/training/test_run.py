"""Whole runs: both stages, resuming, exporting, stopping."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from sparkvsr.errors import ConfigError, EncodeError, WeightsError
from sparkvsr.output_lock import OutputLock
from sparkvsr.training.callbacks import StopRequest
from sparkvsr.training.checkpoints import network_state, read_checkpoint
from sparkvsr.training.export import export_model
from sparkvsr.training.run import _fit

from .conftest import SMALL, SMALL_LITE

Train = Callable[..., tuple[Path, "object"]]
# A resumed run does the same arithmetic in the same order.
EXACT = 0.0


def test_the_two_stage_chain_of_lite_ends_in_a_folder_that_upscales(train_small: Train) -> None:
    first, events = train_small("stage=1", *SMALL_LITE, "optimizer.ema_decay=0.9", name="one")
    assert set(events.losses()) == {1, 2}  # type: ignore[attr-defined]
    second, _ = train_small("stage=2", *SMALL_LITE, f"init={first}", "data.image_ratio=0.5", name="two")
    for name in ("last.ckpt", "config.yaml", "environment.yaml", "logs/csv/metrics.csv", "model/README.md"):
        assert (second / name).is_file(), name
    assert list((second / "validation").rglob("*.png"))
    assert list((second / "validation").rglob("*.mp4"))
    metrics = (second / "logs" / "csv" / "metrics.csv").read_text()
    assert all(f"train/{name}" in metrics for name in ("tflops", "data_wait", "gradient_norm", "samples_per_second"))
    assert "learning_rate" in (second / "logs" / "csv" / "hparams.yaml").read_text(), "the configuration"
    environment = (second / "environment.yaml").read_text()
    assert "git_revision" in environment
    assert "seed: '42'" in environment

    from sparkvsr.models.registry import load_model

    model = load_model(second / "model", device="cpu")
    lr = torch.rand(3, 3, 24, 32)
    out = model.restore(lr, torch.rand(1, 3, 96, 128), [0])
    assert out.shape == (3, 3, 96, 128)


def test_the_two_stage_chain_of_the_nano_model_ends_in_a_diffusers_folder(train_small: Train, tmp_path: Path) -> None:
    first, _ = train_small("stage=1", *SMALL, "export_at_end=false", name="one")
    second, events = train_small("stage=2", *SMALL, f"init={first}", "data.image_ratio=0.5", name="two")
    assert "mse" in events.last("step")["terms"]  # type: ignore[attr-defined]
    name = f"my.model v2-{'m' * 240}"
    folder = export_model(second, tmp_path / name)
    assert f"\n# {name}\n" in (folder / "README.md").read_text()
    half = export_model(second, tmp_path / "half", dtype="bf16")
    for part in ("transformer", "vae"):
        kept = load_file(next((half / part).glob("*.safetensors")))
        assert {tensor.dtype for tensor in kept.values()} == {torch.bfloat16}
    with pytest.raises(ConfigError, match="--dtype fp64 is unknown"):
        export_model(second, tmp_path / "no", dtype="fp64")

    from sparkvsr.models.registry import load_model

    model = load_model(folder, device="cpu", dtype="fp32")
    assert model.restore(torch.rand(9, 3, 16, 16), torch.rand(1, 3, 64, 64), [0]).shape == (9, 3, 64, 64)


@pytest.mark.parametrize("settings", [("stage=1",), ("stage=2", "data.image_ratio=0.5")], ids=["stage1", "stage2"])
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(train_small: Train, settings: tuple[str, ...]) -> None:
    common = (*settings, *SMALL, "trainer.max_steps=4", "export_at_end=false", "optimizer.ema_decay=0.9")
    common += ("trainer.accumulate_grad_batches=2", "callbacks.validate_every=3", "callbacks.checkpoint_every=2")
    whole, through = train_small(*common, name="whole")
    half, begin = train_small(*common, "trainer.max_steps=2", "optimizer.schedule.max_steps=4", name="half")
    again, rest = train_small(*common, f"ckpt={half / 'last.ckpt'}")
    assert again == half
    joined = {**begin.losses(), **rest.losses()}  # type: ignore[attr-defined]
    assert joined == pytest.approx(through.losses(), abs=EXACT)  # type: ignore[attr-defined]
    assert set(rest.losses()) == {3, 4}  # type: ignore[attr-defined]
    one, two = read_checkpoint(whole / "last.ckpt"), read_checkpoint(half / "last.ckpt")
    for ema in (True, False):
        first, second = network_state(one, ema=ema), network_state(two, ema=ema)
        assert all(torch.equal(first[key], second[key]) for key in first)


def test_ctrl_c_saves_after_the_step_and_the_run_goes_on(
    train_small: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_at_once(self: StopRequest, trainer: object, pl_module: object) -> None:
        self._seen_step, self.asked = 0, True

    with monkeypatch.context() as patched:
        patched.setattr(StopRequest, "on_train_start", ask_at_once)
        with pytest.raises(KeyboardInterrupt):
            train_small("stage=1", *SMALL, "trainer.max_steps=3", name="a_stage1")
    checkpoint = tmp_path / "a_stage1" / "last.ckpt"
    assert read_checkpoint(checkpoint)["global_step"] == 1
    _, rest = train_small("stage=1", *SMALL, "trainer.max_steps=3", f"ckpt={checkpoint}")
    assert set(rest.losses()) == {2, 3}  # type: ignore[attr-defined]


def test_lora_trains_little_and_exports_plain_weights(train_small: Train, tmp_path: Path) -> None:
    folder, _ = train_small("stage=1", *SMALL, "optimizer.lora.rank=2", "export_at_end=false", name="lora")
    state = network_state(read_checkpoint(folder / "last.ckpt"))
    assert any(".lora_" in key for key in state)
    exported = export_model(folder, tmp_path / "plain")
    from safetensors.torch import load_file

    weights = load_file(next((exported / "transformer").glob("*.safetensors")))
    assert not any("lora" in key for key in weights)
    with pytest.raises(ConfigError, match="match no layer"):
        train_small("stage=1", *SMALL, "optimizer.lora.rank=2", "optimizer.lora.targets=[nothing]", name="none")


def test_precomputed_latents_train(train_small: Train) -> None:
    overrides = ("data.precompute.enabled=true", "data.precompute.num_samples=2", "data.precompute.latents=true")
    _, events = train_small("stage=1", *SMALL, *overrides, "export_at_end=false")
    assert set(events.losses()) == {1, 2}  # type: ignore[attr-defined]


def test_refusals_before_any_step(train_small: Train, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="8n"):
        train_small("stage=1", *SMALL, "data.num_frames=7", name="a")
    with pytest.raises(ConfigError, match="multiples of 16"):
        train_small("stage=1", *SMALL, "data.crop=[64,72]", name="b")
    with pytest.raises(ConfigError, match="max_steps=0"):
        train_small("stage=1", *SMALL, "trainer.max_steps=0", name="d")
    with pytest.raises(ConfigError, match="holds no run"):
        train_small("stage=1", *SMALL, "ckpt=last", f"paths.output_dir={tmp_path / 'none' / 'x'}")
    with pytest.raises(ConfigError, match="does not exist"):
        train_small("stage=1", *SMALL, "ckpt=/nothing.ckpt")
    with pytest.raises(ConfigError, match="does not exist"):
        train_small("stage=1", *SMALL, "init=/nothing", name="f")
    assert not (tmp_path / "f").exists()
    with pytest.raises(ConfigError, match=r"frobnicate"):
        train_small("stage=1", *SMALL, "+trainer.frobnicate=1", name="e")


def test_export_refusals(train_small: Train, tmp_path: Path) -> None:
    folder, _ = train_small("stage=1", *SMALL, "export_at_end=false")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(ConfigError, match="--overwrite"):
        export_model(folder, tmp_path / "full")
    with pytest.raises(ConfigError, match="no moving average"):
        export_model(folder, tmp_path / "out", ema=True)
    with pytest.raises(ConfigError, match=r"holds no \*.ckpt"):
        export_model(tmp_path / "full", tmp_path / "out")
    (tmp_path / "bad.ckpt").write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="is no checkpoint of sparkvsr train"):
        export_model(tmp_path / "bad.ckpt", tmp_path / "out")
    with OutputLock(folder), pytest.raises(EncodeError, match=r"another sparkvsr writes .*paths\.output_dir"):
        train_small("stage=1", *SMALL, f"ckpt={folder}", "trainer.max_steps=9")
    with pytest.raises(ConfigError, match="already holds a run"):
        train_small("stage=1", *SMALL)
    assert not list(tmp_path.glob(".out*"))


def test_a_second_interrupt_is_an_interrupt_and_no_failure(tmp_path: Path) -> None:
    def fit(*_: object, **__: object) -> None:
        sys.exit(1)  # Lightning's end

    for asked, raised in ((True, KeyboardInterrupt), (False, SystemExit)):
        begun: Any = SimpleNamespace(
            trainer=SimpleNamespace(fit=fit), module=None, data=None, stop=SimpleNamespace(asked=asked)
        )
        with pytest.raises(raised):
            _fit(begun, None, tmp_path)
