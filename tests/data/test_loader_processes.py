"""Loader processes are forked from a process that has used its threads."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import cv2, numpy as np, torch
from torch.utils.data import DataLoader
from sparkvsr.data.datamodule import prepare_fork, use_one_thread

cv2.setNumThreads(4)
grey = np.random.default_rng(0).integers(0, 255, (256, 256), dtype=np.uint8)
flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
flow.calc(grey, np.roll(grey, 3, 1), None)

class Frames(torch.utils.data.Dataset):
    def __len__(self):
        return 4
    def __getitem__(self, index):
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        return float(flow.calc(grey, np.roll(grey, index, 1), None).mean())

for workers in (0, 2):
    {prepare}
    loader = DataLoader(Frames(), num_workers=workers, worker_init_fn=use_one_thread, timeout=20 if workers else 0)
    values = list(loader)
    print(len(values), cv2.getNumThreads())
"""


def test_forking_after_opencv_used_its_threads_does_not_hang() -> None:
    """Without ``prepare_fork`` the loader processes never answer: they inherit a pool without its threads."""
    program = PROGRAM.format(prepare="prepare_fork(workers)")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == ["4", "4", "4", "1"], done.stderr
