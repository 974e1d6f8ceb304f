"""Given pairs to validate on: which piece is taken, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparkvsr.data.paired_validation import PairedValidation
from sparkvsr.errors import DatasetError
from sparkvsr.video import VideoWriter


def write(path: Path, frames: torch.Tensor) -> None:
    """``(F, 3, H, W)`` as a folder of images."""
    with VideoWriter(path, source=None, size=(frames.shape[-2], frames.shape[-1])) as writer:
        for frame in frames:
            writer.write(frame)


@pytest.fixture
def roots(tmp_path: Path) -> tuple[Path, Path]:
    """Two clips in each; every LR pixel is a flat square of the ground truth."""
    torch.manual_seed(0)
    for name in ("a", "b"):
        lr = torch.randint(0, 256, (4, 3, 20, 28)) / 255
        write(tmp_path / "lq" / name, lr)
        write(tmp_path / "gt" / name, lr.repeat_interleave(4, -1).repeat_interleave(4, -2))
    return tmp_path / "lq", tmp_path / "gt"


def test_pieces_show_the_same_place(roots: tuple[Path, Path]) -> None:
    seen: list[tuple[int, ...]] = []

    def prepare(lr: torch.Tensor, indices: object) -> dict[str, torch.Tensor]:
        seen.append((*lr.shape, *indices))  # type: ignore[misc]
        return {"flow": lr[:, :2]}

    pairs = PairedValidation(*roots, num_frames=3, crop=(48, 512), prepare=prepare)
    assert len(pairs) == 2
    sample = pairs[1]
    assert (sample.name, tuple(sample.lr.shape), tuple(sample.hr.shape)) == ("b", (3, 3, 12, 28), (3, 3, 48, 112))
    assert torch.equal(sample.hr[..., ::4, ::4], sample.lr)
    assert torch.equal(sample.keyframes, sample.hr[:1])
    assert sample.keyframe_indices == [0]
    assert seen == [(3, 3, 12, 28, 0)]
    assert len(PairedValidation(*roots, num_frames=3, crop=(48, 64), num_clips=1)) == 1


def test_what_does_not_fit_is_refused(roots: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="a has 4 frames, fewer than data.validation_frames=5"):
        PairedValidation(*roots, num_frames=5, crop=(48, 64))
    with pytest.raises(DatasetError, match="must be 2 times as large"):
        PairedValidation(*roots, num_frames=3, crop=(48, 64), scale=2)
    with pytest.raises(DatasetError, match="is not a folder"):
        PairedValidation(tmp_path / "nothing", roots[1], num_frames=3, crop=(48, 64))
    write(tmp_path / "gt" / "c", torch.zeros(1, 3, 16, 16))
    with pytest.raises(DatasetError, match="without a partner: c"):
        PairedValidation(*roots, num_frames=3, crop=(48, 64))
