"""Edit one keyframe, render again: only what it reaches is rendered, and the result equals a full run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import Result
from upscale_clips import decoded, picture, run, write_clip

HEIGHT, WIDTH = 24, 32


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """240 frames in two shots, each of two segments."""
    path = tmp_path_factory.mktemp("clips") / "in.mp4"
    return write_clip(path, frames=240, size=(HEIGHT, WIDTH), gop=250, cut=120)


def write_references(folder: Path, *frames: int) -> Path:
    """Images for the first frames of both shots."""
    folder.mkdir()
    for scene, index in enumerate(frames):
        image = picture(index, HEIGHT, WIDTH, scene).repeat(4, 0).repeat(4, 1)
        cv2.imwrite(str(folder / f"{index:05d}.png"), image[..., ::-1])
    return folder


def events(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    return {event["event"]: event for event in map(json.loads, result.stdout.splitlines())}


def test_one_edit_renders_its_shot_again_and_equals_a_full_run(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=40, size=(HEIGHT, WIDTH), gop=250, cut=17)
    refs, out = write_references(tmp_path / "refs", 0, 17), tmp_path / "out.mp4"
    first = events(run(clip, "-o", out, "--references", refs, "--json"))
    assert first["plan"]["shots"] == [[0, 17], [17, 40]]
    assert first["done"]["rendered"] == 40
    assert first["done"]["work"] == str(tmp_path / ".out.mp4.work")
    before = decoded(out)

    again = events(run(clip, "-o", out, "--references", refs, "--json", "--overwrite"))
    assert again["done"]["rendered"] == 0
    assert decoded(out) == before

    image = cv2.imread(str(refs / "00017.png"))
    cv2.putText(image, "EDIT", (10, 60), cv2.FONT_HERSHEY_SIMPLEX, 1, (255, 255, 255), 3)
    cv2.imwrite(str(refs / "00017.png"), image)
    edited = events(run(clip, "-o", out, "--references", refs, "--json", "--overwrite"))
    assert edited["resume"]["kept"] == 17
    assert edited["done"]["rendered"] == 23
    full = tmp_path / "full.mp4"
    assert events(run(clip, "-o", full, "--references", refs, "--json", "--no-work"))["done"]["rendered"] == 40
    assert decoded(out) == decoded(full)
    assert decoded(out)[:17] == before[:17]
    assert decoded(out)[17:] != before[17:]


def test_a_lost_state_only_costs_time(clip: Path, tmp_path: Path) -> None:
    work, out = tmp_path / "work", tmp_path / "out.mp4"
    arguments = [clip, "--frames", "120", "-o", out, "--work", work, "--keyframes", "0", "--look", "faithful", "--json"]
    assert events(run(*arguments))["done"]["rendered"] == 120
    before = decoded(out)
    segments = sorted((work / "segments").glob("*.mkv"), key=lambda path: path.stat().st_mtime)
    assert len(segments) == 2
    segments[1].unlink()  # the second half of the shot is gone, the state before it is there
    assert events(run(*arguments, "--overwrite"))["done"]["rendered"] == 60
    assert decoded(out) == before
    segments[1].write_bytes(b"damaged")
    segments[0].with_suffix(".safetensors").write_bytes(b"damaged")
    assert events(run(*arguments, "--overwrite"))["done"]["rendered"] == 120
    assert decoded(out) == before


def test_a_shot_is_never_continued_without_its_state(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sparkvsr.inference.clip.store import WorkStore

    work = tmp_path / "work"
    arguments = [clip, "--frames", "120", "--work", work, "--model", "bicubic", "--no-keyframes"]
    assert run(*arguments, "-o", tmp_path / "one.mp4").exit_code == 0
    sorted((work / "segments").glob("*.mkv"), key=lambda path: path.stat().st_mtime)[1].unlink()
    # It was there when the run was planned, and is gone now: a disk that dies.
    monkeypatch.setattr(WorkStore, "state", lambda self, key: None)
    result = run(*arguments, "-o", tmp_path / "two.mp4")
    assert result.exit_code == 1
    assert "state before frame 60 is lost" in result.stderr
    assert not (tmp_path / "two.mp4").exists()


def test_a_keyframe_weight_is_part_of_the_key(clip: Path, tmp_path: Path) -> None:
    refs, out = write_references(tmp_path / "refs", 0, 120), tmp_path / "out.mp4"
    manifest = {"version": 1, "keyframes": [{"index": 0}, {"index": 120}]}
    arguments = [clip, "-o", out, "--references", refs, "--look", "faithful", "--json"]
    assert events(run(*arguments))["done"]["rendered"] == 240
    manifest["keyframes"][0]["weight"] = 0.5  # type: ignore[index]
    (refs / "keyframes.json").write_text(json.dumps(manifest))
    assert events(run(*arguments, "--overwrite"))["done"]["rendered"] == 120


def test_clean_removes_the_work_folder_and_nothing_else(clip: Path, tmp_path: Path) -> None:
    from importlib.metadata import entry_points

    from typer.testing import CliRunner

    work, out = tmp_path / "work", tmp_path / "out.mp4"
    options = ["--model", "bicubic", "--no-keyframes", "--frames", "8"]
    assert run(clip, "-o", out, "--work", work, *options).exit_code == 0
    app = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load().__globals__["app"]
    assert CliRunner().invoke(app, ["clean", str(work)]).exit_code == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["out.mp4"]
    refused = CliRunner().invoke(app, ["clean", str(out)])
    assert refused.exit_code == 2
    assert "no work folder" in refused.stderr


def test_work_folder_with_other_files_is_refused(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    result = run(clip, "-o", tmp_path / "out.mp4", "--work", tmp_path / "mine", "--model", "bicubic", "--no-keyframes")
    assert result.exit_code == 1
    assert "holds other files" in result.stderr
    assert np.array_equal([entry.name for entry in (tmp_path / "mine").iterdir()], ["thesis.txt"])
