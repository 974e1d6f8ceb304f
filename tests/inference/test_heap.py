"""Free memory goes back to the system, and `upscale` sees to it."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import sparkvsr
from sparkvsr.inference.clip import heap, render
from sparkvsr.video import EncodeOptions, VideoWriter

# Small blocks lie on the heap; those that are kept hold its end in place, so that free() alone cannot shrink it.
_SCRIPT = """
import psutil
from sparkvsr.inference.clip.heap import release_free_memory

process = psutil.Process()
blocks = [bytes([1]) * 100_000 for _ in range(3000)]
kept = blocks[::30]
del blocks
before = process.memory_info().rss
assert release_free_memory()
print(before - process.memory_info().rss)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps free memory and can be told to let go")
def test_free_memory_between_used_blocks_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 200e6


def test_a_c_library_without_it_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heap, "_malloc_trim", lambda: None)
    assert not heap.release_free_memory()


def test_upscale_releases_it_every_few_frames(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[int] = []
    monkeypatch.setattr(render, "release_free_memory", lambda: calls.append(1))
    source = tmp_path / "in.mp4"
    options = EncodeOptions()
    with VideoWriter(source, source=None, size=(32, 48), options=options, overwrite=False) as writer:
        for index in range(40):
            writer.write(torch.full((3, 32, 48), index / 40))
    sparkvsr.upscale(source, tmp_path / "out.mp4", model="bicubic", keyframes="none", scale=2)
    # And once before the segments are joined.
    assert len(calls) == 40 // render.RELEASE_EVERY + 1 == 3
