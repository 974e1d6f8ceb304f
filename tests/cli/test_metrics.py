"""`sparkvsr metrics`: a quick answer without heavy imports."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from sparkvsr.cli.main import app
from typer.testing import CliRunner

from sparkvsr.metrics.catalogue import METRICS


def test_every_metric_is_listed() -> None:
    result = CliRunner().invoke(app, ["metrics"])
    assert result.exit_code == 0
    assert all(f"  {name} " in result.stdout for name in METRICS)
    assert "--metrics default (always there)" in result.stdout


def test_json_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("SPARKVSR_WEIGHTS", raising=False)
    monkeypatch.delenv("TORCH_HOME", raising=False)
    result = CliRunner().invoke(app, ["metrics", "--json", "--weights-dir", str(tmp_path)])
    listing = json.loads(result.stdout)
    assert listing["psnr"]["status"] == "ready"
    assert listing["ewarp_raft"]["status"] == "weights missing"
    assert "raft_large_C_T_V1-22a6c225.pth" in listing["ewarp_raft"]["needs"][0]
    gone = CliRunner().invoke(app, ["metrics", "--weights-dir", str(tmp_path / "gone")])
    assert (gone.exit_code, "gone is no folder" in gone.stderr) == (2, True)


def test_it_is_quick_and_imports_nothing_heavy() -> None:
    """A process of its own, because this one has torch loaded; CPU time, because machines are busy."""
    code = (
        "import sys, time\n"
        "from sparkvsr.cli.main import app\n"
        "try: app(['metrics'])\n"
        "except SystemExit: pass\n"
        "print([n for n in ('torch', 'numpy', 'cv2', 'scipy', 'pyiqa') if n in sys.modules], time.process_time())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    loaded, seconds = done.stdout.strip().splitlines()[-1].rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 2
