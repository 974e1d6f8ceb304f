"""`sparkvsr upscale` as a user runs it: the installed entry point, real files, exit codes and words."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from typer.testing import Result
from upscale_clips import decoded, picture, run, write_clip

# The baseline model and maker: these tests are about the command, the models have their own.
ENTRY_POINT = (
    "from importlib.metadata import entry_points as e; next(iter(e(group='console_scripts', name='sparkvsr'))).load()()"
)
BASELINE = ["--model", "bicubic", "--references", "bicubic"]


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4")


def fails(result: Result, code: int, words: str) -> None:
    """One clear line on stderr, the exit code, and a clean exit (not a traceback that also gives 1)."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert words in lines[0], lines[0]


def streams(path: Path) -> dict[str, tuple[object, ...]]:
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        count = sum(1 for _ in container.decode(video=0))
        return {
            "video": (video.width, video.height, count, video.average_rate),
            "audio": tuple(stream.codec_context.name for stream in container.streams.audio),
        }


def test_default_output_has_four_times_the_size_same_frames_and_sound(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "in.mp4"
    source.write_bytes(clip.read_bytes())
    result = run(source, "--iframes", *BASELINE)
    assert result.exit_code == 0, result.output
    assert streams(tmp_path / "in_x4.mp4") == {"video": (256, 192, 20, 25), "audio": ("aac",)}
    assert "keyframes: I-frames: 0, 8, 16" in result.stdout
    assert "in_x4.mp4 (256x192, 20 frames" in result.stdout
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mp4", "in_x4.mp4"]


def test_json_has_one_object_a_line_and_nothing_else(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "-o", tmp_path / "out.mp4", "--json", "--keyframes", "0,12", *BASELINE)
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    names = [event["event"] for event in events]
    assert names[0] == "input"
    assert names[-1] == "done"
    assert {"plan", "progress"} <= set(names)
    plan = next(event for event in events if event["event"] == "plan")
    assert plan["keyframes"] == [0, 12]
    assert plan["shots"] == [[0, 20]]
    last = [event for event in events if event["event"] == "progress"][-1]
    assert (last["done"], last["total"]) == (20, 20)
    assert events[-1]["frames"] == 20
    assert events[-1]["bytes"] == (tmp_path / "out.mp4").stat().st_size


def test_a_cut_is_a_shot_start_and_a_keyframe(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "cut.mp4", frames=30, gop=250, cut=13)
    result = run(source, "--json", *BASELINE)
    plan = next(e for e in map(json.loads, result.stdout.splitlines()) if e["event"] == "plan")
    assert plan["shots"] == [[0, 13], [13, 30]]
    assert plan["keyframes"] == [0, 13]


def test_part_of_a_clip_and_comparison(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "part.mp4"
    result = run(clip, "-o", out, "--start", "4", "--frames", "7", "--compare", "--every", "5", *BASELINE)
    assert result.exit_code == 0, result.output
    assert streams(out)["video"][:3] == (256, 192, 7)
    assert streams(tmp_path / "part_compare.mp4")["video"][:3] == (516, 192, 7)
    assert "every 5 frames: 4, 9" in result.stdout


def test_image_sequence_in_and_out(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for index in range(3):
        cv2.imwrite(str(folder / f"{index:03d}.png"), picture(index, 20, 30))
    result = run(folder, "--scale", "2", *BASELINE)
    assert result.exit_code == 0, result.output
    made = sorted((tmp_path / "frames_x2").iterdir())
    assert [path.name for path in made] == ["00000.png", "00001.png", "00002.png"]
    assert cv2.imread(str(made[0])).shape == (40, 60, 3)


def test_one_image(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), picture(0, 20, 30))
    result = run(tmp_path / "photo.png", *BASELINE)
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(tmp_path / "photo_x4.png")).shape == (80, 120, 3)


def test_several_inputs_go_on_after_a_bad_one(clip: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"nonsense")
    result = run(bad, clip, "-o", tmp_path / "out", "--scale", "1", *BASELINE)
    assert result.exit_code == 1
    assert "1 of 2 inputs failed" in result.stderr
    assert (tmp_path / "out" / "in_x1.mp4").is_file()


def test_references_folder_alone_chooses_the_keyframes(clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    refs.mkdir()
    for index in (0, 8):
        cv2.imwrite(str(refs / f"{index:05d}.png"), picture(index, 192, 256))
    result = run(clip, "-o", tmp_path / "out.mp4", "--model", "bicubic", "--references", refs)
    assert result.exit_code == 0, result.output
    assert "as given: 0, 8" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--keyframes", "0,99"], 1, "keyframe 99 is outside the clip (frames 0 to 19)"),
        (["--keyframes", "4,4"], 1, "keyframe 4 is given twice"),
        (["--keyframes", "4,6"], 1, "at least 4"),
        (["--keyframes", "a"], 2, "write it like 0,48,96"),
        (["--iframes", "--every", "8"], 2, "exclude each other"),
        (["--every", "2"], 2, "--every 2 is too close"),
        (["--random", "9"], 2, "1 to 5 keyframes"),
        (["--scale", "0.5"], 2, "shrink"),
        (["--scale", "5"], 2, "up to 256x192"),
        (["--height", "24"], 2, "shrink"),
        (["--size", "big"], 2, "WIDTHxHEIGHT"),
        (["--guidance", "-1"], 2, "--guidance -1 is out of range"),
        (["--start", "20"], 2, "--start 20 is beyond the clip"),
        (["--frames", "0"], 2, "--frames 0"),
        (["--tile", "8"], 2, "--tile 8 is too small"),
        (["--chunk-frames", "0"], 2, "--chunk-frames 0"),
        (["--device", "warp"], 2, "use auto, cpu"),
        (["--dtype", "fp4"], 2, "use auto, fp32"),
        (["--codec", "vp3"], 1, "vp3"),
        (["--codec", "prores", "-o", "x.mp4"], 1, "prores"),
        (["--crf", "99"], 1, "99"),
        (["-o", "/proc/nowhere/out.mp4"], 1, "/proc"),
    ],
)
def test_bad_options_are_refused_with_one_line(clip: Path, arguments: list[str], code: int, words: str) -> None:
    fails(run(clip, *BASELINE, *arguments), code, words)


def test_unknown_model_is_refused(clip: Path) -> None:
    fails(run(clip, "--model", "best"), 1, "--model 'best' is unknown; use lite")


def test_a_folder_that_is_no_model_is_refused(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("")
    fails(run(clip, "--model", tmp_path), 1, "is not a model folder (found readme.txt)")


def test_unknown_references_are_refused(clip: Path) -> None:
    fails(run(clip, "--model", "bicubic", "--references", "magic"), 2, "neither lite, detail, bicubic")


def test_reference_outside_the_clip_is_refused(clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "00077.png"), picture(0, 192, 256))
    fails(run(clip, "--model", "bicubic", "--references", tmp_path), 1, "for frame 77, outside the clip")


def test_missing_reference_is_refused(clip: Path, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "00000.png"), picture(0, 192, 256))
    result = run(clip, "--model", "bicubic", "--references", tmp_path, "--keyframes", "0,8")
    fails(result, 1, "add 00008.png")


def test_missing_input_is_refused(tmp_path: Path) -> None:
    fails(run(tmp_path / "none.mp4", *BASELINE), 1, "none.mp4")


def test_input_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        audio = out.add_stream("aac", rate=16000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.int16), format="s16", layout="mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(audio.encode())
    fails(run(tmp_path / "sound.mp4", *BASELINE), 1, "sound.mp4")


def test_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    fails(run(tmp_path / "empty.mp4", *BASELINE), 1, "empty.mp4")


def test_existing_output_is_kept(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    fails(run(clip, "-o", out, *BASELINE), 1, "--overwrite")
    assert out.read_text() == "precious"
    assert run(clip, "-o", out, "--overwrite", *BASELINE).exit_code == 0
    assert out.stat().st_size > 1000


def test_truncated_file_gives_what_is_there_and_says_so(clip: Path, tmp_path: Path) -> None:
    whole = write_clip(tmp_path / "long.mkv", frames=60)
    data = whole.read_bytes()
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(data[: len(data) // 2])
    result = run(cut, *BASELINE)
    assert result.exit_code == 0, result.output
    frames = streams(tmp_path / "cut_x4.mkv")["video"][2]
    assert 0 < frames < 60  # type: ignore[operator]


def interrupted(arguments: list[str | Path], stop: signal.Signals, after: int) -> int:
    """Run the command and send it a signal once ``after`` frames were restored; gives its exit code."""
    process = subprocess.Popen(
        [sys.executable, "-c", ENTRY_POINT, "upscale", *map(str, arguments), "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["done"] >= after:
            break
    process.send_signal(stop)
    _, error = process.communicate(timeout=60)
    assert "Traceback" not in error
    return process.returncode


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_run_goes_on_and_gives_the_same_frames(tmp_path: Path, stop: signal.Signals) -> None:
    source = write_clip(tmp_path / "long.mp4", frames=450, size=(64, 96), gop=250)
    whole = tmp_path / "whole.mp4"
    assert run(source, "-o", whole, *BASELINE).exit_code == 0
    out = tmp_path / "out.mp4"
    code = interrupted([source, "-o", out, *BASELINE], stop, after=200)
    assert code == (130 if stop is signal.SIGINT else -9)
    assert not out.exists()
    result = run(source, "-o", out, "--json", *BASELINE)
    assert result.exit_code == 0, result.output
    events = {event["event"]: event for event in map(json.loads, result.stdout.splitlines())}
    assert events["resume"]["kept"] >= 100
    assert events["done"]["rendered"] == 450 - events["resume"]["kept"]
    assert decoded(out) == decoded(whole)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["long.mp4", "out.mp4", "whole.mp4"]


def test_disk_full_is_one_line_and_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the write fails in the middle either way."""
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n" + ENTRY_POINT
    )
    done = subprocess.run(
        [sys.executable, "-B", "-c", code, "upscale", str(clip), "-o", str(tmp_path / "out.mp4"), *BASELINE],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("Error: ")
    assert not any(tmp_path.iterdir())


def test_python_call_does_the_same(clip: Path, tmp_path: Path) -> None:
    import sparkvsr

    result = sparkvsr.upscale(
        clip, tmp_path / "out.mp4", model="bicubic", references="bicubic", keyframes="iframes", scale=2, crf=20
    )
    assert (result.width, result.height, result.frames) == (128, 96, 20)
    assert result.keyframe_indices == (0, 8, 16)
    assert streams(result.output)["video"][:3] == (128, 96, 20)


def test_help_loads_nothing_heavy() -> None:
    heavy = "'torch', 'numpy', 'av', 'cv2', 'lightning', 'hydra', 'diffusers'"
    probe = f"import atexit, sys; atexit.register(lambda: print('loaded', [n for n in ({heavy}) if n in sys.modules]))"
    command = [sys.executable, "-c", f"{probe}\n{ENTRY_POINT}", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert "upscale" in done.stdout
    assert "loaded []" in done.stdout
