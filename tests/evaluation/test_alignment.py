"""Shifted and late clips are found, told with the score after it, and taken back when asked; numbers pair images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from clips_on_disk import moving, write_frames

from sparkvsr.errors import MetricError
from sparkvsr.evaluation.alignment import AlignmentCheck, Shift, find_misalignment
from sparkvsr.evaluation.file_run import evaluate_files
from sparkvsr.evaluation.frames import FileClip
from sparkvsr.evaluation.pairing import pair_paths
from sparkvsr.evaluation.run_options import MetricChoice

PSNR = MetricChoice("psnr,psnr_y")


def lively(seed: int, count: int, size: tuple[int, int] = (96, 128)) -> list[np.ndarray]:
    """A still page with things that move on it, each its own way: no shift of the picture stands for a frame."""
    page = moving(seed, 1, size)[0]
    rng = np.random.default_rng(seed + 100)
    things = [(moving(seed + k + 1, 1, (24, 24))[0], rng.uniform(10, 60, 2), rng.uniform(-6, 6, 2)) for k in range(6)]
    frames = []
    for index in range(count):
        frame = page.copy()
        for picture, start, speed in things:
            y, x = np.abs(start + speed * index).astype(int) % (size[0] - 24)
            frame[y : y + 24, x : x + 24] = picture
        frames.append(frame)
    return frames


def shifted(frames: list[np.ndarray], right: int, down: int) -> list[np.ndarray]:
    """Each picture moved, with its border continued, and a little coding noise."""
    matrix = np.float32([[1, 0, right], [0, 1, down]])
    rng = np.random.default_rng(3)
    moved = [cv2.warpAffine(f, matrix, f.shape[1::-1], borderMode=cv2.BORDER_REPLICATE) for f in frames]
    return [np.clip(f + rng.normal(scale=2, size=f.shape), 0, 255).astype(np.uint8) for f in moved]


@pytest.mark.parametrize(
    ("right", "down", "late"), [(1, 0, 0), (0, -2, 0), (-3, 4, 0), (0, 0, 1), (0, 0, -1), (2, -1, 1)]
)
def test_a_shift_is_found_to_the_pixel_and_frame(tmp_path: Path, right: int, down: int, late: int) -> None:
    truth = lively(1, 12)
    seen = shifted(truth, right, down)
    seen = [seen[0], *seen[:-1]] if late == 1 else [*seen[1:], seen[-1]] if late == -1 else seen
    sr, gt = (FileClip(write_frames(tmp_path / n, f)) for n, f in (("sr", seen), ("gt", truth)))
    found = find_misalignment(sr, gt)
    assert found is not None
    assert found.shift == Shift(late, right, down)
    assert found.after > 38
    assert found.before < 33


def test_while_a_camera_pans_the_plainest_explanation_counts() -> None:
    truth = moving(7, 8, (96, 128))  # 3 pixels to the side and 1 down with every frame
    check = AlignmentCheck(8)
    for sr, gt in zip(shifted(truth, 0, 0), truth, strict=True):
        check.see(sr, gt)
    assert check.result() is None
    late = AlignmentCheck(8)
    for sr, gt in zip([truth[0], *truth[:-1]], truth, strict=True):
        late.see(sr, gt)
    found = late.result()
    assert found is not None
    assert found.shift in (Shift(1), Shift(0, 3, 1))


def test_clips_in_place_are_left_in_peace() -> None:
    truth = lively(2, 8)
    for frames in (
        shifted(truth, 0, 0),
        [cv2.GaussianBlur(f, (0, 0), 2) for f in truth],
        [cv2.warpAffine(f, np.float32([[1, 0, 0.4], [0, 1, 0]]), (128, 96)) for f in truth],
        [np.full_like(f, 90) for f in truth],
    ):
        check = AlignmentCheck(len(truth))
        for sr, gt in zip(frames, truth, strict=True):
            check.see(sr, gt)
        assert check.result() is None
    still = [truth[0]] * 6
    check = AlignmentCheck(6)
    for sr, gt in zip(shifted(still, 0, 0), still, strict=True):
        check.see(sr, gt)
    assert check.result() is None


def test_scored_as_it_is_with_a_loud_note_and_taken_back_when_asked(tmp_path: Path) -> None:
    truth = lively(3, 6)
    sr, gt = write_frames(tmp_path / "sr", shifted(truth, 2, 1)), write_frames(tmp_path / "gt", truth)
    plain = evaluate_files(sr, gt, tmp_path / "plain", metrics=PSNR)
    direct = [10 * np.log10(255**2 / np.square(a.astype(float) - b).mean())
              for a, b in zip(shifted(truth, 2, 1), truth, strict=True)]  # fmt: skip
    assert plain["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(direct), abs=1e-3)
    (note,) = [w for w in plain["warnings"] if "MISALIGNED" in w]
    assert "2 px to the right, 1 px down" in note
    assert "--align" in note
    mended = evaluate_files(sr, gt, tmp_path / "mended", metrics=PSNR, align=True)
    assert mended["metrics"]["psnr"]["mean"] > plain["metrics"]["psnr"]["mean"] + 10
    assert mended["clips"][0]["size"] == [95, 126]
    assert any(w.startswith(("ALIGNED", "gt: ALIGNED", "sr: ALIGNED")) or "ALIGNED: " in w for w in mended["warnings"])
    # The note's score after it is that of the aligned run, on its sampled frames.
    after = float(note.split("as it is, ")[1].split(" dB")[0])
    assert after == pytest.approx(mended["metrics"]["psnr_y"]["mean"], abs=0.5)


def numbered(folder: Path, frames: list[np.ndarray], numbers: list[int]) -> Path:
    folder.mkdir()
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:04d}.png"), frames[number])
    return folder


def test_numbered_frames_are_paired_by_number(tmp_path: Path) -> None:
    truth = moving(4, 10)
    seen = shifted(truth, 0, 0)
    sr = numbered(tmp_path / "sr", seen, [k for k in range(10) if k != 4])
    gt = numbered(tmp_path / "gt", truth, [k for k in range(10) if k != 8])
    with pytest.raises(MetricError, match=r"4, 8 are in one of the two folders only; --trim measures the 8"):
        pair_paths(sr, gt)
    record = evaluate_files(sr, gt, tmp_path / "out", metrics=PSNR, trim=True)
    both = [k for k in range(10) if k not in (4, 8)]
    expected = [10 * np.log10(255**2 / np.square(seen[k].astype(float) - truth[k]).mean()) for k in both]
    assert record["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(expected), abs=1e-3)
    assert any("paired by number: 8 frames; without a partner: 4, 8" in w for w in record["warnings"])


@pytest.mark.parametrize(
    ("names", "others", "words"),
    [
        (["a", "b", "c"], ["a", "b", "d"], "c.png with d.png"),
        (["x_0", "x_1", "y_0"], ["0", "1", "2"], "x_0.png with 0.png"),
        (["a", "b", "c"], ["a", "b", "c"], None),
    ],
)
def test_names_that_pair_nothing_are_told(
    tmp_path: Path, names: list[str], others: list[str], words: str | None
) -> None:
    for folder, stems in (("sr", names), ("gt", others)):
        (tmp_path / folder).mkdir()
        for stem, frame in zip(stems, moving(4, 3), strict=True):
            cv2.imwrite(str(tmp_path / folder / f"{stem}.png"), frame)
    (pair,) = pair_paths(tmp_path / "sr", tmp_path / "gt")
    assert [words in note for note in pair.notes] == [True] if words else not pair.notes


def test_sequences_that_begin_at_another_number_are_taken_in_order(tmp_path: Path) -> None:
    truth = moving(5, 5)
    sr = write_frames(tmp_path / "sr", truth)
    gt = tmp_path / "gt"
    gt.mkdir()
    for index, frame in enumerate(truth):
        cv2.imwrite(str(gt / f"{index + 1:04d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    (pair,) = pair_paths(sr, gt)
    assert pair.sr.num_frames == 5
    assert all(np.array_equal(a, b) for a, b in zip(pair.sr.frames(), pair.gt.frames(), strict=True))
    assert pair.notes == ("numbered from 0, the ground truth from 1: frames are paired in order",)
