"""Another video of the same clip as the source of keyframe images: found by time, wherever it begins."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.inference.keyframe_job import KeyframeOptions, make_keyframes
from sparkvsr.inference.upscale import upscale
from sparkvsr.keyframes.checks import content_notes
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.makers.video import VideoMaker
from sparkvsr.keyframes.references import make_reference_maker
from sparkvsr.video import EncodeOptions, VideoWriter, read_frames, read_image

FRAMES, H, W = 40, 48, 64


def picture(moment: float, scale: int, seed: int = 0) -> Tensor:
    """A texture that drifts by one LR pixel a frame."""
    rng = np.random.default_rng(seed)
    large = cv2.resize(rng.random((60, 90, 3)).astype(np.float32), None, fx=scale * 2, fy=scale * 2)
    x = round(moment * scale)
    return torch.from_numpy(np.ascontiguousarray(large[: H * scale, x : x + W * scale].transpose(2, 0, 1)))


def write(path: Path, moments: Sequence[float], scale: int, fps: int = 25, seed: int = 0) -> Path:
    options = EncodeOptions(codec="ffv1", pixel_format="yuv444p")
    with VideoWriter(path, source=None, size=(H * scale, W * scale), options=options, fps=Fraction(fps)) as writer:
        for moment in moments:
            writer.write(picture(moment, scale, seed))
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("clips") / "clip.mkv", range(FRAMES), 1)


def settled(clip: Path, other: Path, indices: Sequence[int]) -> tuple[VideoMaker, list[str]]:
    maker = make_reference_maker(str(other))
    assert isinstance(maker, VideoMaker)
    maker.check_clip(clip)
    maker.check(indices, (H, W))
    return maker, content_notes(maker, lambda wanted: read_frames(clip, wanted), indices)


def error_of(maker: VideoMaker, index: int, scale: int) -> float:
    image = maker.original(index, (H, W))
    return float((image - picture(index, scale)).abs().mean())


def test_frames_are_found_by_number_and_by_time(clip: Path, tmp_path: Path) -> None:
    same, notes = settled(clip, write(tmp_path / "x2.mkv", range(FRAMES), 2), [0, 13, 39])
    assert notes == []
    assert max(error_of(same, index, 2) for index in (0, 13, 39)) < 0.01
    twice = write(tmp_path / "fast.mkv", [k / 2 for k in range(2 * FRAMES)], 2, fps=50)
    fast, notes = settled(clip, twice, [0, 13, 39])
    assert [fast.place(index) for index in (0, 13, 39)] == [0, 26, 78]
    assert error_of(fast, 13, 2) < 0.01
    assert "50 frames a second, the clip 25" in notes[0]


@pytest.mark.parametrize("offset", [3, -2])
def test_an_offset_is_found_and_told(clip: Path, tmp_path: Path, offset: int) -> None:
    other = write(tmp_path / "late.mkv", [max(0, k - offset) for k in range(FRAMES + offset)], 2)
    maker, notes = settled(clip, other, [5, 15, 25, 30])
    assert error_of(maker, 25, 2) < 0.01
    assert f"{abs(offset)} frames {'later' if offset > 0 else 'earlier'} than the clip" in notes[0]
    again = make_reference_maker(maker.spec)
    again.check_clip(clip)
    assert again.identity(25) == maker.identity(25)


def test_what_does_not_fit_is_said(clip: Path, tmp_path: Path) -> None:
    _, notes = settled(clip, write(tmp_path / "other.mkv", range(FRAMES), 2, seed=7), [0, 20])
    assert any("does not look like this frame" in note or "shares no detail" in note for note in notes), notes
    with pytest.raises(KeyframeError, match=r"has no frame for keyframe 39 .* it has 20 frames"):
        settled(clip, write(tmp_path / "short.mkv", range(20), 2), [0, 10, 39])
    tall = tmp_path / "tall.mkv"
    with VideoWriter(tall, source=None, size=(96, 96), options=EncodeOptions(codec="ffv1")) as writer:
        writer.write(torch.zeros(3, 96, 96))
    with pytest.raises(KeyframeError, match="aspect"):
        settled(clip, tall, [0])
    with pytest.raises(ConfigError, match="does not exist"):
        make_reference_maker("video:nowhere.mp4@3")


def test_the_commands_use_its_frames(clip: Path, tmp_path: Path) -> None:
    other = write(tmp_path / "x4.mkv", range(FRAMES), 4)
    options = KeyframeOptions(KeyframeChoice("manual", indices=(0, 20)), references=str(other))
    made = make_keyframes(clip, tmp_path / "refs", options)
    assert [entry.index for entry in made.keyframes] == [0, 20]
    image = read_image(tmp_path / "refs" / "00020.png")
    assert float((image - picture(20, 4)).abs().mean()) < 0.01
    result = upscale(clip, tmp_path / "out.mkv", keyframes=[0, 20], references=other, model="bicubic", codec="ffv1")
    assert result.keyframe_indices == (0, 20)
