"""`sparkvsr train` and `sparkvsr export` as a user types them."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from sparkvsr.video import VideoReader, VideoWriter

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


def run_command(app: Any, *words: str) -> str:
    """Run a command that has to succeed; its output."""
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == 0, result.output
    return result.output


def write_small_clip(path: Path, num_frames: int = 9) -> None:
    """A moving gradient, 32x16."""
    with VideoWriter(path, source=None, size=(16, 32)) as writer:
        for index in range(num_frames):
            writer.write(torch.linspace(0, 1, 32).roll(index).expand(3, 16, 32))


def check_chain(app: Any, *overrides: str) -> None:
    """Stage 1, stage 2 from it, export and upscale, each by its command, in the present folder."""
    write_small_clip(Path("clip.mp4"))
    output = run_command(app, "train", "stage=1", *overrides, "paths.output_dir=one", "export_at_end=false")
    assert "validation PSNR" in output
    assert "samples/s" in output
    assert "learning rate" in output
    run_command(app, "train", "stage=2", *overrides, "init=one", "paths.output_dir=two", "loss.dists_weight=0")
    run_command(app, "export", "two", "-o", "exported")
    assert "| started from | one |" in Path("exported/README.md").read_text()
    run_command(app, "upscale", "clip.mp4", "--model", "exported", "-o", "out.mkv", "--codec", "ffv1")
    with VideoReader("out.mkv") as reader:
        frames = [frame.pixels for frame in reader]
    assert (len(frames), tuple(frames[0].shape)) == (9, (3, 64, 128))


def test_the_chain_of_lite(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    check_chain(app, *SMALL)
    result = CliRunner().invoke(app, ["export", "two", "-o", "exported"])
    assert result.exit_code == 2
    assert "--overwrite" in result.output


@pytest.mark.shared
def test_the_chain_of_the_golden_model(
    app: Any, shared_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = shared_dir / "golden" / "model"
    sizes = ("data.num_frames=9", "data.batch_size=1", "data.validation_frames=9", "data.validation.num_clips=1")
    check_chain(app, "model=cogvideox", f"model.path={path}", "debug=quick", *sizes)
    golden, trained = (
        load_file(folder / "transformer" / "diffusion_pytorch_model.safetensors")
        for folder in (path, tmp_path / "exported")
    )
    assert set(golden) == set(trained)
    changed = [name for name in golden if not torch.equal(golden[name], trained[name])]
    assert len(changed) > len(golden) // 2
    assert (tmp_path / "exported" / "vae" / "config.json").is_file()


def test_an_interrupted_run_exits_130(app: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparkvsr.training.callbacks import StopRequest

    def ask_at_once(self: StopRequest, trainer: object, pl_module: object) -> None:
        self._seen_step, self.asked = 0, True

    run = tmp_path / "run_stage1"
    with monkeypatch.context() as patched:
        patched.setattr(StopRequest, "on_train_start", ask_at_once)
        result = CliRunner().invoke(app, ["train", "stage=1", *SMALL, f"paths.output_dir={run}"])
    assert result.exit_code == 130
    assert "stopped, saved at step 1" in result.output
    assert "Error" not in result.output
    assert "validation PSNR" not in result.output
    assert not (run / "model").exists()
    # The checkpoint alone says how the run goes on; what is typed beside it wins.
    output = run_command(app, "train", f"ckpt={run / 'last.ckpt'}", "trainer.max_steps=3")
    assert "step 3/3" in output
    assert "done at step 3" in output
    assert (run / "model" / "propagator.safetensors").is_file()
    monkeypatch.chdir(tmp_path)
    # A named folder is never left, though there is a run beside it.
    result = CliRunner().invoke(app, ["train", "ckpt=last", f"paths.output_dir={tmp_path / 'another'}"])
    assert result.exit_code == 2
    assert "holds no run with a checkpoint" in result.output
    result = CliRunner().invoke(app, ["train", "ckpt=last", f"paths.output_dir={run}"])
    assert result.exit_code == 2
    assert f"{run / 'last.ckpt'} is at step 3 and trainer.max_steps=3" in " ".join(result.output.split())
