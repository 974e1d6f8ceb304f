"""A grey clip comes out grey, unless images of the user's bring colour."""

from __future__ import annotations

import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from upscale_clips import picture, sparkvsr

FRAMES, HEIGHT, WIDTH = 5, 48, 64


def grey_picture(index: int) -> NDArray[np.uint8]:
    """``(48, 64)``, moving."""
    return np.asarray(picture(index, HEIGHT, WIDTH)[..., 1])


@pytest.fixture(scope="module")
def grey_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Neutral chroma throughout, as films in black and white are stored."""
    path = tmp_path_factory.mktemp("grey") / "in.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(grey_picture(index), format="gray").reformat(format="yuv420p")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def chroma(path: Path) -> NDArray[np.uint8]:
    """All chroma codes of a video."""
    planes = []
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            array = frame.to_ndarray(format="yuv420p")
            planes.append(array[frame.height :].ravel())
    return np.concatenate(planes)


def test_a_grey_clip_stays_grey(grey_clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.mkv"
    result = sparkvsr("upscale", grey_clip, "-o", out, "--codec", "ffv1", "--keyframes", "0", "--json")
    assert result.exit_code == 0, result.stderr
    assert set(chroma(out).tolist()) == {128}
    (plan,) = [event for line in result.stdout.splitlines() if (event := json.loads(line))["event"] == "plan"]
    assert any("the clip is grey" in note for note in plan["notes"])


def test_images_of_the_users_may_bring_colour(grey_clip: Path, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    assert sparkvsr("keyframes", grey_clip, "--keyframes", "0", "-o", refs).exit_code == 0
    image = cv2.imread(str(refs / "00000.png"))
    cv2.imwrite(str(refs / "00000.png"), np.clip(image * np.array([0.7, 1.0, 1.2]), 0, 255).astype(np.uint8))
    out = tmp_path / "out.mkv"
    result = sparkvsr(
        "upscale", grey_clip, "-o", out, "--codec", "ffv1", "--references", refs, "--guidance", "2", "--json"
    )
    assert result.exit_code == 0, result.stderr
    assert np.ptp(chroma(out)) > 20
    assert "the clip is grey" not in result.stdout


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_grey_file_stays_one_of_one_channel(tmp_path: Path, depth: int, suffix: str) -> None:
    source, out = tmp_path / f"in{suffix}", tmp_path / f"out{suffix}"
    image = grey_picture(0) if depth == 8 else (grey_picture(0).astype(np.uint16) * 257)
    cv2.imwrite(str(source), image)
    assert sparkvsr("upscale", source, "-o", out, "--scale", "2").exit_code == 0
    result = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert result.shape == (2 * HEIGHT, 2 * WIDTH)
    assert result.dtype == image.dtype
    # Shrunk again it shows what the source shows.
    shrunk = cv2.resize(result.astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    assert np.abs(shrunk - image).mean() < 0.02 * np.iinfo(image.dtype).max


def test_an_rgb_file_without_colour_stays_rgb(tmp_path: Path) -> None:
    source, out = tmp_path / "in.png", tmp_path / "out.png"
    cv2.imwrite(str(source), cv2.merge([grey_picture(0)] * 3))
    assert sparkvsr("upscale", source, "-o", out, "--scale", "2").exit_code == 0
    result = cv2.imread(str(out), cv2.IMREAD_UNCHANGED)
    assert result.shape == (2 * HEIGHT, 2 * WIDTH, 3)
    assert np.array_equal(result[..., 0], result[..., 1])
    assert np.array_equal(result[..., 0], result[..., 2])
