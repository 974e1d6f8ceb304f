"""model=cogvideox trains the paper's recipe unless something else is typed, and a run says what it does."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparkvsr.config import compose_config, load_config, plain, shipped_option
from sparkvsr.errors import ConfigError
from sparkvsr.training.build import settle_trainer
from sparkvsr.training.export import export_model
from sparkvsr.training.recipe import departures, device_notes, loss_text

PAPER = ("model=cogvideox", "model.path=/x")
SMALL = ("debug=quick", "data.num_frames=9", "data.batch_size=1", "data.validation=null", "trainer.max_steps=1")
SMALL = (*SMALL, "data.validation_frames=9")


@pytest.mark.parametrize("stage", [1, 2])
def test_the_defaults_are_the_papers(stage: int) -> None:
    config = compose_config([f"stage={stage}", *PAPER, "data=folder", "data.root=/d", "trainer=fsdp"])
    assert config.degradation._target_.endswith("SecondOrderDegradation")
    assert config.degradation.quirks is True
    assert departures(config, 8) == []
    assert config.choices.recipe == f"cogvideox_{stage}"


def test_typed_groups_and_experiments_win() -> None:
    experiment = compose_config(["stage=2", *PAPER, "experiment=lite_detail_1", "data.image_root=/x", "trainer=cpu"])
    assert (experiment.choices.degradation, experiment.choices.trainer) == ("real", "cpu")


def test_what_is_not_as_in_the_paper_is_named() -> None:
    typed = ("degradation=mixed", "optimizer.learning_rate=1e-4", "keyframes=any", "optimizer.lora.rank=8")
    config = compose_config(["stage=1", *PAPER, *typed, "trainer=gpu"])
    found = departures(config, 2)
    assert found is not None
    for words in (
        "degradation MixedDegradation instead of SecondOrderDegradation",
        "optimizer.learning_rate 0.0001 instead of 2e-05",
        "keyframes.policy AnyPolicy instead of PaperPolicy",
        "optimizer.lora.rank 8 instead of 0",
        "2 samples a step instead of 8",
    ):
        assert words in found
    config.degradation = {**shipped_option("degradation", "parity"), "jpeg_quality": [40, 90], "device": "cpu"}
    assert "degradation.jpeg_quality [40, 90] instead of [30, 95]" in departures(config, 8)
    assert not [text for text in departures(config, 8) if "device" in text]
    config.model._target_ = "another"
    assert departures(config, 4) is None


def test_losses_are_told_with_their_weights() -> None:
    assert loss_text({"_target_": "a.LatentLoss", "kind": "mse"}) == "LatentLoss mse"
    pixel = {"_target_": "a.PixelLoss", "kind": "mse", "fidelity_weight": 1.0, "dists_weight": 0.5, "lpips_weight": 0}
    assert loss_text(pixel) == "mse 1 + dists 0.5"
    both = compose_config(["stage=2", "loss=latent_pixel", "loss.terms.l1.weight=0.5"]).loss
    assert loss_text(plain(both)) == "l1 (L1) 0.5 + latent (Latent) 1"


def test_the_trainer_is_a_gpu_where_there_is_one_and_an_idle_one_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    config = compose_config(["stage=1", *PAPER])
    assert (config.trainer.accelerator, config.trainer.precision) == ("auto", "auto")
    on_cpu: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cpu")))
    with monkeypatch.context() as patched:
        patched.setattr(torch.cuda, "is_available", lambda: True)
        patched.setattr(torch.cuda, "is_bf16_supported", lambda: True)
        settle_trainer(config)
        assert (config.trainer.accelerator, config.trainer.precision) == ("gpu", "bf16-mixed")
        assert "a GPU is there and is not used" in device_notes(config, on_cpu)[0]
    config.trainer.accelerator = config.trainer.precision = "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    settle_trainer(config)
    assert (config.trainer.accelerator, config.trainer.precision) == ("cpu", "32-true")
    assert "no GPU was found" in device_notes(config, on_cpu)[0]
    config.model._target_ = "another"
    assert device_notes(config, on_cpu) == []


def with_text_encoder(golden: Path, folder: Path) -> Path:
    """The base model as it is downloaded: a text encoder, and no embedding of the prompt."""
    from transformers import T5Config, T5EncoderModel

    shutil.copytree(golden, folder)
    shutil.rmtree(folder / "prompt_embeddings")
    sizes = {"vocab_size": 16, "d_model": 32, "d_kv": 4, "d_ff": 8, "num_layers": 1, "num_heads": 2}
    T5EncoderModel(T5Config(**sizes, tie_word_embeddings=False)).save_pretrained(folder / "text_encoder")
    return folder


@pytest.mark.shared
def test_the_base_as_downloaded_trains_and_exports_from_where_it_lies_now(
    train_small: Callable[..., tuple[Path, Any]], shared_dir: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    base = with_text_encoder(shared_dir / "golden" / "model", tmp_path / "base")
    overrides = ("stage=1", "model=cogvideox", f"model.path={base}", *SMALL, "optimizer.lora.rank=2")
    run, events = train_small(*overrides, "export_at_end=false")
    assert "low cpu memory" not in "".join(capfd.readouterr())  # of diffusers, about a package that is not needed
    start = events.last("start")
    assert start["recipe"]["degradation"] == "parity (SecondOrderDegradation)"
    assert "data.num_frames 9 instead of 33" in start["departures"]
    assert "far too slow" in events.last("note")["text"]
    assert (load_config(run / "config.yaml").trainer.accelerator, start["steps"]) == ("cpu", 1)
    base.rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"not there any more.*--model-path FOLDER"):
        export_model(run, tmp_path / "out")
    folder = export_model(run, tmp_path / "out", model_path=tmp_path / "moved")
    assert (folder / "vae" / "config.json").is_file()
    card = (folder / "README.md").read_text()
    trained, whole = start["trained_parameters"], start["parameters"]
    assert trained < whole // 10
    assert f"{whole - trained:,} parameters, {trained:,} trained (LoRA of rank 2, merged)" in card


def test_a_hub_id_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sparkvsr.training.adapters import cogvideox

    asked: list[str] = []

    def resolve(path: str) -> Path:
        asked.append(path)
        return tmp_path / "nothing"

    monkeypatch.setattr(cogvideox, "resolve_folder", resolve)
    with pytest.raises(Exception, match="does not exist"):
        cogvideox.build_cogvideox_adapter("owner/name")
    assert asked == ["owner/name"]
