"""`--devices` and `--ray`: the same result as one process, also when workers are killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from upscale_clips import ENTRY_POINT, check_event, run, write_clip

from sparkvsr.errors import ConfigError
from sparkvsr.inference.batch import upscale_many
from sparkvsr.inference.upscale import make_options
from sparkvsr.inference.workers.scale_out import Workers

BASELINE = ["--model", "bicubic", "--references", "bicubic", "--scale", "2"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shots; the first makes two segments."""
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4", frames=160, gop=250, cut=110)


@pytest.fixture(scope="module")
def whole(clip: Path) -> Path:
    """The result of one process."""
    out = clip.with_name("whole.mp4")
    assert run(clip, "-o", out, *BASELINE).exit_code == 0
    return out


def workers_of_this_process() -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if "sparkvsr.inference.workers.local_worker" in " ".join(child.cmdline())]


@pytest.fixture(autouse=True)
def _no_worker_is_left() -> Iterator[None]:
    yield
    assert not workers_of_this_process()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_lite_on_two_processes_equals_one(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "in.mp4", frames=14, gop=250, cut=8)
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    assert run(source, "-o", one, "--guidance", "1.5").exit_code == 0
    result = run(source, "-o", two, "--guidance", "1.5", "--devices", "2", "--json")
    assert result.exit_code == 0, result.stderr
    assert two.read_bytes() == one.read_bytes()
    seen = events(result.stdout)
    assert seen[0]["event"] == "workers"
    assert seen[0]["count"] == 2
    assert seen[-1]["event"] == "done"
    assert seen[-1]["rendered"] == 14
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4", "one.mp4", "two.mp4"]


def test_a_killed_worker_does_its_segment_again(clip: Path, whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    options = make_options(model="bicubic", references="bicubic", scale=2)
    notes, kills = [], 0

    def hook(event: dict[str, Any]) -> None:
        nonlocal kills
        check_event(event)
        if event["event"] == "note":
            notes.append(event["text"])
        if event["event"] == "progress" and 0 < event["done"] < event["total"] and kills < 2:
            kills += 1
            for worker in workers_of_this_process():
                worker.kill()

    outcomes = list(upscale_many([clip], out, options, hook, workers=Workers(devices=2)))
    assert [outcome.status for outcome in outcomes] == ["done"], outcomes
    assert kills
    assert any("died" in text and "done again" in text for text in notes)
    assert out.read_bytes() == whole.read_bytes()


def test_python_call_does_the_same(clip: Path, whole: Path, tmp_path: Path) -> None:
    import sparkvsr

    out = tmp_path / "out.mp4"
    options = {"model": "bicubic", "references": "bicubic", "scale": 2}
    result = sparkvsr.upscale(clip, out, devices=1, **options)
    assert result.rendered == 160
    assert out.read_bytes() == whole.read_bytes()
    with pytest.raises(sparkvsr.errors.EncodeError, match="exists"):
        sparkvsr.upscale(clip, out, devices=1, **options)
    with pytest.raises(ConfigError, match="loads its own model"):
        sparkvsr.upscale(clip, out, devices=1, model=sparkvsr.load_model("bicubic"))


def test_many_inputs_with_a_bad_one(clip: Path, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "bad.mp4").write_bytes(b"nonsense")
    out = tmp_path / "out"
    result = run(folder, "-o", out, "--devices", "2", "--json", *BASELINE)
    assert result.exit_code == 1
    assert "1 of 3 inputs failed" in result.stderr
    summary = events(result.stdout)[-1]
    assert {row["input"].rpartition("/")[2]: row["status"] for row in summary["rows"]} == {
        "a.mp4": "done",
        "b.mp4": "done",
        "bad.mp4": "failed",
    }
    assert sorted(entry.name for entry in out.iterdir()) == ["a_x2.mp4", "b_x2.mp4"]
    assert (out / "a_x2.mp4").read_bytes() == whole.read_bytes()


def test_images_are_shared_out_too(clip: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    part = ["--start", "106", "--frames", "8", *BASELINE]
    assert run(clip, "-o", f"{one}/", *part).exit_code == 0
    assert run(clip, "-o", f"{two}/", *part, "--devices", "2").exit_code == 0
    names = [path.name for path in sorted(one.iterdir())]
    assert names == [f"{index:05d}.png" for index in range(8)]
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in names)


def test_when_the_first_process_is_killed_the_rest_ends_and_one_process_goes_on(
    clip: Path, whole: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.mp4"
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            ENTRY_POINT,
            "upscale",
            str(clip),
            "-o",
            str(out),
            "--devices",
            "2",
            "--json",
            *BASELINE,
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and list(tmp_path.glob(".out.mp4.work/segments/*.json")):
            break
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert not out.exists()
    result = run(clip, "-o", out, "--json", *BASELINE)
    assert result.exit_code == 0, result.output
    resume = next(event for event in events(result.stdout) if event["event"] == "resume")
    assert resume["kept"] > 0
    assert out.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--devices", "0"], 2, "--devices 0 is out of range"),
        (["--devices", "2", "--device", "warp"], 2, "use auto, cpu"),
        (["--devices", "2", "--keyframes", "0,999"], 1, "keyframe 999 is outside the clip"),
        (["--devices", "2", "--guidance", "-1"], 2, "--guidance -1 is out of range"),
    ],
)
def test_errors_are_one_line(clip: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    result = run(clip, "-o", tmp_path / "out.mp4", *BASELINE, *arguments)
    assert result.exit_code == code
    lines = result.stderr.splitlines()
    assert len(lines) == 1
    assert words in lines[0]
    assert not any(tmp_path.iterdir())


def test_ray_that_is_not_installed_is_said(clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run(clip, "-o", tmp_path / "out.mp4", *BASELINE, "--ray", "local")
    assert result.exit_code == 2
    assert (
        result.stderr
        == "Error: --ray needs Ray, which is not installed; install it with: pip install 'sparkvsr[ray]'\n"
    )


def need_ray() -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        if os.environ.get("SPARKVSR_REQUIRE_RAY") == "1":
            pytest.fail("SPARKVSR_REQUIRE_RAY=1, but ray cannot be imported")
        pytest.skip("needs ray (pip install 'sparkvsr[ray]')")


def test_ray_equals_one_process_also_when_an_actor_is_killed(clip: Path, whole: Path, tmp_path: Path) -> None:
    need_ray()
    options = make_options(model="bicubic", references="bicubic", scale=2)
    notes: list[str] = []
    killed: list[int] = []

    def hook(event: dict[str, Any]) -> None:
        check_event(event)
        if event["event"] == "note":
            notes.append(event["text"])
        if event["event"] == "progress" and not killed:
            actors = [
                child
                for child in psutil.Process().children(recursive=True)
                if child.name().startswith("ray::RayActor.answer")
            ]
            killed.extend(child.pid for child in actors[:1])
            for child in actors[:1]:
                child.kill()

    out = tmp_path / "out.mp4"
    outcomes = list(upscale_many([clip], out, options, hook, workers=Workers(devices=3, ray="local")))
    assert [outcome.status for outcome in outcomes] == ["done"], outcomes
    assert killed
    assert any("done again" in text for text in notes)
    assert out.read_bytes() == whole.read_bytes()


def test_a_cluster_that_is_not_there_is_one_error() -> None:
    need_ray()
    options = make_options(model="bicubic")
    started = time.monotonic()
    with pytest.raises(ConfigError, match="no Ray cluster could be reached"):
        list(upscale_many([Path("a.mp4")], None, options, lambda event: None, workers=Workers(ray="127.0.0.1:1")))
    assert time.monotonic() - started < 60
