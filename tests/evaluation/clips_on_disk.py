"""Small clips, written where a bench would look for them, and a model that needs no weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.models.interface import ModelPlan, RestorationModel, Session, ShotRequest

GOOD = """
title: t
kind: paired
scale: 4
clips: [a, b]
frames: 4
degradation: bicubic
lr_required: false
metrics: default
primary: psnr
gt_folders: [GT]
lr_folders: [LQ]
get: nowhere
"""


def moving(seed: int, frames: int = 4, size: tuple[int, int] = (48, 64)) -> list[np.ndarray]:
    """A textured page that slides by, ``(H, W, 3)`` uint8 frames."""
    rng = np.random.default_rng(seed)
    height, width = size
    page = rng.standard_normal((height + 16, width + 4 * frames + 16, 3)).astype(np.float32)
    page = 128 + 160 * cv2.GaussianBlur(page, (0, 0), 2.0)
    page[::8] += 30
    page = np.clip(np.rint(page), 0, 255).astype(np.uint8)
    return [page[i : i + height, 3 * i : 3 * i + width].copy() for i in range(frames)]


def write_frames(folder: Path, frames: Sequence[np.ndarray]) -> Path:
    """PNG files ``00000000.png`` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(frames):
        cv2.imwrite(str(folder / f"{index:08d}.png"), cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
    return folder


def write_video(path: Path, frames: Sequence[np.ndarray], codec: str = "ffv1", pixel_format: str = "bgr0") -> Path:
    """A video of the frames; ffv1 bgr0 is lossless in RGB."""
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=24)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        out.mux(stream.encode())
    return path


class FakeRestorer(RestorationModel):
    """Bicubic; a keyframe replaces its own frame, faded by the guidance. Counts its calls."""

    name = "fake"
    device = torch.device("cpu")
    dtype = torch.float32

    def __init__(self, weights: str = "1") -> None:
        self.weights = weights
        self.restored: list[int] = []
        self.keyframes: list[list[int]] = []

    def restore_clip(
        self, lr: Tensor, keyframes: Sequence[tuple[int, Tensor]], size: tuple[int, int], guidance_scale: float
    ) -> Iterator[Tensor]:
        self.restored.append(len(lr))
        self.keyframes.append([index for index, _ in keyframes])
        images = dict(keyframes)
        for index, frame in enumerate(lr):
            up = F.interpolate(frame[None], size=size, mode="bicubic", align_corners=False)[0].clamp(0, 1)
            yield torch.lerp(up, images[index], min(guidance_scale, 1.0)) if index in images else up

    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        return size

    def restore(self, lr: Tensor, *args: Any, **options: Any) -> Tensor:
        raise NotImplementedError

    def open_session(self, request: ShotRequest) -> Session:
        return _FakeSession(self, request)

    def plan(self, *args: Any, **options: Any) -> ModelPlan:
        return ModelPlan(chunk_frames=3, tile=None, memory_bytes=0)

    def fingerprint(self) -> str:
        return f"fake {self.weights}"


class _FakeSession(Session):
    """Holds everything back until the shot is complete."""

    def __init__(self, model: FakeRestorer, request: ShotRequest) -> None:
        self._model, self._request = model, request
        self._lr: list[Tensor] = []

    def push(self, lr: Tensor) -> Tensor:
        self._lr.extend(lr)
        return torch.empty(0, 3, *self._request.size)

    def finish(self) -> Tensor:
        keyframes = [(index, keyframe.hr) for index, keyframe in self._request.keyframes.items()]
        lr, size = torch.stack(self._lr), self._request.size
        return torch.stack(list(self._model.restore_clip(lr, keyframes, size, self._request.guidance_scale)))
