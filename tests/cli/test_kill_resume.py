"""A short run of benchmarks/kill_resume.py: runs that were killed or found a full disk end in the same result."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_two_killed_runs_get_through_with_the_same_result() -> None:
    # In a process of its own: it forks, which this one, with its threads, must not.
    command = [sys.executable, str(BENCHMARKS / "kill_resume.py"), "--trials", "2", "--seed", "5"]
    command += ["--frames", "60", "--size", "64x48"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    totals = done.stdout.splitlines()[-1]
    assert totals.startswith("2 trials: ")
    assert totals.endswith("findings 0")
    assert " 0 kills" not in totals


def test_its_comparison_sees_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import kill_resume

    first = kill_resume.make_clip(tmp_path / "a.mp4", 12, (48, 64))
    second = kill_resume.make_clip(tmp_path / "b.mp4", 11, (48, 64))
    assert kill_resume.frames_digest(first) == kill_resume.frames_digest(first)
    assert kill_resume.frames_digest(first) != kill_resume.frames_digest(second)
