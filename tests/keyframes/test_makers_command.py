"""Programs as reference makers: good ones, hanging ones, failing ones, and ones that write nonsense."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes.makers.command import CommandMaker
from sparkvsr.keyframes.makers.interface import MakerOptions
from sparkvsr.keyframes.references import make_reference_maker, resize_image

LR = resize_image(torch.rand(3, 3, 4, generator=torch.Generator().manual_seed(0)), (12, 16))


def program(tmp_path: Path, body: str) -> str:
    """The start of a command line that runs a Python script."""
    path = tmp_path / "a program.py"
    path.write_text("import sys, os, time, pathlib\n" + body)
    return f"command:{sys.executable} '{path}'"


UPSCALE = """
import cv2
image = cv2.imread(sys.argv[1])
factor = int(sys.argv[3])
cv2.imwrite(sys.argv[2], cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC))
"""


def test_a_program_gets_the_frame_and_its_image_is_used(tmp_path: Path) -> None:
    maker = make_reference_maker(program(tmp_path, UPSCALE) + " {input} {output} {scale}")
    made = maker.make(LR, (48, 64), 3)
    assert made.shape == (3, 48, 64)
    assert (resize_image(made, (12, 16)) - LR).abs().mean() < 0.05
    assert maker.name.startswith("command python")
    assert maker.jobs == 2


def test_placeholders_are_filled_once_and_without_a_shell(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    body = f"pathlib.Path({str(log)!r}).write_text('|'.join(sys.argv[3:]))\n" + "os.link(sys.argv[1], sys.argv[2])\n"
    words = (
        program(tmp_path, body) + " {input} {output} {scale} {width}x{height} {index} {prompt} '$HOME; rm -rf' {other}"
    )
    options = MakerOptions(prompt="a {input} $(id)", prompts={7: "face; {output}"})
    maker = make_reference_maker(words, options=options)
    maker.make(LR, (30, 40), 7)
    assert log.read_text() == "3|40x30|7|face; {output}|$HOME; rm -rf|{other}"
    maker.make(LR, (30, 40), 8)
    assert "|8|a {input} $(id)|" in log.read_text()


@pytest.mark.parametrize("command", ["", "tool", "tool {input}", "tool {output}", "tool 'x {input} {output}"])
def test_a_command_that_cannot_work_is_refused_before_any_work(command: str) -> None:
    with pytest.raises(ConfigError, match="--references command:"):
        make_reference_maker(f"command:{command}")


def test_a_missing_program_is_named() -> None:
    with pytest.raises(KeyframeError, match=r"cannot be started.*no-such-program installed"):
        CommandMaker("no-such-program {input} {output}").make(LR, (48, 64))


def test_a_failing_program_is_quoted_with_its_last_line(tmp_path: Path) -> None:
    body = "sys.stderr.write('loading\\n' * 100000 + 'no GPU \\x1b[31mfound\\n\\n'); sys.exit(3)"
    with pytest.raises(KeyframeError, match=r"failed for keyframe 5 \(exit 3\): no GPU \[31mfound"):
        make_reference_maker(program(tmp_path, body) + " {input} {output}").make(LR, (48, 64), 5)


def test_a_silent_failure_is_said(tmp_path: Path) -> None:
    with pytest.raises(KeyframeError, match=r"exit 1\): it wrote nothing to stderr"):
        make_reference_maker(program(tmp_path, "sys.exit(1)") + " {input} {output}").make(LR, (48, 64))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("pass", "wrote no image for keyframe 2"),
        ("pathlib.Path(sys.argv[2]).write_bytes(os.urandom(999))", "wrote no readable image"),
        ("pathlib.Path(sys.argv[2]).write_bytes(open(sys.argv[1], 'rb').read()[:60])", "wrote no readable image"),
        ("pathlib.Path(sys.argv[2]).mkdir()", "wrote no image"),
        ("import cv2, numpy; cv2.imwrite(sys.argv[2], numpy.zeros((6, 8, 3)))", "gave 8x6, smaller than the frame"),
        ("import cv2, numpy; cv2.imwrite(sys.argv[2], numpy.zeros((64, 64, 3)))", "gave 64x64 (aspect 1.000)"),
    ],
)  # fmt: skip
def test_nonsense_is_refused(tmp_path: Path, body: str, words: str) -> None:
    with pytest.raises(KeyframeError) as caught:
        make_reference_maker(program(tmp_path, body) + " {input} {output}").make(LR, (48, 64), 2)
    assert words in str(caught.value)


def alive(pid: int) -> bool:
    """Running, and not a zombie that nobody collected."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at /proc")
def test_a_hanging_program_and_its_children_are_ended(tmp_path: Path) -> None:
    log = tmp_path / "pids.txt"
    body = (
        "import subprocess\n"
        "child = subprocess.Popen(['sleep', '60'])\n"
        f"pathlib.Path({str(log)!r}).write_text(f'{{os.getpid()}} {{child.pid}}')\n"
        "time.sleep(60)\n"
    )
    options = MakerOptions(timeout_seconds=2)
    started = time.monotonic()
    with pytest.raises(KeyframeError, match="took longer than 2 seconds for keyframe 0"):
        make_reference_maker(program(tmp_path, body) + " {input} {output}", options=options).make(LR, (48, 64))
    assert time.monotonic() - started < 20
    pids = [int(text) for text in log.read_text().split()]
    deadline = time.monotonic() + 5
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(map(alive, pids))


def test_close_ends_what_runs_in_another_thread(tmp_path: Path) -> None:
    flag = tmp_path / "started"
    maker = make_reference_maker(
        program(tmp_path, f"pathlib.Path({str(flag)!r}).touch(); time.sleep(60)") + " {input} {output}"
    )
    errors: list[str] = []

    def work() -> None:
        try:
            maker.make(LR, (48, 64))
        except KeyframeError as exc:
            errors.append(str(exc))

    thread = threading.Thread(target=work)
    thread.start()
    deadline = time.monotonic() + 20
    while not flag.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    maker.close()
    thread.join(20)
    assert not thread.is_alive()
    assert len(errors) == 1


def test_temporary_files_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(KeyframeError):
        make_reference_maker(program(tmp_path, "sys.exit(1)") + " {input} {output}").make(LR, (48, 64))
    assert os.listdir(tmp_path) == ["a program.py"]  # noqa: PTH208
