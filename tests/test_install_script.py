"""`make install` (tools/install.py) says what it does: how much, how far, and why it cannot."""

from __future__ import annotations

import shutil
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

import install

PIP = """Collecting torch>=2.6 (from sparkvsr==0.1.0)
  Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl.metadata (31 kB)
  Downloading torch-2.14.1-cp311-cp311-manylinux_2_28_x86_64.whl (555.0 MB)
Progress 0 of 555000000
Progress 277000000 of 555000000
Progress 555000000 of 555000000
  Downloading rich-15.0.0-py3-none-any.whl (310 kB)
Building editable for sparkvsr (pyproject.toml): started
Installing collected packages: torch, rich, sparkvsr
"""


def test_large_downloads_and_the_unpacking_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    with install.Status("sparkvsr and what it needs") as status:
        for line in PIP.splitlines():
            status.see(line)
    assert capsys.readouterr().out.splitlines() == [
        "sparkvsr and what it needs ...",
        "sparkvsr and what it needs: torch (555.0 MB)",
        "sparkvsr and what it needs: 0.6 GB fetched, unpacking 3 packages ...",
    ]


def test_a_terminal_gets_one_line_that_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    with install.Status("torch") as status:
        for line in PIP.splitlines():
            status.see(line)
    out = capsys.readouterr().out
    assert "\n" not in out
    assert "torch: torch 277 of 555 MB" in out


def test_the_small_torch_is_taken_without_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(install.sys, "platform", "linux")
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(install, "has_package", lambda *_: False)
    gpus: list[str] = []
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/nvidia-smi" if gpus and name == "nvidia-smi" else None)
    monkeypatch.setattr(install.urllib.request, "urlopen", lambda address, timeout: nullcontext())
    python = Path(sys.executable)
    assert install.chosen_build("auto", python) == "cpu"
    assert "no NVIDIA GPU found" in capsys.readouterr().out
    assert install.chosen_build("default", python) == "cuda"
    gpus.append("one")
    assert install.chosen_build("auto", python) == "cuda"

    def unreachable(address: str, timeout: float) -> None:
        raise OSError("Name or service not known")

    monkeypatch.setattr(install.urllib.request, "urlopen", unreachable)
    assert install.chosen_build("cpu", python) == "cuda"
    assert "cannot be reached" in capsys.readouterr().out


def test_a_full_disk_is_seen_before_anything_is_downloaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100e9))
    assert install.announce("cuda", ["dev"], tmp_path)
    assert "about 3.5 GB to download (torch with CUDA is most of it), 7.4 GB on disk" in capsys.readouterr().out
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1e9))
    assert not install.announce("cpu", [], tmp_path)
    assert "only 1.0 GB free" in capsys.readouterr().err


def test_a_failing_pip_shows_its_words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install.run_pip(Path(sys.executable), ["install", "--no-index", "not-there-at-all"], "nothing") != 0
    err = capsys.readouterr().err
    assert "not-there-at-all" in err
    assert err.splitlines()[-1].startswith("Error: pip could not install nothing (exit code 1)")
