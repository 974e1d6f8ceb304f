"""A clip that cannot be decoded without damage is no training data: it is left out and listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.folders import ClipFolder
from sparkvsr.data.keyframe_policies import PaperPolicy
from sparkvsr.data.samples import SampleRequest
from sparkvsr.data.skips import SkipReport
from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.video import VideoReader, VideoWriter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A good clip, and its copy with bytes flipped in the middle."""
    folder = tmp_path / "clips"
    folder.mkdir()
    torch.manual_seed(3)
    with VideoWriter(folder / "good.mp4", source=None, size=(64, 96)) as writer:
        for _ in range(10):
            writer.write(torch.rand(3, 16, 24).repeat_interleave(4, -1).repeat_interleave(4, -2))
    data = bytearray((folder / "good.mp4").read_bytes())
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 3, 2 * len(data) // 3, 400):
        data[int(place)] ^= 0xFF
    (folder / "torn.mp4").write_bytes(bytes(data))
    with VideoReader(folder / "torn.mp4") as reader:
        assert len(list(reader)) == 10  # the reader repeats frames, so that nothing is missing
        assert any("damaged" in text for text in reader.warnings)
    return folder


def test_damaged_clips_are_left_out_and_listed(root: Path, tmp_path: Path) -> None:
    report = tmp_path / "skipped.tsv"
    pairs = PairedClips(
        ClipFolder(root),
        None,
        BicubicDegradation(),
        PaperPolicy(),
        num_frames=10,
        crop=(64, 64),
        skips=SkipReport(report),
    )
    for number in range(4):
        sample = pairs[SampleRequest(number)]
        assert sample.name.endswith("good.mp4")
        # No frame is the copy of the one before.
        assert float(sample.hr.diff(dim=0).abs().amax(dim=(1, 2, 3)).min()) > 0.05
    name, _, reason = report.read_text().strip().partition("\t")
    assert name.endswith("torn.mp4")
    assert "damaged" in reason
    assert "frames 0 to 9" in reason
