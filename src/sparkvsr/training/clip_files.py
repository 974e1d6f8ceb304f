"""Validation clips as files a person can look at."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.data.samples import TrainBatch
from sparkvsr.video import VideoWriter


def write_comparison(folder: Path, name: str, batch: TrainBatch, sr: Tensor, fps: int) -> tuple[Tensor, Tensor]:
    """Write ``name.mp4`` and ``name.png``: LR (enlarged without smoothing), result and ground truth side by side.

    Args:
        folder: made if need be.
        name: without suffix.
        batch: one clip.
        sr: ``(1, F, 3, H, W)`` in [0, 1].
        fps: of the video.

    Returns:
        The picture of the middle frame, ``(3, H, 3 W)``, and all of them, ``(F, 3, H, 3 W)``, on the CPU.
    """
    folder.mkdir(parents=True, exist_ok=True)
    restored = sr[0].float().cpu()
    truth = batch.hr[0, : restored.shape[0]].float().cpu()
    lr = F.interpolate(batch.lr[0, : restored.shape[0]].float().cpu(), size=truth.shape[-2:], mode="nearest")
    frames = torch.cat([lr, restored, truth], dim=-1).clamp(0, 1)
    size = (frames.shape[-2], frames.shape[-1])
    with VideoWriter(folder / f"{name}.mp4", source=None, size=size, fps=Fraction(fps), overwrite=True) as video:
        for frame in frames:
            video.write(frame)
    middle = frames[frames.shape[0] // 2]
    with VideoWriter(folder / f"{name}.png", source=None, size=size, overwrite=True) as image:
        image.write(middle)
    return middle, frames
