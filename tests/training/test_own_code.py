"""Own losses, degradations, metrics and callbacks from a folder or a package: the example of docs/training.md runs."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr import config as configuration
from sparkvsr.config import compose_config, plain
from sparkvsr.errors import ConfigError
from sparkvsr.losses.given import LossInputs
from sparkvsr.training.build import build
from sparkvsr.training.checkpoints import read_checkpoint
from sparkvsr.training.resume import compose_run
from sparkvsr.training.run import train
from sparkvsr.training.trusted_targets import check_targets
from sparkvsr.training.validation_metrics import Dists, Lpips, Psnr, Ssim
from sparkvsr.video import VideoWriter

from .conftest import SMALL_LITE, Recorder

DOCS = Path(__file__).resolve().parents[2] / "docs" / "training.md"


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder LAB of the documentation, file by file."""
    text = DOCS.read_text(encoding="utf-8")
    for name, block in re.findall(r"`LAB/([\w/.]+)`:\n\n```\w+\n(.*?)```", text, re.DOTALL):
        file = tmp_path / "LAB" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path / "LAB"
    sys.modules.pop("my_lab", None)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """Two folders of one clip each: LQ 24x32, GT four times as large."""
    torch.manual_seed(1)
    for name, size in (("LQ", (24, 32)), ("GT", (96, 128))):
        with VideoWriter(tmp_path / "bench" / name / "clip", source=None, size=size) as writer:
            for index in range(3):
                writer.write(torch.linspace(0, 1, size[1]).roll(index).expand(3, *size))
    return tmp_path / "bench"


def documented_command() -> list[str]:
    """The words after ``sparkvsr train`` of the example."""
    text = DOCS.read_text(encoding="utf-8")
    command = re.search(r"    sparkvsr train (--config-dir LAB .*?)\n\n", text, re.DOTALL)
    assert command is not None
    return shlex.split(command[1].replace("\\\n", " "))


def test_the_documented_folder_trains(lab: Path, pairs: Path, tmp_path: Path) -> None:
    words = documented_command()
    assert words[:2] == ["--config-dir", "LAB"]
    given = [*words[2:], *SMALL_LITE, f"paths.output_dir={tmp_path / 'run'}", "trainer.max_steps=1"]
    given += [f"data.validation_pairs.lr_root={pairs / 'LQ'}", f"data.validation_pairs.gt_root={pairs / 'GT'}"]
    config, origin = compose_run([*given, "callbacks.validate_every=1"], lab)
    events = Recorder()
    run = train(config, events, origin)
    terms = events.last("step")["terms"]
    assert terms["loss"] == pytest.approx(terms["l1"] + 0.5 * terms["beside"], rel=1e-5)
    assert events.last("start")["recipe"]["losses"] == "l1 (L1) 1 + beside (BesideKeyframes) 0.5"
    values = events.last("validation")["values"]
    assert set(values) == {"psnr_rgb", "psnr_rgb_bicubic", "worst", "worst_bicubic"}
    best = events.last("best")
    assert (best["metric"], best["value"]) == ("worst", pytest.approx(values["worst"]))
    assert events.last("done")["exported"] == "best.ckpt"
    card = (run / "model" / "README.md").read_text()
    assert "of `best.ckpt`" in card
    assert "| degradation | Dusty |" in card
    assert "EarlyStopping" in str(read_checkpoint(run / "last.ckpt")["callbacks"].keys())


def test_the_documented_term_sees_the_keyframes(lab: Path) -> None:
    sys.path.append(str(lab))
    term = build({"_target_": "my_lab.BesideKeyframes"}, "term")
    truth = torch.zeros(2, 3, 3, 4, 4)
    restored = truth + torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1, 1, 1)
    given = LossInputs(restored=restored, truth=truth, keyframe_indices=torch.tensor([[0, 2], [1, -1]]))
    assert float(term.measure(given)) == pytest.approx((2 + 1 + 4) / 3)


def test_a_package_brings_groups_along(lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "a_lab" / "conf"
    package.parent.mkdir(parents=True)
    lab.rename(package)
    for folder in (package.parent, package):
        (folder / "__init__.py").touch()
    sys.path.append(str(tmp_path / "site"))
    monkeypatch.setattr(configuration, "entry_points", lambda group: [SimpleNamespace(value="a_lab.conf")])
    assert compose_config(["degradation=dusty"]).degradation._target_ == "my_lab.Dusty"
    with pytest.raises(ConfigError, match=r"did you mean degradation\.share"):
        compose_config(["degradation=dusty", "degradation.shere=1"])
    for name in ("a_lab.conf", "a_lab"):
        sys.modules.pop(name, None)


def test_what_cannot_be_built_says_why() -> None:
    with pytest.raises(ConfigError, match=r"loss: Error loading 'my_losses.Fourier': No module named 'my_losses'; own"):
        build({"_target_": "my_losses.Fourier"}, "loss")
    node = {"_target_": "lightning.pytorch.callbacks.ModelCheckpoint", "dirpath": "/elsewhere"}
    with pytest.raises(ConfigError, match=r"callbacks\.x names 'lightning.pytorch.callbacks.ModelCheckpoint'"):
        check_targets({"callbacks": {"x": node}}, "a stranger's", advice="{key}{name}")


def test_metrics_are_those_of_eval(shared_dir: Path, tmp_path: Path) -> None:
    from sparkvsr.metrics import Toolbox, WeightStore, psnr_y, ssim

    torch.manual_seed(0)
    sr, hr = torch.rand(2, 3, 40, 48), torch.rand(2, 3, 40, 48)

    def mean(measure: object) -> float:
        return float(np.mean([measure(a, b) for a, b in zip(sr, hr, strict=True)]))  # type: ignore[operator]

    assert Psnr("y")(sr, hr) == pytest.approx(mean(psnr_y))
    assert Ssim()(sr, hr) == pytest.approx(mean(ssim))
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("perceptual", "metric"):
        for file in (shared_dir / "weights" / name).iterdir():
            (folder / file.name).symlink_to(file)
    tools = Toolbox(WeightStore(folder))

    def whole(image: Tensor) -> Tensor:
        return image.mul(255).round().div(255)[None]

    for metric, reference in ((Lpips(weights=folder), tools.lpips_alex), (Dists(folder), tools.dists)):
        assert not metric.higher_is_better
        assert metric(sr, hr) == pytest.approx(mean(lambda a, b, r=reference: r(whole(a), whole(b))), abs=1e-5)
    with pytest.raises(ConfigError, match="channels=uv"):
        Psnr("uv")
    names = set(plain(compose_config(["metrics=perceptual"]).metrics))
    assert names == {"psnr_rgb", "psnr_y", "ssim_y", "lpips", "dists"}
