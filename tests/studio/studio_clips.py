"""Small clips and a studio without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from sparkvsr.studio.frames import encoded
from sparkvsr.studio.studio import Studio, StudioOptions

BICUBIC = {"model": "bicubic", "device": "cpu", "codec": "h264", "guidance_scale": 1.0, "deinterlace": "auto"}


def picture(index: int, height: int, width: int, scene: int = 0) -> np.ndarray:
    """A moving pattern with edges; another scene has other colours."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wave = np.sin((x + index * 0.7) / 3) + np.cos((y + index * 0.3) / 4)
    boxes = ((x // 7 + y // 5) % 2) * 60
    out = np.stack([100 + 40 * wave + boxes, 80 + 40 * wave, 160 - 30 * wave], -1)
    return (out if scene == 0 else 255 - out[:, ::-1, ::-1]).clip(0, 255).astype(np.uint8)


# Four times this, 256x192, is a size at which x264 gives the same bits every time (at 192x128 it does not).
def write_clip(path: Path, frames: int = 24, size: tuple[int, int] = (48, 64), cut: int | None = 14) -> Path:
    """H.264 with an I-frame every 8 frames, and sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"g": "8", "sc_threshold": "0", "bf": "2"})
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


def reference(index: int, shade: int = 0, scene: int = 0) -> bytes:
    """A PNG that fits a frame of the default clip, four times its size."""
    large = cv2.resize(picture(index, 48, 64, scene), (256, 192), interpolation=cv2.INTER_CUBIC).astype(int)
    return encoded(np.clip(large + shade, 0, 255).astype(np.uint8), "png")


def studio_of(clip: Path, **more: Any) -> Studio:
    """A studio with the baseline model; its render process is not started."""
    values = {**BICUBIC, **more.pop("values", {})}
    return Studio(StudioOptions(clips=[clip], values=values, **more))


def until(condition: Callable[[], Any], seconds: float = 60.0) -> Any:
    """Wait for something to be true, and give it back."""
    stop = time.monotonic() + seconds
    while time.monotonic() < stop:
        found = condition()
        if found:
            return found
        time.sleep(0.03)
    msg = f"not within {seconds} s"
    raise AssertionError(msg)
