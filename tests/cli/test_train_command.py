"""`sparkvsr train` and `sparkvsr export` as a user types them."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

SMALL = ["model=lite", "debug=quick", "data.validation.num_clips=1", "model.upscaler.blocks=1"]


@pytest.fixture(scope="module")
def app() -> Any:
    """The installed command with both subcommands."""
    import importlib

    import typer

    entry = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load()
    main = importlib.import_module(entry.__module__)
    names = {command.name or command.callback.__name__ for command in main.app.registered_commands}
    if not {"train", "export"} <= names:
        built = typer.Typer(cls=main.ErrorBoundary, pretty_exceptions_enable=False)
        built.callback()(main.main)
        built.command()(importlib.import_module("sparkvsr.cli.train").train)
        built.command()(importlib.import_module("sparkvsr.cli.export").export)
        return built
    return main.app


def test_print_config_shows_the_stage(app: Any) -> None:
    result = CliRunner().invoke(app, ["train", "--print-config", "stage=2"])
    assert result.exit_code == 0
    assert "stage: 2" in result.output
    assert "PixelLoss" in result.output


def test_a_wrong_key_is_one_line_with_the_right_one(app: Any) -> None:
    result = CliRunner().invoke(app, ["train", "stage=1", "trainer.max_step=3"])
    assert result.exit_code == 2
    assert "trainer.max_steps" in result.output
    assert isinstance(result.exception, SystemExit)
    assert len(result.output.strip().splitlines()) == 1


def test_train_then_export(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["train", "stage=1", *SMALL, "paths.output_dir=run"])
    assert result.exit_code == 0, result.output
    assert "validation PSNR" in result.output
    assert "samples/s" in result.output
    result = CliRunner().invoke(app, ["export", "run", "-o", "out"])
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "propagator.safetensors").is_file()
    assert "seed | 42" in (tmp_path / "out" / "README.md").read_text()
    result = CliRunner().invoke(app, ["export", "run", "-o", "out"])
    assert result.exit_code == 2
    assert "--overwrite" in result.output


def test_an_interrupted_run_exits_130(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.training.callbacks import StopRequest

    def ask_at_once(self: StopRequest, trainer: object, pl_module: object) -> None:
        self._seen_step, self.asked = 0, True

    monkeypatch.setattr(StopRequest, "on_train_start", ask_at_once)
    result = CliRunner().invoke(app, ["train", "stage=1", *SMALL, f"paths.output_dir={tmp_path / 'run'}"])
    assert result.exit_code == 130
    assert "stopped, saved at step 1" in result.output
    assert (tmp_path / "run" / "last.ckpt").is_file()
