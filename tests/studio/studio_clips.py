"""Small clips and a studio without a browser."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import small_clips

from sparkvsr.studio.frames import encoded
from sparkvsr.studio.pictures import Pictures
from sparkvsr.studio.studio import Studio, StudioOptions

BICUBIC = {"model": "bicubic", "device": "cpu", "codec": "h264", "guidance_scale": 1.0, "deinterlace": "auto"}


# Four times this, 256x192, is a size at which x264 gives the same bits every time (at 192x128 it does not).
def write_clip(path: Path, frames: int = 24, size: tuple[int, int] = (48, 64), cut: int | None = 14) -> Path:
    """A clip with edges that move, of two shots."""
    return small_clips.write_clip(path, frames, size, cut=cut, picture=small_clips.textured)


def reference(index: int, shade: int = 0, scene: int = 0) -> bytes:
    """A PNG that fits a frame of the default clip, four times its size."""
    large = cv2.resize(small_clips.textured(index, 48, 64, scene), (256, 192), interpolation=cv2.INTER_CUBIC).astype(
        int
    )
    return encoded(np.clip(large + shade, 0, 255).astype(np.uint8), "png")


def studio_of(clip: Path, **more: Any) -> Studio:
    """A studio with the baseline model and the pictures in this process; its render process is not started."""
    values = {**BICUBIC, **more.pop("values", {})}
    return Studio(StudioOptions(clips=[clip], values=values, **more), ask=Pictures().ask)


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
