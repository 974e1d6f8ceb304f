"""Clips that several benchmarks make for themselves."""

from __future__ import annotations

from pathlib import Path

import torch

from sparkvsr.video import EncodeOptions, VideoWriter
from sparkvsr.video.pixels import resize_image


def drifting_textures(path: Path, frames: int, size: tuple[int, int], shot_frames: int) -> Path:
    """Write a video of a texture that drifts one pixel a frame, another one in another colour after each cut.

    Args:
        path: of the video.
        frames: its length.
        size: ``(height, width)``.
        shot_frames: frames from cut to cut.
    """
    generator = torch.Generator().manual_seed(0)
    height, width = size
    with VideoWriter(path, source=None, size=size, options=EncodeOptions(crf=20), overwrite=True) as writer:
        for index in range(frames):
            left = index % shot_frames
            if left == 0:
                colour = torch.rand(3, 1, 1, generator=generator)
                small = 0.5 * colour + 0.5 * torch.rand(3, height // 8, width // 8, generator=generator)
                texture = resize_image(small, (height, width + shot_frames))
            writer.write(texture[:, :, left : left + width])
    return path
