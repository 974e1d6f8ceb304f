"""Fixtures of the video tests: small clips made on the spot, and ffprobe as the outside reader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

Probe = Callable[..., Any]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """The machine is shared, and the frames are tiny."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ffmpeg() -> Callable[..., None]:
    """Run Debian's ffmpeg; a skip without it, a failure where SPARKVSR_REQUIRE_FFMPEG=1 says that it must be there."""
    program = _find("ffmpeg")

    def run(*arguments: str | Path) -> None:
        subprocess.run([program, "-v", "error", "-nostdin", "-y", *map(str, arguments)], check=True, timeout=60)

    return run


@pytest.fixture(scope="session")
def ffprobe() -> Probe:
    """Ask ffprobe, which is not our own reader, about a file: ``ffprobe(path, "-show_streams")`` gives the JSON."""
    program = _find("ffprobe")

    def run(path: Path, *arguments: str) -> Any:
        command = [program, "-v", "error", "-of", "json", *arguments, str(path)]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout)

    return run


def _find(name: str) -> str:
    program = shutil.which(name)
    if program is None:
        if os.environ.get("SPARKVSR_REQUIRE_FFMPEG") == "1":
            pytest.fail(f"SPARKVSR_REQUIRE_FFMPEG=1, but {name} is not on PATH")
        pytest.skip(f"needs {name} on PATH as the outside reference")
    return program
