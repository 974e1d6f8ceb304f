"""Many inputs: folders, patterns, one bad file, finished outputs, the table and the exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import Result
from upscale_clips import picture, run, write_clip

from sparkvsr.errors import ConfigError
from sparkvsr.inference.batch import find_inputs

BASELINE = ["--model", "bicubic", "--references", "bicubic", "--scale", "2"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=6, size=(32, 48))


@pytest.fixture
def folder(clip: Path, tmp_path: Path) -> Path:
    """Three videos, one of them broken, and what else lies in such folders."""
    made = tmp_path / "clips"
    (made / "deeper").mkdir(parents=True)
    for name in ("clip2.mp4", "clip10.mp4", "deeper/other.mp4", ".hidden.mp4"):
        (made / name).write_bytes(clip.read_bytes())
    (made / "clip3.mp4").write_bytes(b"nonsense")
    (made / "readme.txt").write_text("text")
    return made


def summary(result: Result) -> dict[str, str]:
    last = json.loads(result.stdout.splitlines()[-1])
    assert last["event"] == "summary"
    return {Path(row["input"]).name: row["status"] for row in last["rows"]}


def test_a_folder_of_videos_one_bad(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(folder, "-o", f"{out}/", *BASELINE)
    assert result.exit_code == 1
    assert sorted(entry.name for entry in out.iterdir()) == ["clip10_x2.mp4", "clip2_x2.mp4"]
    errors = result.stderr.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"Error: {folder / 'clip3.mp4'}: ")
    assert errors[1] == "Error: 1 of 3 inputs failed"
    table = result.stdout.splitlines()[-5:]
    assert table[0].split() == ["input", "result", "frames", "time"]
    assert [line.split()[1] for line in table[1:4]] == ["done", "failed", "done"]
    assert [Path(line.split()[0]).name for line in table[1:4]] == ["clip2.mp4", "clip3.mp4", "clip10.mp4"]
    assert table[4].startswith("2 done, 1 failed in ")


def test_finished_outputs_are_skipped(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (folder / "clip3.mp4").unlink()
    assert run(folder, "-o", out, *BASELINE, "--json").exit_code == 0
    (out / "clip2_x2.mp4").unlink()
    before = (out / "clip10_x2.mp4").stat().st_mtime_ns
    result = run(folder, "-o", out, *BASELINE, "--json")
    assert result.exit_code == 0
    assert summary(result) == {"clip2.mp4": "done", "clip10.mp4": "skipped"}
    assert (out / "clip10_x2.mp4").stat().st_mtime_ns == before
    assert "Skip     " in run(folder, "-o", out, *BASELINE).stdout
    again = run(folder, "-o", out, *BASELINE, "--json", "--overwrite")
    assert summary(again) == {"clip2.mp4": "done", "clip10.mp4": "done"}


def test_outputs_beside_the_inputs_are_not_upscaled_again(folder: Path) -> None:
    (folder / "clip3.mp4").unlink()
    assert run(folder, *BASELINE).exit_code == 0
    result = run(folder, *BASELINE)
    assert result.exit_code == 0
    names = sorted(path.name for path in folder.glob("[!.]*.mp4"))
    assert names == ["clip10.mp4", "clip10_x2.mp4", "clip2.mp4", "clip2_x2.mp4"]
    assert "clip2_x2.mp4 was made by an earlier run and is left out" in result.stdout


def test_several_inputs_mean_a_folder_of_videos_even_where_one_is_left_out(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(clip.read_bytes())
    assert run(tmp_path / "a.mp4", *BASELINE).exit_code == 0
    arguments = [tmp_path / "a.mp4", tmp_path / "a_x2.mp4", *BASELINE]
    result = run(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 0
    assert "a_x2.mp4 was made by an earlier run and is left out" in result.stdout
    assert [path.name for path in (tmp_path / "out").iterdir() if path.name[0] != "."] == ["a_x2.mp4"]
    assert "names one output, but there are 2 inputs" in run(*arguments, "-o", tmp_path / "b.mp4").stderr


def test_a_video_of_somebody_else_with_such_a_name_is_an_input(clip: Path, tmp_path: Path) -> None:
    for name in ("a.mp4", "a_x2.mp4"):
        (tmp_path / name).write_bytes(clip.read_bytes())
    result = run(tmp_path / "a.mp4", tmp_path / "a_x2.mp4", *BASELINE, "--overwrite", "--json")
    assert summary(result) == {"a.mp4": "failed", "a_x2.mp4": "done"}
    assert "it would be destroyed" in result.stdout
    assert (tmp_path / "a_x2.mp4").read_bytes() == clip.read_bytes()
    assert (tmp_path / "a_x2_x2.mp4").is_file()


def test_two_inputs_with_one_output_are_an_error_each_time(clip: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in.mp4").write_bytes(clip.read_bytes())
    arguments = [tmp_path / "a" / "in.mp4", tmp_path / "b" / "in.mp4", "-o", tmp_path / "out", *BASELINE, "--json"]
    for statuses in (["done", "failed"], ["skipped", "failed"]):
        result = run(*arguments)
        assert result.exit_code == 1
        rows = json.loads(result.stdout.splitlines()[-1])["rows"]
        assert [row["status"] for row in rows] == statuses
        assert f"is that of {tmp_path / 'a' / 'in.mp4'}" in rows[1]["reason"]


def test_one_bad_option_is_said_once(folder: Path, tmp_path: Path) -> None:
    result = run(folder, "-o", tmp_path / "out", *BASELINE, "--guidance", "99")
    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", ["out.mp4", "out/%05d.png", "file.txt"])
def test_one_name_for_several_outputs_is_refused(clip: Path, folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file.txt").write_text("precious")
    result = run(folder, "-o", tmp_path / name, *BASELINE)
    assert result.exit_code == 2
    assert "give a folder" in result.stderr
    assert (tmp_path / "file.txt").read_text() == "precious"


def names(given: list[str | Path]) -> list[str]:
    return [path.name for path in find_inputs([str(text) for text in given]).paths]


def test_patterns_and_folders(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert names([f"{folder}/*.mp4"]) == ["clip2.mp4", "clip3.mp4", "clip10.mp4"]
    assert names([f"{folder}/**/other.mp4"]) == ["other.mp4"]
    assert names([folder, folder / "clip2.mp4", f"{folder}/clip?.mp4"]) == ["clip2.mp4", "clip3.mp4", "clip10.mp4"]
    monkeypatch.chdir(folder)
    assert names(["*.mp4"]) == ["clip2.mp4", "clip3.mp4", "clip10.mp4"]
    (folder / "what[1].mp4").write_bytes(b"")
    assert names([folder / "what[1].mp4"]) == ["what[1].mp4"]
    with pytest.raises(ConfigError, match="matches no file"):
        find_inputs([f"{folder}/*.mkv"])


def test_a_single_video_in_a_folder_is_a_batch_and_a_single_file_is_not(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "in.mp4").write_bytes(clip.read_bytes())
    assert find_inputs([str(tmp_path / "one")]).is_batch
    assert not find_inputs([str(tmp_path / "one" / "in.mp4")]).is_batch
    assert not find_inputs([str(tmp_path / "one" / "*.mp4")]).is_batch


def test_a_folder_of_images_is_one_clip_and_a_mixture_is_refused(clip: Path, tmp_path: Path) -> None:
    images = tmp_path / "frames"
    images.mkdir()
    for index in range(3):
        cv2.imwrite(str(images / f"{index}.png"), picture(index, 20, 30))
    assert find_inputs([str(images)]).paths == (images,)
    (images / "in.mp4").write_bytes(clip.read_bytes())
    with pytest.raises(ConfigError, match="holds 1 videos and 3 images"):
        find_inputs([str(images)])


def test_an_interrupted_sequence_goes_on(tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Images go through the work folder as well; half-placed ones are replaced by the next run."""
    from sparkvsr.inference.clip import work as clip_work

    out = tmp_path / "frames"
    out.mkdir()
    (out / "keep.txt").write_text("mine")
    real = clip_work.assemble_images

    def killed(*arguments: Any, **options: Any) -> None:
        (out / "00000.png").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(clip_work, "assemble_images", killed)
    assert run(clip, "-o", out, *BASELINE).exit_code == 130
    monkeypatch.setattr(clip_work, "assemble_images", real)
    result = run(clip, "-o", out, *BASELINE, "--json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(result.stdout.splitlines()[-1])["rendered"] == 0
    assert sorted(path.name for path in out.iterdir()) == [*(f"{index:05d}.png" for index in range(6)), "keep.txt"]
    assert cv2.imread(str(out / "00000.png")).shape == (64, 96, 3)
    # Complete now: the same command does not replace it unasked.
    assert run(clip, "-o", out, *BASELINE).exit_code == 1
