"""`upscale_frames` gives what `upscale` writes, and refuses what it cannot use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import sparkvsr
from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.video import read_image
from sparkvsr.video.images import encode_image
from sparkvsr.video.pixels import to_uint8


@pytest.fixture(scope="module")
def clip() -> torch.Tensor:
    """20 frames of 32x48 on the 256 levels, with a cut at frame 9 from a light picture to a dark one."""
    generator = torch.Generator().manual_seed(3)
    shots = []
    for count, light in ((9, 0.4), (11, 0.0)):
        small = torch.rand(1, 3, 10, 14, generator=generator) * 0.6 + light
        large = torch.nn.functional.interpolate(small, size=(52, 68), mode="bicubic").clamp(0, 1)[0]
        shots += [large[:, k : k + 32, k : k + 48] for k in range(count)]
    return (torch.stack(shots) * 255).round() / 255


@pytest.mark.parametrize("look", ["vivid", "faithful"])
def test_frames_are_those_that_upscale_writes(clip: torch.Tensor, look: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for index, frame in enumerate(clip):
        (tmp_path / "in" / f"{index:05d}.png").write_bytes(encode_image(frame, ".png", bits=8))
    options = {"look": look, "scale": 2, "device": "cpu"}
    sparkvsr.upscale(tmp_path / "in", f"{tmp_path / 'out'}/", keyframes=[0, 4], references="bicubic", **options)
    written = torch.stack([read_image(path) for path in sorted((tmp_path / "out").iterdir())])
    steps: list[tuple[int, int]] = []
    ours = sparkvsr.upscale_frames(
        clip, choose=[0, 4], references="bicubic", progress=lambda *step: steps.append(step), **options
    )
    assert torch.equal(to_uint8(ours), to_uint8(written))
    assert steps == [(index + 1, 20) for index in range(20)]
    # The same images, given by hand.
    if look == "faithful":
        images = sparkvsr.make_keyframes(clip, choose=[0, 4], references="bicubic", scale=2)
        assert images.indices == (0, 4)
        given = sparkvsr.upscale_frames(clip, images.images, images.indices, **options)
        assert np.abs((given - ours).numpy()).max() < 0.02  # an image of somebody's own counts for more than a made one


def test_keyframes_by_shots(clip: torch.Tensor) -> None:
    assert sparkvsr.make_keyframes(clip, references="bicubic").indices == (0, 9)
    assert sparkvsr.make_keyframes(clip, references="bicubic", find_cuts=False).indices == (0,)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"frames": torch.zeros(3, 4, 4)}, r"float \(F, 3, h, w\)"),
        ({"frames": torch.zeros(2, 3, 8, 8, dtype=torch.uint8)}, "got torch.uint8"),
        ({"frames": torch.full((1, 3, 8, 8), torch.nan)}, "no numbers"),
        ({"choose": "iframes"}, "have no I-frames"),
        ({"choose": [0, 99]}, "99"),
        ({"keyframe_indices": [0]}, "come without `keyframes`"),
        ({"keyframes": torch.zeros(1, 3, 64, 64), "keyframe_indices": []}, "has 1 images"),
        ({"keyframes": torch.zeros(1, 3, 16, 24), "keyframe_indices": [0]}, "smaller than the frame"),
        ({"guidance_scale": -1}, "out of range"),
        ({"scale": 9}, "scale"),
    ],
)
def test_what_cannot_be_used_is_refused(clip: torch.Tensor, arguments: dict, words: str) -> None:
    given = {"frames": clip, "model": "bicubic", "device": "cpu", "choose": "none"} | arguments
    frames = given.pop("frames")
    if "keyframes" in given:
        given["model"] = "lite"
    with pytest.raises((ConfigError, KeyframeError), match=words):
        sparkvsr.upscale_frames(frames, **given)


def test_a_folder_without_one_of_the_images_is_refused_before_anything_is_restored(
    clip: torch.Tensor, tmp_path: Path
) -> None:
    (tmp_path / "00000.png").write_bytes(encode_image(clip[0], ".png", bits=8))
    steps: list[tuple[int, int]] = []
    with pytest.raises(KeyframeError, match="no reference image for 1 of the keyframes; add 00009.png"):
        sparkvsr.upscale_frames(
            clip, choose="scenes", references=str(tmp_path), progress=lambda *step: steps.append(step), device="cpu"
        )
    assert steps == []


def test_a_folder_of_references_is_used_whole_or_refused(clip: torch.Tensor, tmp_path: Path) -> None:
    options = {"choose": [0, 4], "references": str(tmp_path), "scale": 2, "look": "faithful", "device": "cpu"}
    large = torch.nn.functional.interpolate(clip[[0, 4]], scale_factor=2, mode="nearest")
    (tmp_path / "00000.png").write_bytes(encode_image(large[0], ".png", bits=8))
    with pytest.raises(KeyframeError, match=r"has no reference image for 1 of the keyframes; add 00004\.png"):
        sparkvsr.upscale_frames(clip[:9], **options)
    (tmp_path / "00004.png").write_bytes(encode_image(large[1], ".png", bits=8))
    results = []
    for guidance in (1.0, 4.0):
        write_manifest(tmp_path, guidance)
        results.append(sparkvsr.upscale_frames(clip[:9], **options))
    assert (results[0][4] - results[1][4]).abs().max() > 0.001  # the guidance of one keyframe of its own


def write_manifest(folder: Path, guidance: float) -> None:
    entries = [{"index": index, "file": f"{index:05d}.png", "guidance": guidance} for index in (0, 4)]
    manifest = {"format": "sparkvsr-keyframes", "version": 1, "keyframes": entries}
    (folder / "keyframes.json").write_text(json.dumps(manifest))
