"""`sparkvsr eval` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from sparkvsr.cli.main import app
from typer.testing import CliRunner, Result

from sparkvsr.output_lock import OutputLock


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``GT`` and ``SR`` with two clips of three frames."""
    root = tmp_path_factory.mktemp("clips")
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        page = cv2.GaussianBlur(rng.integers(0, 255, (48, 80, 3)).astype(np.uint8), (0, 0), 1.5)
        for kind, blur in (("GT", 0.01), ("SR", 1.0)):
            folder = root / kind / name
            folder.mkdir(parents=True)
            for index in range(3):
                frame = cv2.GaussianBlur(page[:, 4 * index : 4 * index + 64], (0, 0), blur)
                cv2.imwrite(str(folder / f"{index:03d}.png"), frame)
    return root


def test_files_are_measured_and_written(clips: Path, tmp_path: Path) -> None:
    result = invoke("--pred", clips / "SR", "--gt", clips / "GT", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "mean over clips" in result.stdout
    assert "ground truth's own" in result.stdout
    record = json.loads((tmp_path / "out" / "results.json").read_text())
    assert f"{record['metrics']['psnr']['mean']:.3f}" in result.stdout
    for name in ("results.csv", "results.md", "report.html"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    again = invoke("--pred", clips / "SR", "--gt", clips / "GT", "-o", tmp_path / "out")
    assert "kept from before" in again.stderr
    with OutputLock(tmp_path / "out"):  # of another run
        busy = invoke("--pred", clips / "SR", "--gt", clips / "GT", "-o", tmp_path / "out")
        assert "another sparkvsr writes" in busy.stderr
        busy = invoke("--bench", "demo", "--model", "bicubic", "-o", tmp_path / "out")
        assert (busy.exit_code, "another sparkvsr writes" in busy.stderr) == (1, True)


def test_long_runs_tell_where_they_are(clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkvsr.cli.eval.SECONDS_BETWEEN_LINES", 0.0)
    result = invoke("--pred", clips / "SR", "--gt", clips / "GT", "--metrics", "psnr", "-o", tmp_path / "out")
    assert "b: 5 of 6 frames measured" in result.stderr
    assert "left" in result.stderr


def test_demo_runs_with_the_baseline(tmp_path: Path) -> None:
    result = invoke("--bench", "demo", "--model", "bicubic", "--frames", "2", "--clips", "zoom", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert "bicubic on demo, blind" in result.stdout
    record = json.loads((tmp_path / "results.json").read_text())
    assert set(record["metrics"]) == {"psnr", "psnr_y", "ssim", "ssim_y", "ewarp_dis", "tof", "flicker"}


def test_several_benches_get_a_folder_each(clips: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(
            "title: t\nkind: paired\nscale: 4\nnum_clips: 2\ndegradation: bd\nmetrics: psnr\nprimary: psnr\n"
            "gt_folders: [GT]\nlr_folders: [LQ]\nlr_required: false\nget: x\n"
        )
    benches = [part for name in ("one", "two") for part in ("--bench", tmp_path / f"{name}.yaml")]
    result = invoke(*benches, "--model", "bicubic", "--data-root", clips, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    runs = [tmp_path / "out" / name / "results.json" for name in ("one", "two")]
    report = invoke("report", *runs, "-o", tmp_path / "report.md")
    assert report.exit_code == 0, report.output
    assert "psnr (higher is better)" in report.stdout
    assert "different benches: one, two" in report.stdout
    assert "B - A" in (tmp_path / "report.md").read_text()
    assert invoke("report", *runs, "-o", tmp_path / "report.html").exit_code == 0
    page = (tmp_path / "report.html").read_text()
    assert "<th>B - A</th>" in page
    assert "psnr (higher is better)" in page
    wrong = invoke("report", *runs, "-o", tmp_path / "report.txt")
    assert (wrong.exit_code, "written as .md, .html or .json" in wrong.stderr) == (2, True)
    as_json = invoke("report", runs[0], "-o", tmp_path / "report.json")
    assert as_json.exit_code == 0
    assert json.loads((tmp_path / "report.json").read_text())["metrics"]["psnr"]["comparisons"] == []


def test_a_bench_typed_just_like_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without -o the results go to a folder of their own, which is said first; nothing is ever written over."""
    monkeypatch.chdir(tmp_path)
    arguments = ["--bench", "demo", "--model", "bicubic", "--frames", "2", "--clips", "zoom", "--metrics", "psnr"]
    for name in ("demo-bicubic", "demo-bicubic-2"):
        result = invoke(*arguments)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(f"Results go to results/{name}\n")
        assert (tmp_path / "results" / name / "results.json").is_file()
    (tmp_path / "results" / "demo-bicubic-2" / "results.json").unlink()  # as if that run had been killed
    result = invoke(*arguments)
    assert result.stdout.startswith("Results go to results/demo-bicubic-3\n")
    assert "-o results/demo-bicubic-2 goes on with it" in result.stdout
    failed = invoke(*arguments, "--model", "gone")
    assert (failed.exit_code, "--model 'gone' is unknown" in failed.stderr) == (1, True)
    assert not (tmp_path / "results" / "demo-gone").exists()


def test_data_are_looked_for_where_the_environment_says_and_here(
    clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPARKVSR_DATA", str(tmp_path / "elsewhere"))
    missing = invoke("--bench", "REDS4")
    assert missing.exit_code == 1
    first = missing.stderr.splitlines()[0]
    assert f"REDS4 was not found; expected {tmp_path}/elsewhere/REDS4/GT/000/*.png or data/REDS4/GT/000/*.png" in first
    assert missing.stdout == ""
    assert not (tmp_path / "results").exists()
    for root, frame in (("data", "000.png"), ("elsewhere", "001.png")):
        home = tmp_path / root / "REDS4" / "GT" / "000"
        home.mkdir(parents=True)
        (home / frame).write_bytes((clips / "GT" / "a" / frame).read_bytes())
        result = invoke("--bench", "REDS4", "--model", "bicubic", "--metrics", "psnr")
        assert result.exit_code == 0, result.output
        record = json.loads(
            Path(result.stdout.splitlines()[0].removeprefix("Results go to "), "results.json").read_text()
        )
        assert record["clips"][0]["gt_source"].startswith(str(home.relative_to(tmp_path) if root == "data" else home))


def test_check_says_what_is_wrong_and_fails(clips: Path, tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "title: t\nkind: paired\nscale: 4\nclips: [a, b, c]\nframes: 4\ndegradation: bicubic\nlr_required: false\n"
        "metrics: psnr\nprimary: psnr\ngt_folders: [GT]\nlr_folders: [LQ]\nget: x\n"
    )
    result = invoke("--check", "--bench", path, "--data-root", clips)
    assert result.exit_code == 1
    assert "a: GT 3 frames 64x48, LR frames are made" in result.stdout
    assert "problem: a: has 3 frames, the protocol has 4" in result.stdout
    assert "missing: c" in result.stdout
    assert "data/README.md" in result.stderr
    assert invoke("--check", "--bench", "demo").exit_code == 0


def test_an_output_that_cannot_be_written_is_one_line(clips: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments in (["--bench", "demo", "--model", "gone"], ["--pred", clips / "SR", "--gt", clips / "GT"]):
        result = invoke(*arguments, "-o", tmp_path / "file" / "out")
        assert result.exit_code == 1
        assert "cannot write the results into" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1


def test_benches_are_listed() -> None:
    result = invoke("--bench", "list")
    assert result.exit_code == 0
    assert "REDS4" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pred", "x", "-o", "o"], "--pred and --gt belong together"),
        (["--pred", "x", "--gt", "y", "--bench", "demo", "-o", "o"], "give either --bench"),
        (["-o", "o"], "give either --bench"),
        (["--pred", "x", "--gt", "y"], "eval needs -o DIR"),
        (["--bench", "demo", "--tile", "8"], "--tile 8 is too small"),
        (["--bench", "REDS5", "-o", "o"], "did you mean REDS4"),
        (["--check", "--pred", "x", "--gt", "y"], "--check needs --bench"),
        (["--bench", "demo", "--metrics", "beauty", "-o", "o"], "'beauty' is unknown"),
        (["--bench", "demo", "--keyframes", "some", "-o", "o"], "keyframes 'some' is unknown"),
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], message: str) -> None:
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    assert message in result.stderr
    assert isinstance(result.exception, SystemExit)


def test_no_arguments_show_the_help() -> None:
    result = invoke()
    assert "--bench" in result.output


ENTRY_POINT = (
    "from importlib.metadata import entry_points as e; next(iter(e(group='console_scripts', name='sparkvsr'))).load()()"
)


def quick(*arguments: str | Path, **environment: str) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the installed command and take its CPU time, which a busy machine does not stretch."""
    import os
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", ENTRY_POINT, "eval", *map(str, arguments)], capture_output=True, text=True, timeout=60,
        check=False, env={**os.environ, **environment},
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done, min(used, time.monotonic() - started)


def test_missing_data_are_said_within_two_seconds(tmp_path: Path) -> None:
    done, seconds = quick("--bench", "UDM10", "--data-root", tmp_path, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "UDM10 was not found; expected" in done.stderr
    assert "data/README.md" in done.stderr
    assert seconds < 2
    assert not (tmp_path / "out").exists()


def test_missing_metrics_are_exit_code_3_within_two_seconds(tmp_path: Path) -> None:
    done, seconds = quick(
        "--bench", "demo", "--metrics", "default,niqe,ewarp_raft", "-o", tmp_path / "out",
        XDG_CACHE_HOME=str(tmp_path), TORCH_HOME=str(tmp_path), SPARKVSR_WEIGHTS="",
    )  # fmt: skip
    assert done.returncode == 3
    assert len(done.stderr.splitlines()) == 4, done.stderr
    assert "niqe_pris_params.npz" in done.stderr
    assert "raft_large_C_T_V1-22a6c225.pth" in done.stderr
    assert seconds < 2
    assert not (tmp_path / "out").exists()
