"""`sparkvsr train --multirun`: one run for each of several values."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from sparkvsr.config import sweep_texts
from sparkvsr.errors import TrainingError


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Configurations that would have been trained; a rate of 1 fails."""
    done: list[Any] = []

    def train(config: Any, hook: Any, origin: Any) -> None:
        done.append(config)
        if config.optimizer.learning_rate == 1:
            msg = "the run stopped"
            raise TrainingError(msg)
        value = 30 + config.stage
        hook({"event": "validation", "step": 1, "values": {"psnr_rgb": value, "psnr_rgb_bicubic": 29.0}})

    monkeypatch.setattr(importlib.import_module("sparkvsr.training.run"), "train", train)
    monkeypatch.chdir(tmp_path)
    return done


def test_every_value_gets_a_run_and_a_failure_is_noted(runs: list[Any], tmp_path: Path) -> None:
    app = importlib.import_module("sparkvsr.cli.main").app
    words = ["stage=2", "model=tiny", "optimizer.learning_rate=1,1e-3", "paths.output_dir=s", "ckpt=auto"]
    result = CliRunner().invoke(app, ["train", "--multirun", *words])
    assert result.exit_code == 1, result.output
    assert [(c.stage, c.optimizer.learning_rate) for c in runs] == [(2, 1), (2, 1e-3)]
    assert [c.paths.output_dir for c in runs] == [str(tmp_path / "s" / f"{number:03d}") for number in range(2)]
    rows = [line.split("\t") for line in (tmp_path / "s" / "sweep.tsv").read_text().splitlines()[1:]]
    assert [(row[0], row[1], row[3]) for row in rows] == [("000", "nan", "the run stopped"), ("001", "32", "")]
    assert "run 000  failed: the run stopped" in result.output


def test_stages_are_quoted_for_hydra() -> None:
    assert sweep_texts(["stage=1,2", "data.root=a,b", "x=1,2"]) == ["stage='1','2'", "data.root='a,b'", "x=1,2"]
    assert sweep_texts(["init='a','b'"]) == ["init='a','b'"]


def test_what_a_sweep_cannot_do_is_one_line(runs: list[Any]) -> None:
    app = importlib.import_module("sparkvsr.cli.main").app
    for words, answer in (
        (["ckpt=last"], "ckpt=auto goes on with each run"),
        (["hydra.launcher.x=1"], "Hydra's own settings are not used"),
    ):
        result = CliRunner().invoke(app, ["train", "--multirun", *words])
        assert result.exit_code == 2, result.output
        assert answer in " ".join(result.output.split())
        assert len(result.output.strip().splitlines()) == 1
    result = CliRunner().invoke(app, ["train", "--multirun", "trainer.devices=2", "paths.output_dir=two"])
    assert result.exit_code == 1
    assert "in one process" in result.output
    assert not runs
