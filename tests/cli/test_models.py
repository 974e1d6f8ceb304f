"""`sparkvsr models` and `sparkvsr profile`."""

from __future__ import annotations

import json
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result


def run(*arguments: str | Path) -> Result:
    app = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load().__globals__["app"]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_models_lists_the_built_in_ones(tmp_path: Path) -> None:
    result = run("models", tmp_path)
    assert result.exit_code == 0, result.output
    assert "lite " in result.stdout
    assert "bicubic" in result.stdout


@pytest.mark.shared
def test_models_finds_a_folder(shared_dir: Path) -> None:
    result = run("models", shared_dir / "golden")
    assert str(shared_dir / "golden" / "model") in result.stdout
    assert "269,723 parameters" in result.stdout
    assert "NOT USABLE" in result.stdout  # the folder with configs of the real model has no weights


def test_the_old_name_of_profile_works_and_says_the_new_one() -> None:
    result = run("bench", "--model", "bicubic", "--size", "64x48", "--frames", "2", "--json")
    assert result.exit_code == 0, result.output
    assert "sparkvsr profile" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "write" in json.loads(result.stdout)["stages"]
    shown = run("--help").stdout
    assert "│ profile " in shown
    assert "│ bench " not in shown


def test_profile_measures_every_stage() -> None:
    result = run("profile", "--model", "bicubic", "--size", "64x48", "--frames", "4", "--json")
    assert result.exit_code == 0, result.output
    measured = json.loads(result.stdout)
    assert {"restore", "write"} <= set(measured["stages"])
    assert all(stage["seconds"] > 0 for stage in measured["stages"].values())


def test_profile_refuses_a_bad_size() -> None:
    result = run("profile", "--size", "big")
    assert result.exit_code == 2
    assert "WIDTHxHEIGHT" in result.stderr
