"""The scripts of cluster/: what they ask of torchrun and SLURM, and a run that one begins and the other ends."""

from __future__ import annotations

import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sparkvsr.training.checkpoints import read_header

ROOT = Path(__file__).parents[2]
TORCHRUN, SLURM = ROOT / "cluster" / "torchrun.sh", ROOT / "cluster" / "slurm.sbatch"
SMALL = (
    *("stage=1", "model=tiny", "trainer=ddp", "trainer.accelerator=cpu", "trainer.precision=32-true", "logger=none"),
    *("data.num_frames=1", "data.crop=[32,32]", "data.batch_size=1", "data.validation=null", "export_at_end=false"),
)

# What SLURM's srun does: a process for each task, each told which it is.
SRUN = """#!{python}
import os, subprocess, sys
words = sys.argv[1:]
assert words.pop(0) == "--kill-on-bad-exit=1"
tasks = int(os.environ["SLURM_NTASKS"])
started = [
    subprocess.Popen(words, env=dict(os.environ, SLURM_PROCID=str(rank), SLURM_LOCALID=str(rank)))
    for rank in range(tasks)
]
sys.exit(max(process.wait() for process in started))
"""


def options() -> dict[str, str]:
    """What the batch file asks of SLURM."""
    return dict(re.findall(r"^#SBATCH --([\w-]+)=?(\S*)$", SLURM.read_text(), re.MULTILINE))


def test_a_task_a_gpu_and_an_end_in_time() -> None:
    asked = options()
    assert asked["ntasks-per-node"] == asked["gpus-per-node"]
    signal, seconds = asked["signal"].split("@")
    assert signal == "TERM", "what a run takes as a wish to stop"
    assert int(seconds) >= 120
    assert "requeue" in asked
    assert asked["open-mode"] == "append", "a job that goes on keeps its log"


@pytest.mark.parametrize("script", [TORCHRUN, SLURM], ids=lambda path: path.name)
def test_a_script_without_a_run_folder_says_so(script: Path) -> None:
    assert script.stat().st_mode & stat.S_IXUSR
    environment = {key: value for key, value in os.environ.items() if key != "RUN"}
    done = subprocess.run([str(script)], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "set RUN to the run folder" in done.stderr


def run(script: Path, folder: Path, steps: int, **variables: str) -> None:
    """Run a script with two processes; its commands are found beside this Python first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    path = os.pathsep.join([str(folder), str(Path(sys.executable).parent), os.environ["PATH"]])
    main = {"MAIN": f"127.0.0.1:{port}", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    done = subprocess.run(
        [str(script), *SMALL, f"trainer.max_steps={steps}"],
        env={**os.environ, **main, "PATH": path, "RUN": str(folder / "run"), "OMP_NUM_THREADS": "1", **variables},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]


def test_a_run_that_torchrun_begins_goes_on_under_slurm(tmp_path: Path) -> None:
    run(TORCHRUN, tmp_path, 1, GPUS="2")
    assert read_header(tmp_path / "run" / "last.ckpt")["global_step"] == 1
    srun = tmp_path / "srun"
    srun.write_text(SRUN.format(python=sys.executable))
    srun.chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_JOB_NAME": "sparkvsr", "SLURM_JOB_NUM_NODES": "1", "SLURM_NNODES": "1"}
    tasks = {"SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost"}
    run(SLURM, tmp_path, 2, **job, **tasks)
    assert read_header(tmp_path / "run" / "last.ckpt")["global_step"] == 2
    assert sorted(file.name for file in (tmp_path / "run").glob("*.ckpt"))[0] == "last.ckpt"
