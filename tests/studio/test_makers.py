"""What `--maker` may name, and another video of the clip as one of them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import small_clips
import torch
from starlette.testclient import TestClient
from studio_clips import reference, studio_of, write_clip

from sparkvsr.errors import ConfigError, DecodeError, KeyframeError
from sparkvsr.keyframes.makers.interface import MakerOptions
from sparkvsr.keyframes.makers.networks import BicubicMaker
from sparkvsr.studio.makers import Makers, check_makers
from sparkvsr.studio.web import Web
from sparkvsr.video import EncodeOptions, VideoWriter, probe, read_frames

H, W, FRAMES = 48, 64, 24


def write(path: Path, indices: range, scale: int) -> Path:
    """A pattern that drifts, without loss."""
    options = EncodeOptions(codec="ffv1", pixel_format="yuv444p")
    with VideoWriter(path, source=None, size=(scale * H, scale * W), options=options, fps=Fraction(25)) as writer:
        for index in indices:
            writer.write(torch.from_numpy(picture(index, scale)).permute(2, 0, 1).float() / 255)
    return path


def picture(index: int, scale: int) -> np.ndarray:
    size = (scale * W, scale * H)
    return cv2.resize(small_clips.textured(index, H, W), size, interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The clip four times as large by another tool: it begins 3 frames earlier and ends 6 frames sooner."""
    return write(tmp_path / "other.mkv", range(-3, FRAMES - 6), 4)


def test_another_video_gives_its_frame_for_this_place(tmp_path: Path, other: Path) -> None:
    clip = probe(write(tmp_path / "in.mkv", range(FRAMES), 1))
    told: list[str] = []
    makers = Makers([str(other), "bicubic"], MakerOptions())

    def made(index: int) -> np.ndarray:
        maker = makers.get(0, clip, lambda wanted: read_frames(clip.path, wanted), told.append)
        image = maker.make(torch.zeros(3, H, W), (4 * H, 4 * W), index)
        return (image * 255).round().byte().permute(1, 2, 0).numpy()

    for index in (0, 12):
        wrong = np.abs(made(index).astype(int) - picture(index + 1, 4)).mean()
        assert np.abs(made(index).astype(int) - picture(index, 4)).mean() < 0.25 * wrong
    assert told == ["other.mkv shows each picture 3 frames later than the clip; that was taken into account"]
    with pytest.raises(KeyframeError, match="has no frame for keyframe 22"):
        made(22)
    assert isinstance(makers.get(1, clip, lambda _: {}, told.append, seed=3), BicubicMaker)


def test_what_makes_no_images_is_refused_before_anything_is_loaded(tmp_path: Path, other: Path) -> None:
    check_makers(["lite", "realesrgan:animevideov3", "command:x {input} {output}", "https://x.org/u", str(other)])
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    for name, error, words in (
        ("nowhere.pth", ConfigError, "--maker 'nowhere.pth' is neither lite"),
        (str(tmp_path), ConfigError, "is a folder of images, which are there already; copy them into refs/"),
        (f"video:{tmp_path}/gone.mp4", ConfigError, "gone.mp4 does not exist"),
        (str(tmp_path / "broken.mp4"), DecodeError, "broken.mp4"),
    ):
        with pytest.raises(error, match=words):
            check_makers(["lite", name])


def test_nothing_is_rendered_before_the_image_is_there_and_without_the_wish(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio = studio_of(write_clip(tmp_path / "in.mp4"))
    clip = studio.clip(0)
    shown: list[int] = []
    monkeypatch.setattr(studio, "preview", lambda clip, values: shown.append(values["here"]))
    studio.add(clip, {"index": 3, "maker": 0, "here": 3})
    studio.add(clip, {"index": 5, "maker": 0})
    asked = list(clip.held)
    assert [message["index"] for message in asked] == [3, 5]
    assert shown == []
    image = clip.project.keep_bytes(reference(3), (H, W))
    for message in asked:
        studio._made(clip, {**message, "event": "made", "image": image, "name": "lite"})
    assert shown == [3]
    client = TestClient(Web(studio).app())
    for index, more in ((7, ""), (9, "?follow=1")):
        url = f"/c/0/upload/{index}{more}"
        client.post(url, content=reference(index), headers={"content-type": "image/png"}).raise_for_status()
    assert shown == [3, 9]
    assert sorted(map(int, clip.history.table["keyframes"])) == [3, 5, 7, 9]
    studio.close()
