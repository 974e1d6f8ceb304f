"""`--look`: what is planned, rendered and recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import av
import pytest
import torch
from typer.testing import Result
from upscale_clips import run, sparkvsr, write_clip

from sparkvsr.models.lite import detail


@pytest.fixture(autouse=True)
def _tiny_network(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny detail network in place of the embedded one: these tests are about the command."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("weights")
    detail.save_detail_upscaler(folder, detail.DetailUpscalerNet(detail.DetailConfig(8, 4, 1)))
    file = folder / detail.DETAIL_FILE
    own = detail.detail_file
    monkeypatch.setattr(detail, "detail_file", lambda folder=None: file if folder is None else own(folder))
    monkeypatch.setattr("sparkvsr.models.lite.model.detail_file", detail.detail_file)
    monkeypatch.setattr("sparkvsr.models.lite.upscaler.detail_file", detail.detail_file)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "in.mp4", frames=18)


def plan_of(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    return next(event for event in events if event["event"] == "plan")


def comment(path: Path) -> str:
    with av.open(str(path)) as container:
        return container.metadata["comment"]


def test_vivid_is_the_default_and_says_so(clip: Path) -> None:
    result = run(clip, "--scenes")
    assert result.exit_code == 0, result.output
    assert "model lite (vivid)" in result.stdout
    assert re.search(r"keyframes: shot starts, and \d between them by the look of the motion: 0, \d", result.stdout)
    assert "references: detail" in result.stdout
    assert comment(clip.with_name("in_x4.mp4")).endswith("model lite, look vivid")


def test_faithful_adds_no_keyframes(clip: Path) -> None:
    plan = plan_of(run(clip, "--look", "faithful", "--scenes", "--json"))
    assert plan["look"] == "faithful"
    assert plan["keyframes"] == [0]
    assert plan["own_keyframes"] == []
    assert plan["references"] == "lite"
    assert comment(clip.with_name("in_x4.mp4")).endswith("model lite, look faithful")


def test_the_models_own_keyframes_lie_between_those_of_a_folder(clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    assert sparkvsr("keyframes", clip, "--keyframes", "9", "-o", refs).exit_code == 0
    plan = plan_of(run(clip, "--references", refs, "--dry-run", "--json"))
    assert 9 in plan["keyframes"]
    assert 9 not in plan["own_keyframes"]
    assert set(plan["own_keyframes"]) | {9} == set(plan["keyframes"])
    assert plan["own_keyframes"]
    assert "detail between them" in plan["references"]


def test_keyframes_auto_works_in_both_looks(clip: Path) -> None:
    for look in ("vivid", "faithful"):
        plan = plan_of(run(clip, "--keyframes", "auto", "--look", look, "--dry-run", "--json"))
        assert plan["keyframes"][0] == 0
        assert len(plan["keyframes"]) >= 2


def test_no_keyframes_are_none_in_any_look(clip: Path) -> None:
    plan = plan_of(run(clip, "--no-keyframes", "--dry-run", "--json"))
    assert plan["keyframes"] == plan["own_keyframes"] == []
    assert plan["look"] == "vivid"


@pytest.mark.parametrize(
    ("options", "words"),
    [(("--look", "pretty"), "vivid or faithful"), (("--look", "vivid", "--model", "bicubic"), "one")],
)
def test_looks_that_are_not_there_are_refused(clip: Path, options: tuple[str, ...], words: str) -> None:
    result = run(clip, *options)
    assert result.exit_code == 2
    assert words in result.stderr
    assert "Traceback" not in result.stderr


def test_interrupted_and_whole_runs_agree(clip: Path, tmp_path: Path) -> None:
    """Pieces of another look are not taken for this one's; the same look's are."""
    work = tmp_path / "work"
    first = run(clip, "--look", "vivid", "--work", work, "-o", tmp_path / "a.mp4")
    assert first.exit_code == 0, first.output
    again = run(clip, "--look", "vivid", "--work", work, "-o", tmp_path / "b.mp4")
    other = run(clip, "--look", "faithful", "--work", work, "-o", tmp_path / "c.mp4")
    assert "18 of 18 frames are in" in again.stdout
    assert "frames are in" not in other.stdout
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
