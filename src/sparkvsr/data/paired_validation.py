"""Validation on given pairs: LR clips as somebody else made them, and their ground truth.

A validation that degrades its own clips says how well a run does on its own degradation. Real LR clips, or those of a
published bench, say more.

Shapes: F frames, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import Dataset

from sparkvsr.data.folders import find_clips
from sparkvsr.data.samples import TrainSample
from sparkvsr.errors import DatasetError
from sparkvsr.home import expanded
from sparkvsr.video import VideoReader

_SHOWN = 5


@dataclass(frozen=True)
class _Pair:
    """Two files, and top, left, height and width of the piece in LR pixels."""

    name: str
    lr: Path
    gt: Path
    window: tuple[int, int, int, int]


class PairedValidation(Dataset[TrainSample]):
    """The first frames of each pair, cut out of the middle, with the first HR frame as the keyframe.

    Args:
        lr_root: video files and folders of frames.
        gt_root: the same names (without suffix), ``scale`` times as large.
        num_frames: F.
        crop: ``(H, W)`` of the HR piece; smaller clips are taken whole, down to a multiple of ``4 * scale``.
        scale: H over h.
        num_clips: only the first so many by name; None takes all.
        prepare: what the model wants computed with each clip, see ``TrainingAdapter.prepare_clip``.

    Raises:
        DatasetError: a folder is missing, a clip has no partner, or sizes or lengths do not fit.
    """

    def __init__(
        self,
        lr_root: str | Path,
        gt_root: str | Path,
        *,
        num_frames: int,
        crop: tuple[int, int],
        scale: int = 4,
        num_clips: int | None = None,
        prepare: Callable[[Tensor, Sequence[int]], dict[str, Tensor]] | None = None,
    ) -> None:
        lr, gt = _clips(lr_root, "lr_root"), _clips(gt_root, "gt_root")
        alone = sorted(set(lr) ^ set(gt))
        if alone:
            shown = ", ".join(alone[:_SHOWN]) + (f" and {len(alone) - _SHOWN} more" if len(alone) > _SHOWN else "")
            msg = (
                f"data.validation_pairs: {lr_root} and {gt_root} must hold clips of the same names; without a partner: "
                f"{shown}"
            )
            raise DatasetError(msg)
        self._scale, self._crop, self._num_frames, self._prepare = scale, crop, num_frames, prepare
        self._pairs = [self._checked(name, lr[name], gt[name]) for name in sorted(lr)[:num_clips]]

    def __len__(self) -> int:
        """Pairs."""
        return len(self._pairs)

    def __getitem__(self, index: int) -> TrainSample:
        """Read a pair.

        Raises:
            DatasetError: it cannot be decoded without damage.
        """
        pair = self._pairs[index]
        lr, hr = self._read(pair.lr, pair.window, 1), self._read(pair.gt, pair.window, self._scale)
        extras = {} if self._prepare is None else self._prepare(lr, [0])
        return TrainSample(lr, hr, hr[:1].clone(), [0], number=index, name=pair.name, extras=extras)

    def _read(self, path: Path, window: tuple[int, int, int, int], factor: int) -> Tensor:
        top, left, height, width = (side * factor for side in window)
        reader = VideoReader(path, frames=self._num_frames)
        frames = [f.pixels[..., top : top + height, left : left + width].clone() for f in reader]
        if len(frames) < self._num_frames or any("damaged" in text for text in reader.warnings):
            msg = f"data.validation_pairs: {path} is damaged within its first {self._num_frames} frames; take it out"
            raise DatasetError(msg)
        return torch.stack(frames)

    def _checked(self, name: str, low: Path, high: Path) -> _Pair:
        """The pair, once it is known to fit, with the piece that is cut out."""
        lr, gt = VideoReader(low).info, VideoReader(high).info
        if (gt.height, gt.width) != (lr.height * self._scale, lr.width * self._scale):
            msg = (
                f"data.validation_pairs: {name} is {lr.width}x{lr.height} in LR and {gt.width}x{gt.height} in ground "
                f"truth; the latter must be {self._scale} times as large (data.scale)"
            )
            raise DatasetError(msg)
        fewest = min(lr.num_frames, gt.num_frames)
        if fewest < self._num_frames:
            msg = (
                f"data.validation_pairs: {name} has {fewest} frames, fewer than data.validation_frames="
                f"{self._num_frames}; set it lower, or take the clip out"
            )
            raise DatasetError(msg)
        unit = 4  # on the LR grid
        rows, columns = (
            min(side // unit * unit, want // self._scale)
            for side, want in zip((lr.height, lr.width), self._crop, strict=True)
        )
        return _Pair(name, low, high, ((lr.height - rows) // 2, (lr.width - columns) // 2, rows, columns))


def _clips(root: str | Path, key: str) -> dict[str, Path]:
    folder = expanded(root)
    if not folder.is_dir():
        msg = f"data.validation_pairs.{key}={root} is not a folder; it holds video files or folders of frames"
        raise DatasetError(msg)
    found = {str(path.relative_to(folder).with_suffix("") if path.is_file() else path.relative_to(folder)): path
             for path in find_clips(folder)}  # fmt: skip
    if not found:
        msg = f"data.validation_pairs.{key}={root} holds no clips; it holds video files or folders of frames"
        raise DatasetError(msg)
    return found
