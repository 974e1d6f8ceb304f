"""LR clips from ground truth: clean, x264 compressed, blurred and noisy."""

from __future__ import annotations

import io

import av
import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

Clip = NDArray[np.uint8]


def shrink_by_four(clip: Clip) -> Clip:
    """Antialiased bicubic /4 of ``(n, H, W, 3)`` uint8, rounded to 8 bit."""
    pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).float()
    size = (clip.shape[1] // 4, clip.shape[2] // 4)
    small = F.interpolate(pixels, size=size, mode="bicubic", antialias=True, align_corners=False)
    return small.clamp(0, 255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def through_x264(clip: Clip, crf: int, preset: str = "medium") -> Clip:
    """Encode and decode ``(n, h, w, 3)`` uint8 with x264 (yuv420p); h and w must be even."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": preset, "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = clip.shape[1], clip.shape[2], "yuv420p"
        for image in clip:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    buffer.seek(0)
    with av.open(buffer) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def degraded(clip: Clip, rng: np.random.Generator) -> Clip:
    """A random LR version of an HR clip: half clean, a third compressed, the rest blurred, noisy or both."""
    kind = rng.random()
    if kind < 0.5:
        return shrink_by_four(clip)
    if kind < 0.85:
        return through_x264(shrink_by_four(clip), int(rng.integers(18, 33)), str(rng.choice(["medium", "veryfast"])))
    if rng.random() < 0.6:
        sigma = rng.uniform(0.4, 1.6)
        clip = np.stack([cv2.GaussianBlur(image, (0, 0), sigma) for image in clip])
    small = shrink_by_four(clip)
    if rng.random() < 0.6:
        noise = rng.normal(0, rng.uniform(0.5, 5), small.shape)
        small = np.clip(small + noise + 0.5, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        small = through_x264(small, int(rng.integers(18, 29)))
    return small
