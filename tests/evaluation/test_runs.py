"""Whole runs: a bench with a model, files against files, resuming, reports."""

from __future__ import annotations

import csv
import json
import math
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clips_on_disk import GOOD, FakeRestorer, moving, write_frames, write_video

from sparkvsr.errors import ConfigError, DatasetError, KeyframeError, MetricError
from sparkvsr.evaluation.bench import load_bench, parse_bench
from sparkvsr.evaluation.bench_run import BenchRun
from sparkvsr.evaluation.degrade import make_lr
from sparkvsr.evaluation.file_run import evaluate_files
from sparkvsr.evaluation.frames import FileClip
from sparkvsr.evaluation.measuring import ClipTask, MeasureOptions, measure_clips, safe_name
from sparkvsr.evaluation.record import read_record
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions
from sparkvsr.evaluation.side_by_side import compare_runs, comparison_markdown, comparison_rows
from sparkvsr.metrics import fidelity
from sparkvsr.metrics.catalogue import METRICS
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore
from sparkvsr.threads import ByteQueue

CLIPS = {name: moving(seed) for seed, name in enumerate("ab")}
QUICK = MetricChoice("psnr,psnr_y,ssim,flicker")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, frames in CLIPS.items():
        write_frames(tmp_path / "data" / "Set" / "GT" / name, frames)
    return tmp_path / "data"


def run_bench(
    data: Path | None, output: Path, restorer: FakeRestorer | None = None, text: str = GOOD,
    choice: MetricChoice = QUICK, hook: Any = None, **options: Any,
) -> dict[str, Any]:  # fmt: skip
    restorer = restorer or FakeRestorer()
    run = BenchRun.prepare(parse_bench("Set", text), data, choice, RunOptions(**options))
    return run.execute(output, hook, load_model=lambda _options: restorer)


def test_a_bench_end_to_end_equals_the_formulas(data: Path, tmp_path: Path) -> None:
    record = run_bench(data, tmp_path / "out")
    for name, frames in CLIPS.items():
        lr = torch.from_numpy(np.stack([make_lr(f, "bicubic", 4) for f in frames])).permute(0, 3, 1, 2).float() / 255
        restored = [
            np.floor(pixels.permute(1, 2, 0).numpy() * 255 + 0.5).astype(np.uint8)  # as files are written
            for pixels in FakeRestorer().restore_clip(lr, [], (48, 64), 1.0)
        ]
        expected = [fidelity.psnr(sr, gt)[0] for sr, gt in zip(restored, frames, strict=True)]
        clip = next(clip for clip in record["clips"] if clip["name"] == name)
        assert clip["metrics"]["psnr"]["frames"] == expected
        assert clip["metrics"]["psnr"]["mean"] == pytest.approx(np.mean(expected))
        assert clip["lr_size"] == [12, 16]
    means = [clip["metrics"]["psnr"]["mean"] for clip in record["clips"]]
    summary = record["metrics"]["psnr"]
    assert summary["mean"] == pytest.approx(np.mean(means))
    assert (summary["n_clips"], summary["n_frames"], summary["status"]) == (2, 8, "ok")
    assert summary["protocol"] == "psnr[rgb,u8,crop0]"
    assert summary["ci95"][0] <= summary["mean"] <= summary["ci95"][1]
    assert record["metrics"]["flicker"]["gt_mean"] is not None
    assert record["run"]["subset"] == ""
    assert "MATLAB bicubic" in record["protocol"]
    assert read_record(tmp_path / "out") == record


def test_outputs_hold_every_value_and_need_no_network(data: Path, tmp_path: Path) -> None:
    record = run_bench(data, tmp_path / "out")
    with (tmp_path / "out" / "results.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * (4 + 1) + 1
    assert float(rows[-1]["psnr"]) == record["metrics"]["psnr"]["mean"]
    assert rows[0]["flicker"] == ""
    markdown = (tmp_path / "out" / "results.md").read_text()
    assert f"{record['metrics']['ssim']['mean']:.4f}" in markdown
    page = (tmp_path / "out" / "report.html").read_text()
    assert not re.search(r"(?:src|href)=['\"]?https?:", page)
    assert page.count("class=wipe") == 3  # the worst frame of both clips, the best of all
    assert page.count("data:image/jpeg;base64,") >= 9
    assert page.count("<svg") == 4
    assert "flicker; dashed: ground truth</text>" in page
    assert page.count("stroke-dasharray='4 3'") == 2  # flicker, both clips
    assert "NaN" not in (tmp_path / "out" / "results.json").read_text()


def test_given_lr_frames_are_used_and_checked(data: Path, tmp_path: Path) -> None:
    for name, frames in CLIPS.items():
        write_frames(data / "Set" / "LQ" / name, [np.full_like(frame[::4, ::4], 90) for frame in frames])
    record = run_bench(data, tmp_path / "out")
    assert record["run"]["degradation"] == "as given by the data set"
    assert record["metrics"]["ssim"]["mean"] < 0.5
    write_frames(data / "Set" / "LQ" / "b", [np.zeros((12, 15, 3), np.uint8)] * 4)
    with pytest.raises(DatasetError, match="Set/b: LR is 15x12, GT 64x48: not a factor of 4"):
        run_bench(data, tmp_path / "out")
    write_frames(data / "Set" / "GT" / "a", moving(0, frames=5))
    with pytest.raises(DatasetError, match="Set/a: GT has 5 frames but LR 4"):
        run_bench(data, tmp_path / "out")


def test_odd_ground_truth_is_cut_to_a_multiple_and_said_so(tmp_path: Path) -> None:
    for name in "ab":
        write_frames(tmp_path / "Set" / "GT" / name, moving(0, size=(50, 67)))
    record = run_bench(tmp_path, tmp_path / "out")
    assert record["clips"][0]["size"] == [48, 64]
    assert any("cut from 67x50 to 64x48" in text for text in record["warnings"])


def test_restoration_without_upscaling(data: Path, tmp_path: Path) -> None:
    for name, frames in CLIPS.items():
        write_frames(data / "Set" / "LQ" / name, frames)
    record = run_bench(data, tmp_path / "out", text=GOOD.replace("scale: 4", "scale: 1"))
    assert record["metrics"]["psnr"]["capped"] == 8  # nothing was lost, and bicubic by 1 changes nothing
    assert record["clips"][0]["lr_size"] == [48, 64]


def test_clips_are_not_restored_again(data: Path, tmp_path: Path) -> None:
    first = FakeRestorer()
    record = run_bench(data, tmp_path / "out", first)
    events: list[dict[str, Any]] = []
    second = FakeRestorer()
    again = run_bench(data, tmp_path / "out", second, hook=events.append)
    assert (first.restored, second.restored) == ([4, 4], [])
    assert [event["reused"] for event in events] == [True, True]
    assert again["metrics"] == record["metrics"]


@pytest.mark.parametrize("change", ["weights", "guidance", "metrics", "clip", "pictures are kept"])
def test_clips_are_restored_again_when_something_changed(change: str, data: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"keyframes": "0", "references": "gt"}
    run_bench(data, tmp_path / "out", **options)
    restorer, choice, expected = FakeRestorer(), QUICK, [4, 4]
    if change == "weights":
        restorer = FakeRestorer("2")
    elif change == "guidance":
        options["guidance_scale"] = 0.5
    elif change == "metrics":
        choice = MetricChoice("psnr")
    elif change == "clip":
        write_frames(data / "Set" / "GT" / "b", moving(7))
        expected = [4]
    else:
        expected = []
    run_bench(data, tmp_path / "out", restorer, choice=choice, **options)
    assert restorer.restored == expected


def test_an_interrupted_run_goes_on_where_it_stopped(data: Path, tmp_path: Path) -> None:
    class Broken(FakeRestorer):
        def restore_clip(self, lr: Any, *args: Any) -> Any:
            if self.restored:
                raise KeyboardInterrupt
            return super().restore_clip(lr, *args)

    done = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        run_bench(data, tmp_path / "out", Broken(), hook=lambda event: done.set())
    # The first clip may or may not have been measured to its end when the second one failed.
    finished = (tmp_path / "out" / "clips" / "a.json").is_file()
    restorer = FakeRestorer()
    run_bench(data, tmp_path / "out", restorer)
    assert restorer.restored == ([4] if finished else [4, 4])


def test_keyframes_by_ground_truth_and_by_a_maker(data: Path, tmp_path: Path) -> None:
    restorer = FakeRestorer()
    record = run_bench(data, tmp_path / "gt", restorer, keyframes="0", references="gt")
    assert restorer.keyframes == [[0], [0]]
    score = record["clips"][0]["metrics"]["psnr"]
    assert (score["frames"][0], score["capped"]) == (100.0, 1)
    assert score["mean_without_keyframes"] == pytest.approx(np.mean(score["frames"][1:]))
    assert record["metrics"]["psnr"]["capped"] == 2
    assert any("ground-truth frames" in text for text in record["warnings"])
    made = run_bench(data, tmp_path / "made", keyframes="first", references="bicubic")
    assert made["metrics"]["psnr"]["capped"] == 0
    assert made["run"]["references"] == "bicubic"
    with pytest.raises(ConfigError, match="the LR frames of a are not a video"):
        run_bench(data, tmp_path / "out", keyframes="iframes")
    with pytest.raises(KeyframeError, match="keyframe 9 is outside the clip"):
        run_bench(data, tmp_path / "out", keyframes="9")


def test_references_of_a_folder(data: Path, tmp_path: Path) -> None:
    """The user's own images: a folder of them for each clip, whose frames are the keyframes."""
    refs = tmp_path / "refs"
    for name, indices in (("a", (2,)), ("b", (1,))):
        write_frames(refs / name, CLIPS[name])
        for path in (refs / name).iterdir():
            if int(path.stem) not in indices:
                path.unlink()
    restorer = FakeRestorer()
    record = run_bench(data, tmp_path / "out", restorer, references=str(refs))
    assert restorer.keyframes == [[2], [1]]
    assert record["metrics"]["psnr"]["capped"] == 2
    assert record["run"]["keyframes"] == "given"
    # An edited image is measured again, the other clip is kept.
    write_frames(tmp_path / "new", [255 - CLIPS["b"][1]])
    (tmp_path / "new" / "00000000.png").replace(refs / "b" / "00000001.png")
    again = FakeRestorer()
    edited = run_bench(data, tmp_path / "out", again, references=str(refs))
    assert again.keyframes == [[1]]
    assert edited["metrics"]["psnr"]["capped"] == 1
    single = FakeRestorer()
    run_bench(data, tmp_path / "one", single, references=str(refs / "a"), clips=("a",), keyframes="2")
    assert single.keyframes == [[2]]


def test_references_of_a_folder_that_do_not_fit(data: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    write_frames(refs / "a", CLIPS["a"][:1])
    with pytest.raises(ConfigError, match="has no folder for clip b; expected .*b/00000.png"):
        run_bench(data, tmp_path / "out", references=str(refs))
    with pytest.raises(KeyframeError, match="no reference image for 1 of the keyframes; add 00002.png"):
        run_bench(data, tmp_path / "out", references=str(refs), clips=("a",), keyframes="2")
    (refs / "a" / "00000000.png").rename(refs / "a" / "00000009.png")
    with pytest.raises(ConfigError, match="no image is for one of the 4 frames of a"):
        run_bench(data, tmp_path / "out", references=str(refs), clips=("a",))
    (refs / "a" / "keyframes.json").write_text(
        json.dumps({"format": "sparkvsr-keyframes", "keyframes": [{"index": 9, "weight": 0.5}]})
    )
    with pytest.raises(ConfigError, match="gives keyframe 9 a weight below 1"):
        run_bench(data, tmp_path / "out", references=str(refs), clips=("a",))
    assert not (tmp_path / "out" / "results.json").exists()


def test_references_and_keyframes_that_would_be_ignored_are_refused(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--references gt needs keyframes; add --keyframes first"):
        run_bench(data, tmp_path / "out", references="gt")
    with pytest.raises(ConfigError, match=r"--model up.pth upscales every frame by itself and takes no keyframes"):
        run_bench(data, tmp_path / "out", model="up.pth", keyframes="first")


def test_references_alone_go_where_a_model_places_keyframes_itself(data: Path, tmp_path: Path) -> None:
    restorer = FakeRestorer()
    with pytest.raises(ConfigError, match="--references bicubic needs keyframes"):
        run_bench(data, tmp_path / "out", restorer, references="bicubic", look="vivid")
    assert restorer.restored == []
    restorer.wants_own_keyframes = True
    with pytest.raises(ConfigError, match="--references command:mine .* needs keyframes"):
        run_bench(data, tmp_path / "out", restorer, references="command:mine {input} {output}", look="vivid")
    with pytest.raises(ConfigError, match="--references gt needs keyframes"):
        run_bench(data, tmp_path / "out", restorer, references="gt", look="vivid")
    record = run_bench(data, tmp_path / "out", restorer, references="bicubic", look="vivid")
    assert (record["run"]["keyframes"], record["run"]["references"]) == ("auto", "bicubic")
    assert all(keyframes[0] == 0 for keyframes in restorer.keyframes)


def test_keyframes_lie_where_the_model_can_place_them(data: Path, tmp_path: Path) -> None:
    for name in CLIPS:
        write_frames(data / "Set" / "GT" / name, moving(0, frames=10))
    restorer = FakeRestorer()
    restorer.keyframe_multiple = 4
    text = GOOD.replace("frames: 4", "frames: 10")
    run_bench(data, tmp_path / "out", restorer, text, keyframes="every:5", references="bicubic")
    assert restorer.keyframes == [[0, 4], [0, 4]]


def test_iframes_of_video_lr(data: Path, tmp_path: Path) -> None:
    for name, frames in CLIPS.items():
        write_video(data / "Set" / "LQ" / f"{name}.mkv", [frame[::4, ::4].copy() for frame in frames])
    restorer = FakeRestorer()
    run_bench(data, tmp_path / "out", restorer, keyframes="iframes", references="bicubic")
    assert restorer.keyframes[0][0] == 0


def test_a_subset_is_said_everywhere(data: Path, tmp_path: Path) -> None:
    record = run_bench(data, tmp_path / "out", clips=("b",), max_frames=3)
    assert record["run"]["subset"] == "1 of 2 clips (b); frames: b 3 of 4"
    assert "SUBSET: 1 of 2 clips" in record["protocol"]
    assert len(record["clips"][0]["metrics"]["psnr"]["frames"]) == 3


def test_without_ground_truth(tmp_path: Path) -> None:
    for name, frames in CLIPS.items():
        write_frames(tmp_path / "Set" / "LQ" / name, frames)
    text = GOOD.replace("kind: paired", "kind: no-reference").replace("bicubic", "given").replace("psnr", "niqe")
    record = run_bench(tmp_path, tmp_path / "out", text=text, choice=MetricChoice("default"))
    assert [name for name, item in record["metrics"].items() if item["status"] == "ok"] == ["ewarp_dis", "flicker"]
    assert "own-flow" in record["metrics"]["ewarp_dis"]["protocol"]
    with pytest.raises(ConfigError, match="Set has no ground truth"):
        run_bench(tmp_path, tmp_path / "out", text=text, choice=MetricChoice("default"), keyframes="0", references="gt")


def test_a_skipped_metric_is_null_with_its_reason(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    monkeypatch.delenv("SPARKVSR_WEIGHTS", raising=False)
    record = run_bench(data, tmp_path / "out", choice=MetricChoice("all", every=4), clips=("a",), max_frames=2)
    raft = record["metrics"]["ewarp_raft"]
    assert (raft["value"], raft["mean"], raft["status"]) == (None, None, "skipped")
    assert "raft_large_C_T_V1" in raft["needs"][0]
    assert "ewarp_raft was skipped" in (tmp_path / "out" / "results.md").read_text()


def test_the_demo_needs_no_files(tmp_path: Path) -> None:
    options = RunOptions(model="bicubic", device="cpu", max_frames=2, clips=("pan",), save_frames=True)
    run = BenchRun.prepare(load_bench("demo"), tmp_path / "nothing", MetricChoice("psnr"), options)
    record = run.execute(tmp_path / "out")
    assert 15 < record["metrics"]["psnr"]["mean"] < 45
    assert record["run"]["data"] == "computed"
    assert len(list((tmp_path / "out" / "frames" / "pan").glob("*.png"))) == 2


def test_files_against_files(data: Path, tmp_path: Path) -> None:
    gt = data / "Set" / "GT"
    noisy = {
        name: [np.clip(f.astype(int) + 5, 0, 255).astype(np.uint8) for f in frames] for name, frames in CLIPS.items()
    }
    for name, frames in noisy.items():
        write_video(tmp_path / "sr" / f"{name}.mkv", frames)
    record = evaluate_files(tmp_path / "sr", gt, tmp_path / "out", metrics=QUICK)
    expected = np.mean([fidelity.psnr(s, g)[0] for s, g in zip(noisy["a"], CLIPS["a"], strict=True)])
    assert record["clips"][0]["metrics"]["psnr"]["mean"] == pytest.approx(expected)
    assert record["warnings"] == []
    assert "ffv1 bgr0" in record["clips"][0]["sr_source"]
    single = evaluate_files(gt / "a", gt / "a", tmp_path / "one", metrics=QUICK)
    assert single["metrics"]["psnr"] | {"ci95": None} == single["metrics"]["psnr"]
    assert single["metrics"]["psnr"]["capped"] == 4


def test_files_that_do_not_fit_are_refused_or_cut(data: Path, tmp_path: Path) -> None:
    gt = data / "Set" / "GT"
    long = write_frames(tmp_path / "long", [frame[:, 8:].copy() for frame in moving(0, frames=6)])
    with pytest.raises(MetricError, match="6 frames but the ground truth 4.*--trim"):
        evaluate_files(long, gt / "a", tmp_path / "out", metrics=QUICK)
    with pytest.raises(MetricError, match="56x48 but the ground truth 64x48.*--crop topleft"):
        evaluate_files(long, gt / "a", tmp_path / "out", metrics=QUICK, trim=True)
    record = evaluate_files(long, gt / "a", tmp_path / "out", metrics=QUICK, trim=True, crop="center")
    assert record["clips"][0]["size"] == [48, 56]
    assert any("cropped to 56x48 (center)" in text for text in record["warnings"])
    with pytest.raises(DatasetError, match="holds several clips but .* is a single clip"):
        evaluate_files(gt, gt / "a", tmp_path / "out", metrics=QUICK)
    write_frames(tmp_path / "set" / "a", CLIPS["a"])
    write_frames(tmp_path / "set" / "c", CLIPS["a"])
    with pytest.raises(DatasetError, match="without a partner: b, c"):
        evaluate_files(tmp_path / "set", gt, tmp_path / "out", metrics=QUICK)
    with pytest.raises(DatasetError, match="--pred .*gone does not exist"):
        evaluate_files(tmp_path / "gone", gt, tmp_path / "out", metrics=QUICK)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DatasetError, match="found: nothing"):
        evaluate_files(tmp_path / "empty", gt, tmp_path / "out", metrics=QUICK)


def test_lossy_files_are_warned_about(data: Path, tmp_path: Path) -> None:
    video = write_video(tmp_path / "sr.mp4", CLIPS["a"], "libx264", "yuv420p")
    record = evaluate_files(video, data / "Set" / "GT" / "a", tmp_path / "out", metrics=QUICK)
    assert any("sr.mp4 is h264 yuv420p" in text and "before encoding" in text for text in record["warnings"])


def test_runs_are_compared_with_p_and_published_rows(data: Path, tmp_path: Path) -> None:
    run_bench(data, tmp_path / "A")
    run_bench(data, tmp_path / "B", keyframes="0", references="gt")
    comparison = compare_runs([tmp_path / "A", tmp_path / "B" / "results.json"])
    paired = comparison["metrics"]["psnr"]["comparisons"][0]
    values = comparison["metrics"]["psnr"]["values"]
    assert paired["difference"] == pytest.approx(values[1] - values[0])
    assert paired["difference"] > 0
    assert (paired["clips"], paired["p_value"], paired["smallest_p"]) == (2, 0.5, 0.5)
    header, rows = comparison_rows(comparison)
    assert header == ["metric", "A", "B", "B - A", "95% interval", "p"]
    assert rows[0][0] == "psnr (higher is better)"
    assert "too few clips" in comparison_markdown(comparison)
    own = comparison["metrics"]["flicker"]["gt_mean"]
    assert any(row[0] == f"flicker (ground truth {own:.5f})" for row in rows)


def test_published_rows_stand_beside_a_run_where_the_definition_agrees(tmp_path: Path) -> None:
    bench = replace(load_bench("REDS4"), clips=("000",), num_clips=1, frames={"": 4})
    write_frames(tmp_path / "REDS4" / "GT" / "000", moving(0))
    run = BenchRun.prepare(bench, tmp_path, QUICK, RunOptions())
    run.execute(tmp_path / "out", load_model=lambda _options: FakeRestorer())
    text = comparison_markdown(compare_runs([tmp_path / "out"]))
    assert "| BasicVSR++ (c64n7) | 32.3855 | 0.9069 |" in text
    assert re.search(r"\| this: fake on REDS4, blind \| \d+\.\d{3} \| 0\.\d{4} \|", text)


def test_runs_of_different_clips_are_compared_over_the_common_ones(data: Path, tmp_path: Path) -> None:
    run_bench(data, tmp_path / "A")
    run_bench(data, tmp_path / "B", clips=("a",))
    comparison = compare_runs([tmp_path / "A", tmp_path / "B"])
    assert comparison["metrics"]["psnr"]["comparisons"][0]["clips"] == 1
    assert any("do not hold the same clips" in text for text in comparison["warnings"])
    assert any(text.startswith("B is not the whole bench: 1 of 2 clips") for text in comparison["warnings"])


def test_foreign_files_are_no_results(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    with pytest.raises(ConfigError, match="cannot be read"):
        compare_runs([path])
    path.write_text(json.dumps({"format": "other"}))
    with pytest.raises(ConfigError, match="format 'other', expected 'sparkvsr-eval/1'"):
        compare_runs([path])


def test_a_failing_metric_stops_the_producer(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of another size than the plan said would be resized by the engine, so they come from nowhere here."""
    produced = []

    def produce() -> Iterator[tuple[np.ndarray, None]]:
        for number in range(1000):
            produced.append(number)
            yield np.zeros((48, 60, 3), np.uint8), None

    truth = FileClip(data / "Set" / "GT" / "a")
    task = ClipTask("a", 4, 24.0, produce, truth, "x")
    options = MeasureOptions((METRICS["psnr"],))
    monkeypatch.setattr("sparkvsr.evaluation.measuring.QUEUE_BYTES", 10_000)
    with pytest.raises(MetricError, match="a: the restored frame is 60x48 but the ground truth is 64x48"):
        measure_clips([task], Toolbox(WeightStore(None)), options, tmp_path / "out")
    assert len(produced) < 1000


def test_the_queue_holds_a_limited_number_of_bytes() -> None:
    queue: ByteQueue[int] = ByteQueue(10)
    taken: list[int] = []
    thread = threading.Thread(target=lambda: taken.extend(queue.get() for _ in range(5)))
    thread.start()
    for number in range(5):
        queue.put(number, 8)
    thread.join(5)
    assert taken == list(range(5))
    queue.fail(MetricError("stop"))
    with pytest.raises(MetricError, match="stop"):
        queue.put(1, math.inf)  # type: ignore[arg-type]
    with pytest.raises(MetricError, match="stop"):
        queue.get()


def test_files_of_clips_keep_apart_and_fit() -> None:
    assert safe_name("clip-1.v2_é") == "clip-1.v2_é"
    names = ["a b", "a_b", "a/b", "a(b", "日" * 80 + "1", "日" * 80 + "2"]
    files = [safe_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert all(len(file.encode()) <= 140 and "/" not in file for file in files)
