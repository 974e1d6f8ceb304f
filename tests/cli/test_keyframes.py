"""`sparkvsr keyframes` as a user runs it, and the folder it writes as `sparkvsr upscale` reads it."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from sparkvsr.output_lock import OutputLock

CUT = 13


def picture(index: int, scene: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A moving pattern; the second scene has other colours. Frames 6 and 20 are sharp, the others blurred."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wave = np.sin((x + index) / 4) + np.cos(y / (5 + 3 * scene)) + 0.7 * np.sign(np.sin(x / 2) * np.sin(y / 3))
    out = np.stack([120 + 40 * wave, 90 + 30 * wave + 60 * scene, 160 - 30 * wave - 90 * scene], -1)
    out = out.clip(0, 255).astype(np.uint8)
    return out if index in (6, 20) else cv2.GaussianBlur(out, (0, 0), 1.5)


def write_clip(path: Path, frames: int = 30) -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "8", "sc_threshold": "0", "crf": "14"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for index in range(frames):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index, int(index >= CUT)))))
        out.mux(stream.encode())
    return path


@pytest.fixture(scope="session")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(tmp_path_factory.mktemp("clips") / "in.mp4")


def run(*arguments: str | Path, command: str = "keyframes") -> Result:
    app = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load().__globals__["app"]
    return CliRunner().invoke(app, [command, *map(str, arguments)])


def make(clip: Path, folder: Path, *arguments: str | Path) -> list[dict[str, Any]]:
    result = run(clip, "-o", folder, "--references", "bicubic", "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def fails(result: Result, code: int, words: str) -> None:
    """One clear line on stderr, the exit code, and a clean exit (not a traceback that also gives 1)."""
    assert result.exit_code == code, result.output
    assert isinstance(result.exception, SystemExit)
    lines = [line for line in result.stderr.splitlines() if line]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    assert words in lines[0], lines[0]


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_the_folder_holds_frames_references_sheet_and_list(clip: Path, tmp_path: Path) -> None:
    result = run(clip, "--scenes", "-o", tmp_path / "refs", "--references", "bicubic", "--prompt", "a wave")
    assert result.exit_code == 0, result.output
    names = ["00000.png", "00013.png", "contact_sheet.png", "keyframes.json", "lr/00000.png", "lr/00013.png"]
    assert tree(tmp_path) == [f"refs/{name}" for name in names]
    assert cv2.imread(str(tmp_path / "refs/00013.png")).shape == (192, 256, 3)
    assert cv2.imread(str(tmp_path / "refs/lr/00013.png")).shape == (48, 64, 3)
    content = json.loads((tmp_path / "refs/keyframes.json").read_text())
    assert content["clip"]["name"] == "in.mp4"
    assert content["clip"]["fingerprint"].startswith("64x48:30:25.0000:")
    expected = {"index": 13, "time": 0.52, "shot": 1, "file": "00013.png", "maker": "bicubic", "weight": 1.0}
    assert content["keyframes"][1] == {**expected, "prompt": "a wave"}
    assert "shot starts: 0, 13, in 2 shots" in result.stdout
    assert "contact_sheet.png" in result.stdout


def test_json_is_one_object_a_line(clip: Path, tmp_path: Path) -> None:
    events = make(clip, tmp_path / "refs", "--every", "10")
    assert [event["event"] for event in events if event["event"] != "analysis"] == [
        "input", "keyframes", "reference", "reference", "reference", "keyframes_done",
    ]  # fmt: skip
    assert events[-1]["keyframes"] == [0, 10, 20]
    assert events[-1]["failed"] == {}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--iframes"], [0, 8, 16, 24]),
        (["--keyframes", "3,9"], [3, 9]),
        (["--best", "2"], [6, 20]),
        ([], [0, 8, 13, 24]),
    ],
)
def test_every_way_to_choose(clip: Path, tmp_path: Path, arguments: list[str], expected: list[int]) -> None:
    assert make(clip, tmp_path / "refs", *arguments)[-1]["keyframes"] == expected


def test_random_is_the_same_for_the_same_seed(clip: Path, tmp_path: Path) -> None:
    chosen = [make(clip, tmp_path / str(k), "--random", "3", "--seed", "5")[-1]["keyframes"] for k in range(2)]
    assert chosen[0] == chosen[1]
    assert len(chosen[0]) == 3


def test_the_default_folder_lies_beside_the_clip(clip: Path, tmp_path: Path) -> None:
    source = tmp_path / "film.mp4"
    source.write_bytes(clip.read_bytes())
    assert run(source, "--scenes", "--references", "bicubic").exit_code == 0
    assert (tmp_path / "film_refs/keyframes.json").is_file()


def test_a_folder_with_something_in_it_is_kept_unless_told(clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    make(clip, refs, "--keyframes", "0,9")
    fails(run(clip, "-o", refs, "--references", "bicubic"), 1, "is not empty; pass --overwrite")
    with OutputLock(refs):  # of another run
        fails(run(clip, "-o", refs, "--overwrite"), 1, "another sparkvsr writes")
    (refs / "mine.txt").write_text("keep")
    cv2.imwrite(str(refs / "00020.png"), np.zeros((192, 256, 3), np.uint8))
    events = make(clip, refs, "--keyframes", "4", "--overwrite")
    assert tree(refs) == ["00004.png", "00020.png", "contact_sheet.png", "keyframes.json", "lr/00004.png", "mine.txt"]
    assert "also holds images for frames 20" in events[-1]["notes"][0]


def test_nothing_is_left_after_a_failure(clip: Path, tmp_path: Path) -> None:
    maker = f"command:{sys.executable} -c 'import sys; sys.exit(\"no luck\")' {{input}} {{output}}"
    fails(run(clip, "--scenes", "-o", tmp_path / "refs", "--references", maker), 1, "exit 1): no luck")
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_the_programs_and_leaves_nothing(clip: Path, tmp_path: Path) -> None:
    flag = tmp_path / "flag"
    script = tmp_path / "slow.py"
    script.write_text(f"import pathlib, time; pathlib.Path({str(flag)!r}).touch(); time.sleep(100)")

    def interrupt() -> None:
        deadline = time.monotonic() + 60
        while not flag.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = time.monotonic()
    maker = f"command:{sys.executable} {script} {{input}} {{output}}"
    result = run(clip, "--scenes", "-o", tmp_path / "refs", "--references", maker)
    thread.join()
    assert time.monotonic() - started < 60
    assert result.exit_code == 130, result.output
    assert "interrupted" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flag", "slow.py"]


PICKY = """
import sys, cv2
if "00013" in sys.argv[1]:
    sys.exit("I do not like this one")
cv2.imwrite(sys.argv[2], cv2.resize(cv2.imread(sys.argv[1]), None, fx=4, fy=4))
"""


def test_keep_going_leaves_a_failed_keyframe_out_and_says_so(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    maker = f"command:{sys.executable} {tmp_path / 'picky.py'} {{input}} {{output}}"
    refs = tmp_path / "refs"
    result = run(clip, "--keyframes", "0,13,20", "-o", refs, "--references", maker, "--keep-going")
    assert result.exit_code == 0, result.output
    assert "Note     keyframe 13 was left out" in result.stdout
    assert "I do not like this one" in result.stdout
    assert [item["index"] for item in json.loads((refs / "keyframes.json").read_text())["keyframes"]] == [0, 20]
    assert not (refs / "00013.png").exists()
    only = run(clip, "--keyframes", "13", "-o", tmp_path / "b", "--references", maker, "--keep-going")
    fails(only, 1, "no reference could be made")


def test_prompts_of_single_keyframes_reach_the_maker(clip: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    script = tmp_path / "tool.py"
    script.write_text(
        f"import sys, shutil; open({str(log)!r}, 'a').write(sys.argv[3] + ';'); shutil.copy(*sys.argv[1:3])"
    )
    prompts = tmp_path / "prompts.json"
    prompts.write_text('{"9": "a face", "77": "nobody"}')
    maker = f"command:{sys.executable} {script} {{input}} {{output}} {{prompt}}"
    arguments = [
        "--keyframes",
        "0,9",
        "--references",
        maker,
        "--prompt",
        "film",
        "--prompt-file",
        prompts,
        "--jobs",
        "1",
    ]
    result = run(clip, "-o", tmp_path / "refs", *arguments)
    assert result.exit_code == 0, result.output
    assert log.read_text() == "film;a face;"
    assert "no keyframes: [77]" in result.stdout


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": "b"}', '{"1": 2}', '{"-1": "x"}', '{"99999999999": "x"}', "[" * 99999]
)
def test_a_wrong_prompt_file_is_refused(clip: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "p.json").write_text(text)
    fails(run(clip, "-o", tmp_path / "refs", "--prompt-file", tmp_path / "p.json"), 2, "--prompt-file")


def test_check_finds_swapped_and_shifted_references(clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    make(clip, refs, "--keyframes", "6,20")
    result = run(clip, "--check", refs)
    assert result.exit_code == 0, result.output
    assert "Checked  2 references" in result.stdout
    assert "all of them fit" in result.stdout
    (refs / "00006.png").rename(refs / "x.png")
    (refs / "00020.png").rename(refs / "00006.png")
    (refs / "x.png").rename(refs / "00020.png")
    swapped = run(clip, "--check", refs)
    assert "Warning  00006.png" in swapped.stdout
    found = json.loads(run(clip, "--check", refs, "--json").stdout)
    assert found["keyframes"] == [6, 20]
    assert found["warnings"]


def test_check_refuses_what_upscale_would_refuse(clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    make(clip, refs, "--keyframes", "6,20")
    other = write_clip(tmp_path / "other.mp4", frames=26)
    fails(run(other, "--check", refs), 1, "was made for another video (in.mp4)")
    cv2.imwrite(str(refs / "00099.png"), np.zeros((192, 256, 3), np.uint8))
    fails(run(clip, "--check", refs), 1, "is for frame 99, outside the clip (frames 0 to 29)")
    (refs / "keyframes.json").write_text("{")
    fails(run(clip, "--check", refs), 1, "not readable JSON")
    fails(run(clip, "--check", tmp_path / "none"), 2, "is not a folder")


def test_upscale_reads_the_folder(clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    make(clip, refs, "--keyframes", "0,9,20")
    content = json.loads((refs / "keyframes.json").read_text())
    content["keyframes"][1]["weight"] = 0
    (refs / "keyframes.json").write_text(json.dumps(content))
    result = run(
        clip, "-o", tmp_path / "out.mp4", "--references", refs, "--model", "bicubic", "--json", command="upscale"
    )
    assert result.exit_code == 0, result.output
    plan = next(event for event in map(json.loads, result.stdout.splitlines()) if event["event"] == "plan")
    assert plan["keyframes"] == [0, 20]


def test_references_may_be_remade_from_a_folder(clip: Path, tmp_path: Path) -> None:
    make(clip, tmp_path / "small", "--keyframes", "0,9", "--scale", "2")
    result = run(clip, "--keyframes", "0,9", "-o", tmp_path / "large", "--references", tmp_path / "small")
    assert result.exit_code == 0, result.output
    assert cv2.imread(str(tmp_path / "large/00009.png")).shape == (192, 256, 3)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--iframes", "--best", "2"], 2, "--iframes and --best exclude each other"),
        (["--best", "0"], 2, "--best 0"),
        (["--best", "99"], 2, "take 1 to 9 keyframes"),
        (["--keyframes", "0,30"], 1, "keyframe 30 is outside the clip"),
        (["--keyframes", "auto"], 2, "--keyframes auto is for upscale"),
        (["--references", "nothing"], 2, "neither lite, detail, bicubic, realesrgan, video, command"),
        (["--scale", "9"], 2, "--scale 9"),
        (["--jobs", "0"], 2, "--jobs 0"),
        (["--timeout", "0"], 2, "--timeout 0"),
        (["--device", "toaster"], 2, "--device 'toaster'"),
    ],
)
def test_wrong_usage_is_one_clear_line(clip: Path, tmp_path: Path, arguments: list[str], code: int, words: str) -> None:
    given = arguments if "--references" in arguments else [*arguments, "--references", "bicubic"]
    fails(run(clip, "-o", tmp_path / "refs", *given), code, words)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_clip_and_a_file_as_folder(clip: Path, tmp_path: Path) -> None:
    fails(run(tmp_path / "none.mp4", "-o", tmp_path / "refs"), 1, "none.mp4")
    (tmp_path / "file").write_text("x")
    fails(run(clip, "-o", tmp_path / "file"), 1, "is a file, not a folder")
    fails(run(clip, "-o", tmp_path / "file" / "refs", "--references", "bicubic"), 1, "cannot be made")


def test_an_image_sequence_works_as_well(tmp_path: Path) -> None:
    frames = tmp_path / "frames"
    frames.mkdir()
    for index in range(6):
        cv2.imwrite(str(frames / f"{index:05d}.png"), picture(index, 0))
    events = make(frames, tmp_path / "refs", "--every", "4")
    assert events[-1]["keyframes"] == [0, 4]
