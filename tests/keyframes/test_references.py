"""Reference makers and reference folders."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparkvsr.errors import ConfigError, KeyframeError, WeightsError
from sparkvsr.keyframes.makers import networks
from sparkvsr.keyframes.references import (
    FolderMaker,
    MakerOptions,
    SpandrelMaker,
    make_reference_maker,
    resize_image,
)


def write_image(path: Path, height: int, width: int, value: int = 100) -> None:
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))


def test_resize_keeps_range_and_mean() -> None:
    image = torch.rand(3, 32, 48)
    small = resize_image(image, (8, 12))
    assert small.shape == (3, 8, 12)
    assert small.min() >= 0
    assert small.max() <= 1
    assert small.mean().item() == pytest.approx(image.mean().item(), abs=5e-3)


def test_folder_images_are_found_by_frame_index(tmp_path: Path) -> None:
    write_image(tmp_path / "00000.png", 64, 96, 10)
    write_image(tmp_path / "frame_48.png", 32, 48, 200)
    (tmp_path / "notes.txt").write_text("not an image")
    maker = make_reference_maker(str(tmp_path))
    assert isinstance(maker, FolderMaker)
    assert maker.indices == [0, 48]
    maker.check([0, 48], (16, 24))
    made = maker.make(torch.zeros(3, 16, 24), (64, 96), 48)
    assert made.shape == (3, 64, 96)
    assert made.mean().item() == pytest.approx(200 / 255, abs=1e-3)


def test_missing_reference_names_the_file_to_add(tmp_path: Path) -> None:
    write_image(tmp_path / "00000.png", 64, 96)
    with pytest.raises(KeyframeError, match=r"add 00024\.png"):
        FolderMaker(tmp_path).check([0, 24], (16, 24))


def test_unreadable_reference_is_refused(tmp_path: Path) -> None:
    (tmp_path / "00000.png").write_bytes(b"not a picture")
    with pytest.raises(KeyframeError, match="keyframe 0 cannot be read"):
        FolderMaker(tmp_path).check([0], (16, 24))


def test_wrong_aspect_ratio_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "00000.png", 64, 64)
    with pytest.raises(KeyframeError, match="aspect"):
        FolderMaker(tmp_path).check([0], (16, 24))


def test_two_images_for_one_frame_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", 64, 96)
    write_image(tmp_path / "0001.png", 64, 96)
    with pytest.raises(KeyframeError, match="two images for frame 1"):
        FolderMaker(tmp_path)


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyframeError, match="no reference images"):
        FolderMaker(tmp_path)


def test_unknown_maker_is_refused() -> None:
    with pytest.raises(ConfigError, match="neither lite, detail, bicubic"):
        make_reference_maker("no-such-maker")


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(b"nonsense")
    with pytest.raises(WeightsError, match="spandrel"):
        make_reference_maker(str(path))


@pytest.mark.shared
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_spandrel_network_in_tiles_equals_one_pass(shared_dir: Path, dtype: torch.dtype) -> None:
    path = shared_dir / "weights" / "isr" / "realesr-animevideov3.fp16.pth"
    lr = torch.rand(3, 40, 96)
    whole = SpandrelMaker(path, tile=96, dtype=dtype).make(lr, (160, 384))
    tiled = SpandrelMaker(path, tile=40, dtype=dtype).make(lr, (160, 384))
    assert whole.shape == (3, 160, 384)
    # The margin is as large as the receptive field: what is left is how kernels sum up.
    assert (whole - tiled).abs().max().item() < (1e-4 if dtype == torch.float32 else 4 / 255)


@pytest.mark.shared
def test_bf16_is_close_to_float32(shared_dir: Path) -> None:
    path = shared_dir / "weights" / "isr" / "realesr-animevideov3.fp16.pth"
    lr = F.interpolate(torch.rand(1, 3, 8, 12), size=(40, 56), mode="bicubic")[0].clamp(0, 1)
    exact, rounded = (SpandrelMaker(path, dtype=kind).make(lr, (160, 224)) for kind in (torch.float32, torch.bfloat16))
    assert exact.std() > 0.05
    assert -10 * (exact - rounded).square().mean().log10() > 45
    identities = {SpandrelMaker(path, dtype=kind).identity(0) for kind in (torch.float32, torch.bfloat16)}
    assert len(identities) == 2


def test_tiles_follow_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    sides = []
    for free in (64 << 30, 1 << 30, 1 << 27, 1 << 20):
        monkeypatch.setattr(networks.psutil, "virtual_memory", lambda free=free: SimpleNamespace(available=free))
        sides.append(networks.tile_for_memory((270, 480), 32, torch.bfloat16))
    assert sides[0] == 480  # whole
    assert sides == sorted(sides, reverse=True)
    assert sides[1] < 480
    assert sides[-1] == 64
    assert networks.spans(10, 4) == [(0, 3), (3, 7), (7, 10)]


def test_identity_changes_with_whatever_may_change_the_image(tmp_path: Path) -> None:
    write_image(tmp_path / "00000.png", 64, 96, 10)
    (tmp_path / "keyframes.json").write_text('{"keyframes": [{"index": 0}]}')
    first = FolderMaker(tmp_path).identity(0)
    assert FolderMaker(tmp_path).identity(0) == first
    write_image(tmp_path / "00000.png", 64, 96, 11)
    edited = FolderMaker(tmp_path).identity(0)
    (tmp_path / "keyframes.json").write_text('{"keyframes": [{"index": 0, "weight": 0.5}]}')
    assert len({first, edited, FolderMaker(tmp_path).identity(0)}) == 3
    program = tmp_path / "tool.sh"
    program.write_text("a")
    names = [f"command:{program} {{input}} {{output}} {word}" for word in ("-a", "-b")]
    seen = {make_reference_maker(name).identity(0) for name in names}
    seen.add(make_reference_maker(names[0], options=MakerOptions(prompts={0: "a face"})).identity(0))
    seen.add(make_reference_maker(names[0], options=MakerOptions(prompts={0: "a face"})).identity(1))
    program.write_text("another program")
    seen.add(make_reference_maker(names[0]).identity(0))
    assert len(seen) == 4
    urls = ("https://host/edits?token=secret", "https://host/edits?token=secret#model=b", "https://other/edits")
    assert len({make_reference_maker(url).identity(0) for url in urls}) == 3
    assert "secret" not in make_reference_maker(urls[0]).identity(0)


@pytest.mark.shared
def test_identity_of_a_weight_file_is_its_contents(shared_dir: Path, tmp_path: Path) -> None:
    source = shared_dir / "weights" / "isr" / "realesr-animevideov3.fp16.pth"
    (tmp_path / source.name).write_bytes(source.read_bytes())
    maker = make_reference_maker(str(tmp_path / source.name))
    assert maker.identity(0) == make_reference_maker(str(source)).identity(5)
    assert maker.identity(0) != make_reference_maker("bicubic").identity(0)
