"""Clips of a second, made where they are needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np

Picture = Callable[[int, int, int, int], np.ndarray]


def smooth(index: int, height: int, width: int, scene: int = 0) -> np.ndarray:
    """A smooth moving pattern; another scene has other colours and direction."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wave = np.sin((x + index * (1 if scene == 0 else -2)) / 5) + np.cos(y / 7)
    out = np.stack([128 + 50 * wave, 90 + 40 * wave + 60 * scene, 160 - 30 * wave - 90 * scene], -1)
    return out.clip(0, 255).astype(np.uint8)


def textured(index: int, height: int, width: int, scene: int = 0) -> np.ndarray:
    """A moving pattern with edges; another scene has other colours."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wave = np.sin((x + index * 0.7) / 3) + np.cos((y + index * 0.3) / 4)
    boxes = ((x // 7 + y // 5) % 2) * 60
    out = np.stack([100 + 40 * wave + boxes, 80 + 40 * wave, 160 - 30 * wave], -1)
    return (out if scene == 0 else 255 - out[:, ::-1, ::-1]).clip(0, 255).astype(np.uint8)


def write_clip(
    path: Path,
    frames: int = 20,
    size: tuple[int, int] = (48, 64),
    gop: int = 8,
    cut: int | None = None,
    picture: Picture = smooth,
) -> Path:
    """H.264 with an I-frame every ``gop`` frames, and sound; another scene from frame ``cut`` on."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"g": str(gop), "sc_threshold": "0", "bf": "2"})
        video.width, video.height, video.pix_fmt = size[1], size[0], "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono")
        for index in range(frames):
            scene = 0 if cut is None or index < cut else 1
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture(index, *size, scene))))
        tone = (np.sin(np.arange(16000 * frames // 25) / 20) * 8000).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path
