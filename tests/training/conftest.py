"""Small runs of the real configurations."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# Two-step runs of the nano model: the real structure in a second or two of computing.
SMALL = (
    "model=tiny",
    "debug=quick",
    "data.num_frames=9",
    "data.batch_size=1",
    "data.validation_frames=9",
    "data.validation.num_clips=1",
)
SMALL_LITE = ("model=lite", "debug=quick", "data.validation.num_clips=1", "model.upscaler.blocks=1")


class Recorder:
    """A hook that keeps the events."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.events.append(event)

    def losses(self) -> dict[int, float]:
        """Loss by step."""
        return {e["step"]: e["terms"]["loss"] for e in self.events if e["event"] == "step"}

    def last(self, kind: str) -> dict[str, Any]:
        """The latest event of a kind."""
        return next(e for e in reversed(self.events) if e["event"] == kind)


@pytest.fixture
def train_small(tmp_path: Path) -> Callable[..., tuple[Path, Recorder]]:
    """Run a training: overrides in, run folder and events out."""

    def run(*overrides: str, name: str = "run") -> tuple[Path, Recorder]:
        from sparkvsr.config import compose_config
        from sparkvsr.training.run import train

        recorder = Recorder()
        given = list(overrides)
        if not any(text.startswith("ckpt=") for text in given):
            given.append(f"paths.output_dir={tmp_path / name}")
        config = compose_config([*given, f"paths.cache_dir={tmp_path / 'cache'}"])
        return train(config, recorder), recorder

    return run
