"""Every script in benchmarks/ can still be imported: what moves in the package moves there too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"

# One process for all: most of the time is torch's own import.
IMPORT_ALL = """
import importlib, sys, traceback
failed = []
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException:
        failed.append(name)
        traceback.print_exc()
sys.exit(", ".join(failed) or 0)
"""


def test_they_can_be_imported() -> None:
    scripts = sorted(path.stem for path in BENCHMARKS.glob("*.py"))
    assert len(scripts) > 20
    command = [sys.executable, "-c", IMPORT_ALL, *scripts]
    done = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
