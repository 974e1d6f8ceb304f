"""`sparkvsr upscale` between pipes, as a shell runs it."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from upscale_clips import sparkvsr, write_clip

COMMAND = [sys.executable, "-m", "sparkvsr", "upscale"]
BASELINE = ["--model", "bicubic", "--scale", "2"]
W, H = 32, 24


def stream(frames: int) -> bytes:
    frame = np.arange(W * H * 3 // 2, dtype=np.uint8).tobytes()
    return f"YUV4MPEG2 W{W} H{H} F25:1 Ip A1:1 C420mpeg2\n".encode() + (b"FRAME\n" + frame) * frames


def test_a_container_comes_in_and_frames_go_out(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4", frames=5)
    done = subprocess.run(
        [*COMMAND, "-", "-o", "-", *BASELINE], input=clip.read_bytes(), capture_output=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    with av.open(io.BytesIO(done.stdout)) as container:
        assert container.format.name == "yuv4mpegpipe"
        assert len(list(container.decode(video=0))) == 5
    text = done.stderr.decode()
    assert "stdin holds a container" in text
    assert "Wrote    stdout" in text


def test_ctrl_c_ends_a_pipe_that_waits() -> None:
    process = subprocess.Popen(
        [*COMMAND, "-", "-o", "-", *BASELINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stderr is not None
    process.stdin.write(stream(3))
    process.stdin.flush()
    while line := process.stderr.readline():
        if b"of memory" in line:
            break
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read().decode().splitlines() == ["Error: interrupted; the frames before were handed on"]
    process.stdin.close()
    assert process.stdout is not None
    process.stdout.close()
    process.stderr.close()


def test_an_interrupt_during_an_import_ends_by_the_same_code(tmp_path: Path) -> None:
    """CPython ends by the signal when an interrupt passed through an ``exec``, as dataclasses use it."""
    (tmp_path / "interrupted.py").write_text(
        "import sparkvsr.cli.main as cli\n"
        "def app():\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        raise SystemExit(130) from None\n"
        "cli.app = app\n"
        "cli.run()\n"
    )
    assert (
        subprocess.run([sys.executable, "-m", "interrupted"], cwd=tmp_path, timeout=60, check=False).returncode == 130
    )


def test_an_interrupt_before_and_after_the_work_shows_no_traceback(tmp_path: Path) -> None:
    stop = "import os, signal, time; os.kill(os.getpid(), signal.SIGINT); time.sleep(5)"
    (tmp_path / "typer.py").write_text(stop)
    begun = subprocess.run(
        [sys.executable, "-m", "sparkvsr"], cwd=tmp_path, timeout=60, check=False, capture_output=True, text=True
    )
    assert (begun.returncode, begun.stderr) == (130, "Error: interrupted; nothing was written\n")
    stopped_by_first = subprocess.run(
        [sys.executable, "-c", "import sys; sys.argv = ['sparkvsr'];"
         "from sparkvsr.cli.start import guard_the_start; guard_the_start();" + stop.replace("(5)", "(0)")],
        env=os.environ | {"LOCAL_RANK": "1"}, timeout=60, check=False,
    )  # fmt: skip
    assert stopped_by_first.returncode == 0, "it waits for what the first process decides"
    (tmp_path / "typer.py").unlink()
    (tmp_path / "done.py").write_text(
        "import atexit, os, signal, time\n"
        "import sys\n"
        "sys.argv = ['sparkvsr']\n"
        "import sparkvsr.cli.main as cli\n"
        "def stop():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    time.sleep(5)\n"
        "cli.app = lambda: atexit.register(stop)\n"
        "cli.run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "done"], cwd=tmp_path, timeout=60, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_reader_that_goes_away_ends_it_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "in.y4m").write_bytes(stream(60))
    out, into = os.pipe()
    os.close(out)
    with (tmp_path / "in.y4m").open("rb") as source:
        done = subprocess.run(
            [*COMMAND, "-", "-o", "-", *BASELINE, "--json"],
            stdin=source, stdout=into, stderr=subprocess.PIPE, timeout=120, check=False,
        )  # fmt: skip
    os.close(into)
    assert done.returncode == 141
    lines = done.stderr.decode().splitlines()
    assert [line for line in lines if not line.startswith("{")] == [
        "Error: the program that reads stdout went away (broken pipe); see what it says"
    ]
    assert lines[0].startswith('{"event": "stream"')


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["-"], "- has no name that a result could be named after"),
        (["-", "in.mp4", "-o", "-"], "a pipe takes one clip"),
        (["-", "-o", "-", "--devices", "2"], "need files on both sides"),
        (["-", "-o", "-", "--dry-run"], "need files on both sides"),
        (["in.mp4", "-o", "out.mp4", "--output-format", "mkv"], "--output-format mkv is for -o -"),
        (["nowhere.mp4", "-o", "-", "--output-format", "avi"], "--output-format 'avi' is unknown; use y4m or mkv"),
        (["nowhere.mp4", "-o", "-", "--codec", "hevc"], "y4m, which is not encoded: --codec and --crf need"),
        (["-", "-o", "x.mkv", "--input-format", "yuv420p"], "is not PIXELFORMAT:WIDTHxHEIGHT:FPS"),
    ],
)
def test_what_does_not_go_together_is_told(arguments: list[str], what: str) -> None:
    result = sparkvsr("upscale", *arguments)
    assert result.exit_code == 2
    assert what in result.stderr
