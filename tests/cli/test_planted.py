"""The benchmarks that harden the product find what is planted for them, and nothing where nothing is."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
FOUND = {
    "swapped": "is not that of the clip",
    "last-lost": "39 frames for 40",
    "repeated": "is not that of the clip",
    "noise": "is not that of the clip",
    "late-sound": "the sound is +0.120 s off",
}


@pytest.fixture
def benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # worker processes import by name, too


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize("fault", FOUND)
def test_what_is_wrong_in_every_run_alike_is_found(tmp_path: Path, fault: str) -> None:
    import av
    import numpy as np

    killer, planted = module("kill_resume"), module("planted")
    clip = killer.make_clip(tmp_path / "in.mp4", 40, (48, 64), shots=3)
    result = tmp_path / "out.mp4"
    with av.open(str(clip)) as source, av.open(str(result), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"crf": "10"})
        video.width, video.height = 128, 96
        sound = out.add_stream_from_template(source.streams.audio[0], opaque=True)
        for frame in source.decode(video=0):
            picture = frame.to_ndarray(format="rgb24").repeat(2, 0).repeat(2, 1)
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(video.encode())
        source.seek(0)
        for packet in source.demux(source.streams.audio[0]):
            if packet.size:
                packet.stream = sound
                out.mux(packet)
    assert killer.strangers(clip, result) == []
    planted.spoil(result, fault)
    assert any(FOUND[fault] in finding for finding in killer.strangers(clip, result))


@pytest.mark.parametrize(
    ("plant", "code", "words"),
    [
        ("last-lost", 1, "39 frames for 40"),
        ("unflushed", 1, "files got their names before their data were on the disk"),
        (None, 0, "as the clip"),
    ],
)
def test_kill_resume_fails_on_a_product_that_loses(plant: str | None, code: int, words: str) -> None:
    # Without a kill: the fault is in the undisturbed run as well, so only the look at the clip itself shows it.
    command = [sys.executable, str(BENCHMARKS / "kill_resume.py"), "--trials", "0", "--frames", "40", "--size", "64x48"]
    command += ["--plant", plant] if plant else []
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert words in done.stdout


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    ("fault", "outcome"),
    [("decode_foreign", "unexpected KeyError"), ("decode_crash", "crashed (exit code 11)"), ("decode_hang", "hung"),
     ("decode_two_lines", "unexpected AssertionError: a message is not one line")],
)  # fmt: skip
def test_fuzz_decode_finds_what_is_planted(tmp_path: Path, fault: str, outcome: str) -> None:
    fuzzer, planted = module("fuzz_decode"), module("planted")
    found = list(fuzzer.fuzz(1, 3, tmp_path, read=getattr(planted, fault), limit_seconds=2.0))
    assert found[0][1].startswith(outcome)


def test_full_disk_and_fuzz_many_find_what_is_planted(tmp_path: Path) -> None:
    # In a process of its own: they fork, which this one, with its threads, must not.
    done = subprocess.run([sys.executable, str(BENCHMARKS / "planted.py"), tmp_path], capture_output=True, text=True,
                          timeout=280, check=False)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert "c.html is neither old nor complete" in lines[0] or lines[0] == "full disk: cannot be mounted here"
    found = [
        "fuzz decode_foreign: input 0, decode: unexpected KeyError: 'damaged.",
        "fuzz decode_crash: input 0, decode: crashed (exit code 11)",
        "fuzz decode_hang: input 0, decode: hung",
    ]
    assert len(lines) == 4, done.stdout
    assert all(line.startswith(start) for line, start in zip(lines[1:], found, strict=True)), done.stdout


@pytest.mark.usefixtures("benchmarks")
@pytest.mark.parametrize(
    ("fault", "outcome"), [("use_and_write_outside", "wrote outside"), ("use_foreign", "unexpected")]
)
def test_fuzz_references_finds_what_is_planted(tmp_path: Path, fault: str, outcome: str) -> None:
    fuzzer, planted = module("fuzz_references"), module("planted")
    found = [entry[1] for entry in fuzzer.fuzz(6, 11, tmp_path, use=getattr(planted, fault))]
    assert any(text.startswith(outcome) for text in found), found
