"""Two processes with half the batch each train as one process with the whole batch does."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from sparkvsr.training.checkpoints import network_state, read_checkpoint

from .conftest import SMALL

# Sums over a batch in another order; Adam's first steps enlarge differences of tiny gradients.
TOLERANCE = 1e-6

SCRIPT = """
import sys
from sparkvsr.config import compose_config
from sparkvsr.training.run import train
train(compose_config(sys.argv[1:]))
"""


def test_two_processes_equal_one_with_twice_the_batch(train_small: Callable[..., object], tmp_path: Path) -> None:
    common = ("stage=1", *SMALL, "export_at_end=false", "logger=none", "data.num_frames=1", "data.validation=null")
    one, _ = train_small(*common, "data.batch_size=2", name="one")  # type: ignore[misc]
    script = tmp_path / "run_training.py"
    script.write_text(SCRIPT)
    two = tmp_path / "two"
    ddp = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "trainer.precision=32-true")
    subprocess.run(
        [sys.executable, str(script), *common, *ddp, "data.batch_size=1", f"paths.output_dir={two}"],
        check=True,
        timeout=240,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
    )
    first, second = (network_state(read_checkpoint(folder / "last.ckpt")) for folder in (one, two))
    start = network_state(read_checkpoint(one / "step-000002.ckpt"))
    assert set(first) == set(second) == set(start)
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < TOLERANCE
