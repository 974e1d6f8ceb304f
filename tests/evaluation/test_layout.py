"""Finding a data set, and saying what is wrong with it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from clips_on_disk import GOOD, moving, write_frames, write_video

from sparkvsr.errors import ConfigError, DatasetError
from sparkvsr.evaluation.bench import Bench, parse_bench
from sparkvsr.evaluation.layout import check_data, find_data

SMALL = [frame[::4, ::4].copy() for frame in moving(0)]


@pytest.fixture
def bench() -> Bench:
    return parse_bench("Set", GOOD)


@pytest.mark.parametrize("below", ["Set/GT", "GT", "test/Set/gt"])
def test_frame_folders_are_found(bench: Bench, tmp_path: Path, below: str) -> None:
    for name in "ab":
        write_frames(tmp_path / below / name, moving(0))
    data = find_data(bench, tmp_path)
    assert [(clip.name, clip.lr) for clip in data.clips] == [("a", None), ("b", None)]
    assert [line.text for line in check_data(data) if line.is_problem] == []


def test_videos_take_the_place_of_folders(tmp_path: Path) -> None:
    bench = parse_bench("Set", GOOD.replace("[GT]", "[GT, GT-Video]").replace("[LQ]", "[LQ, LQ-Video]"))
    for name in "ab":
        write_video(tmp_path / "Set" / "GT-Video" / f"{name}.mkv", moving(0))
        write_video(tmp_path / "Set" / "LQ-Video" / f"{name}.mkv", SMALL)
    data = find_data(bench, tmp_path)
    assert data.clips[1].lr == tmp_path / "Set" / "LQ-Video" / "b.mkv"
    lines = list(check_data(data))
    assert "a: GT 4 frames 64x48, LR 4 frames 16x12" in [line.text for line in lines]
    assert not any(line.is_problem for line in lines)


def test_check_lists_every_problem(bench: Bench, tmp_path: Path) -> None:
    write_frames(tmp_path / "Set" / "GT" / "a", moving(0, frames=5))
    write_frames(tmp_path / "Set" / "LQ" / "a", [frame[:, :14].copy() for frame in SMALL])
    bench = dataclasses.replace(bench, gt_sizes={"": (48, 80)})
    problems = "\n".join(line.text for line in check_data(find_data(bench, tmp_path)) if line.is_problem)
    assert "1 clip(s) are not there (missing: b)" in problems
    assert "has 4 and 5 frames, the protocol has 4" in problems
    assert "GT is 64x48, the protocol has 80x48" in problems
    assert "GT has 5 frames but LR 4" in problems
    assert "LR is 14x12, GT 64x48: not a factor of 4" in problems


def test_check_reports_unreadable_files(bench: Bench, tmp_path: Path) -> None:
    folder = write_frames(tmp_path / "Set" / "GT" / "a", moving(0))
    (folder / "00000002.png").write_bytes(b"no picture")
    lines = [line.text for line in check_data(find_data(bench, tmp_path)) if line.is_problem]
    assert any("00000002.png" in line for line in lines)


def test_a_missing_set_says_what_was_expected_and_what_was_found(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"expected .*none/Set/GT/a/\*\.png.*does not exist.*data/README\.md.*nowhere"
    ):
        find_data(bench, tmp_path / "none")
    (tmp_path / "other").mkdir()
    with pytest.raises(DatasetError, match=r"holds other/ \(no clips\)"):
        find_data(bench, tmp_path)
    (tmp_path / "Set" / "GT").mkdir(parents=True)
    with pytest.raises(DatasetError, match=r"Set holds GT/ \(no clips\)"):
        find_data(bench, tmp_path)


def test_lr_frames_that_must_be_there_are_missed(bench: Bench, tmp_path: Path) -> None:
    bench = dataclasses.replace(bench, lr_required=True)
    for name in "ab":
        write_frames(tmp_path / "Set" / "GT" / name, moving(0))
    write_frames(tmp_path / "Set" / "LQ" / "a", SMALL)
    with pytest.raises(DatasetError, match=r"needs its own LR frames.*1 clip\(s\) \(b\)"):
        find_data(bench, tmp_path)


def test_a_subset_of_clips(bench: Bench, tmp_path: Path) -> None:
    for name in "ab":
        write_frames(tmp_path / "Set" / "GT" / name, moving(0))
    assert [clip.name for clip in find_data(bench, tmp_path, ["b"]).clips] == ["b"]
    with pytest.raises(ConfigError, match="--clips c not found; there is a, b"):
        find_data(bench, tmp_path, ["c"])


def test_the_root_may_come_from_the_environment(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_frames(tmp_path / "Set" / "GT" / "a", moving(0))
    monkeypatch.setenv("SPARKVSR_DATA", str(tmp_path))
    assert find_data(bench, None).absent == ("b",)
