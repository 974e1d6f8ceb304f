"""Pictures of the best and the worst frame of a clip, cut to the window where the error is largest."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from sparkvsr.errors import SparkVSRError
from sparkvsr.evaluation.whole_files import write_whole
from sparkvsr.metrics.colour import Image8

MAX_WIDTH, MAX_HEIGHT = 640, 400
_JPEG_QUALITY = 90


@dataclass
class _Kept:
    index: int
    value: float
    sr: Image8
    gt: Image8 | None
    lr: Image8 | None


class ExtremeFrames:
    """Keeps the best and the worst frame of a clip while it streams by.

    Args:
        higher_is_better: for the metric that ranks frames.
    """

    def __init__(self, higher_is_better: bool) -> None:
        self._sign = 1.0 if higher_is_better else -1.0
        self._kept: dict[str, _Kept] = {}

    def offer(self, index: int, value: float | None, sr: Image8, gt: Image8 | None, lr: Image8 | None) -> None:
        """Look at one frame, ``(H, W, 3)`` uint8; ``lr`` may be smaller."""
        if value is None:
            return
        for label, sign in (("best", self._sign), ("worst", -self._sign)):
            kept = self._kept.get(label)
            if kept is None or sign * value > sign * kept.value:
                self._kept[label] = _Kept(index, value, sr, gt, lr)

    def save(self, folder: Path, stem: str) -> list[dict[str, object]]:
        """Write JPEG files ``stem.worst.sr.jpg`` and so on, and describe them (file names relative to ``folder``)."""
        described: list[dict[str, object]] = []
        for label in ("worst", "best"):
            kept = self._kept.get(label)
            if kept is None:
                continue
            top, left, height, width = error_window(kept.sr, kept.gt)
            files: dict[str, str] = {}
            for kind, image in (("lr", kept.lr), ("sr", kept.sr), ("gt", kept.gt)):
                if image is None:
                    continue
                if image.shape != kept.sr.shape:
                    size = (kept.sr.shape[1], kept.sr.shape[0])
                    image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_CUBIC), dtype=np.uint8)
                files[kind] = f"{stem}.{label}.{kind}.jpg"
                _write_jpeg(folder / files[kind], image[top : top + height, left : left + width])
            described.append({"label": label, "frame": kept.index, "value": kept.value, "files": files})
        return described


def error_window(sr: Image8, gt: Image8 | None) -> tuple[int, int, int, int]:
    """``(top, left, height, width)`` of the window with the largest error between two ``(H, W, 3)`` uint8 frames.

    Without ground truth it is the centre.
    """
    height, width = min(sr.shape[0], MAX_HEIGHT), min(sr.shape[1], MAX_WIDTH)
    if gt is None:
        return (sr.shape[0] - height) // 2, (sr.shape[1] - width) // 2, height, width
    error = cv2.absdiff(sr, gt).sum(axis=2, dtype=np.float64)
    total = cv2.integral(error)
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = np.unravel_index(int(np.argmax(sums)), sums.shape)
    return int(top), int(left), height, width


def data_uri(path: Path) -> str:
    """A JPEG file as text for an HTML page."""
    return "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode("ascii")


def _write_jpeg(path: Path, image: Image8) -> None:
    done, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    if not done:
        msg = f"cannot encode the picture {path.name}"
        raise SparkVSRError(msg)
    write_whole(path, encoded.tobytes())
