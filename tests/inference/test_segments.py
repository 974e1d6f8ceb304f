"""Which segments an edit reaches, and when a stored one may be used."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.inference.clip.render import missing_runs
from sparkvsr.inference.clip.segments import Segment, plan_segments, segment_bounds
from sparkvsr.inference.clip.store import WorkStore, find_work_folders, remove_work_folder
from sparkvsr.keyframes.shots import Shot


@pytest.mark.parametrize("num_frames", [1, 95, 96, 97, 200, 1000])
def test_bounds_cover_the_shot_in_short_segments(num_frames: int) -> None:
    bounds = segment_bounds(Shot(7, 7 + num_frames), 96)
    assert bounds[0][0] == 7
    assert bounds[-1][1] == 7 + num_frames
    assert all(a[1] == b[0] for a, b in pairwise(bounds))
    assert all(0 < stop - start <= 96 for start, stop in bounds)
    assert segment_bounds(Shot(0, num_frames), None) == [(0, num_frames)]


def keys(shots: list[Shot], images: dict[int, str], lookahead: int | None = 32, **settings: object) -> list[str]:
    segments = plan_segments(
        shots,
        sorted(images),
        lookahead=lookahead,
        longest=50,
        settings=settings,
        frame_digest=lambda index: index.to_bytes(4, "big"),
        keyframe_identity=images.__getitem__,
    )
    return [segment.key for segment in segments]


def changed(before: list[str], after: list[str]) -> list[int]:
    assert len(before) == len(after)
    return [k for k, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]


def test_an_edited_keyframe_changes_what_it_reaches_and_nothing_else() -> None:
    shots = [Shot(0, 200), Shot(200, 400)]  # eight segments of 50 frames
    images = {0: "a", 120: "b", 200: "c"}
    before = keys(shots, images)
    # 120 lies in segment 2; with a lookahead of 32 frames it reaches back to frame 88, which is in segment 1.
    assert changed(before, keys(shots, {**images, 120: "edited"})) == [1, 2, 3]
    assert changed(before, keys(shots, {**images, 200: "edited"})) == [4, 5, 6, 7]
    assert changed(keys(shots, images, None), keys(shots, {**images, 120: "edited"}, None)) == [0, 1, 2, 3]


def test_settings_change_every_key() -> None:
    shots = [Shot(0, 100)]
    assert changed(keys(shots, {}, guidance=1.0), keys(shots, {}, guidance=1.5)) == [0, 1]


def put(store: WorkStore, key: str, data: bytes = b"segment", frames: int = 5) -> None:
    store.partial_path().write_bytes(data)
    store.take(key, store.partial_path(), frames, {"hidden": torch.arange(6.0).view(2, 3).t()})


def test_a_stored_segment_is_found_with_its_state(tmp_path: Path) -> None:
    with WorkStore(tmp_path / "work") as store:
        put(store, "aa")
        assert store.has("aa", 5)
        assert not store.has("bb", 5)
        state = store.state("aa")
        assert state is not None
        torch.testing.assert_close(state["hidden"], torch.arange(6.0).view(2, 3).t())


@pytest.mark.parametrize("damage", ["cut", "flip", "record", "no record", "frames"])
def test_a_damaged_segment_is_never_used(tmp_path: Path, damage: str) -> None:
    with WorkStore(tmp_path / "work") as store:
        put(store, "aa")
        path = store.path("aa")
        if damage == "cut":
            path.write_bytes(b"seg")
        elif damage == "flip":
            path.write_bytes(b"sEgment")
        elif damage == "record":
            path.with_suffix(".json").write_text("{")
        elif damage == "no record":
            path.with_suffix(".json").unlink()
        assert not store.has("aa", 6 if damage == "frames" else 5)


def test_runs_neither_jump_over_a_gap_nor_begin_without_a_state(tmp_path: Path) -> None:
    shot = Shot(0, 40)
    segments = [
        Segment(10 * k, 10 * k + 10, shot, key, previous)
        for k, (key, previous) in enumerate((("aa", None), ("bb", "aa"), ("cc", "bb"), ("dd", "cc")))
    ]
    with WorkStore(tmp_path / "work") as store:
        put(store, "bb", frames=10)
        runs, kept = missing_runs(segments, store)
        assert [[segment.key for segment in run] for run in runs] == [["aa"], ["cc", "dd"]]
        assert kept == 10
        # A worker gets only some segments: others may lie between them.
        assert [len(run) for run in missing_runs([segments[0], segments[2]], store)[0]] == [1, 1]
        store.path("bb").with_suffix(".safetensors").unlink()
        assert [[segment.key for segment in run] for run in missing_runs(segments, store)[0]] == [
            ["aa", "bb", "cc", "dd"]
        ]


@pytest.mark.parametrize("damage", ["cut", "flip", "nonsense", "gone"])
def test_damaged_state_is_not_used(tmp_path: Path, damage: str) -> None:
    with WorkStore(tmp_path / "work") as store:
        put(store, "aa")
        path = store.path("aa").with_suffix(".safetensors")
        data = path.read_bytes()
        if damage == "gone":
            path.unlink()
        else:
            # The last byte belongs to a number: a valid file that says something else.
            path.write_bytes({"cut": data[:-3], "flip": data[:-1] + b"\x77", "nonsense": b"nonsense"}[damage])
        assert store.state("aa") is None
        assert store.state_bytes("aa") is None
        assert store.has("aa", 5)


def test_deeply_nested_record_is_not_used(tmp_path: Path) -> None:
    with WorkStore(tmp_path / "work") as store:
        put(store, "aa")
        store.path("aa").with_suffix(".json").write_text("[" * 50_000)
        assert not store.has("aa", 5)
        assert store.damaged == ["aa"]


def test_a_segment_from_another_machine_is_like_one_of_our_own(tmp_path: Path) -> None:
    with WorkStore(tmp_path / "one") as one, WorkStore(tmp_path / "two") as two:
        put(one, "aa", b"segment")
        state = one.state_bytes("aa")
        two.receive("aa", b"segment", 5, state)
        assert two.has("aa", 5)
        assert two.state_bytes("aa") == state
        two.put_state("bb", state or b"")
        assert two.state_bytes("bb") == state
        assert not two.has("bb", 5)


def test_a_power_failure_may_take_the_marker(tmp_path: Path) -> None:
    with WorkStore(tmp_path / "work") as store:
        put(store, "aa")
    (tmp_path / "work" / "sparkvsr-work.json").unlink()
    with WorkStore(tmp_path / "work") as store:
        assert store.has("aa", 5)


def test_leftovers_of_a_killed_process_go(tmp_path: Path) -> None:
    with WorkStore(tmp_path / "work") as store:
        (tmp_path / "work" / "segments" / ".encoding-1.mkv").write_bytes(b"half")
    with WorkStore(tmp_path / "work") as store:
        put(store, "aa")
    assert sorted(path.name for path in (tmp_path / "work" / "segments").iterdir()) == [
        "aa.json",
        "aa.mkv",
        "aa.safetensors",
    ]


def test_links_out_of_the_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("mine")
    with WorkStore(tmp_path / "work"):
        pass
    (tmp_path / "work" / "segments").rmdir()
    (tmp_path / "work" / "segments").symlink_to(tmp_path / "precious")
    with pytest.raises(EncodeError, match="link to another folder"), WorkStore(tmp_path / "work"):
        pass
    remove_work_folder(tmp_path / "work")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "mine"


def test_the_size_limit_drops_the_oldest_unused_segments(tmp_path: Path) -> None:
    with WorkStore(tmp_path / "work", limit_bytes=2500) as store:
        for key in ("aa", "bb", "cc"):
            put(store, key, bytes(1000))
        assert store.prune({"aa"}) >= 1
        assert store.has("aa", 5)
        assert not store.has("bb", 5)


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    with (
        WorkStore(tmp_path / "work"),
        pytest.raises(EncodeError, match="another sparkvsr works in"),
        WorkStore(tmp_path / "work"),
    ):
        pass
    with WorkStore(tmp_path / "work"):
        pass


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(EncodeError, match="holds other files"), WorkStore(tmp_path):
        pass
    with pytest.raises(ConfigError, match="not a work folder"):
        remove_work_folder(tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_work_folders_are_found_and_removed(tmp_path: Path) -> None:
    with WorkStore(tmp_path / ".out.mp4.work") as store:
        put(store, "aa")
        with pytest.raises(EncodeError, match="another sparkvsr works in"):
            remove_work_folder(tmp_path / ".out.mp4.work")
        assert store.has("aa", 5)
    assert find_work_folders(tmp_path) == [tmp_path / ".out.mp4.work"]
    assert find_work_folders(tmp_path / "out.mp4") == [tmp_path / ".out.mp4.work"]
    assert remove_work_folder(tmp_path / ".out.mp4.work") > 0
    assert find_work_folders(tmp_path) == []
