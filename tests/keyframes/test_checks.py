"""What is said about a reference that does not fit its frame, and that nothing is said about one that does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.checks import check_content, content_notes, correlation, shift
from sparkvsr.keyframes.folder import FolderMaker
from sparkvsr.keyframes.references import BicubicMaker, resize_image
from sparkvsr.video.images import encode_image


def scene(seed: int, height: int = 288, width: int = 384) -> Tensor:
    """A picture with structure at all sizes, as photographs have."""
    generator = torch.Generator().manual_seed(seed)
    out = torch.zeros(3, height, width)
    for level, cells in enumerate((4, 9, 20, 45, 100)):
        noise = torch.rand(1, 3, cells, round(cells * width / height), generator=generator)
        out += F.interpolate(noise, size=(height, width), mode="bicubic")[0] * 0.7**level
    return ((out - out.mean()) / out.std() * 0.16 + 0.5).clamp(0, 1)


HR = scene(0)
LR = resize_image(HR, (72, 96))


def test_a_fitting_reference_gets_no_word() -> None:
    assert check_content(LR, HR) == []
    assert check_content(LR, resize_image(HR, (144, 192))) == []
    noisy = (LR + 0.03 * torch.randn_like(LR)).clamp(0, 1)
    assert check_content(noisy, HR) == []


def test_sharpened_and_slightly_graded_is_still_fine() -> None:
    blurred = F.avg_pool2d(HR[None], 5, 1, 2)[0]
    assert check_content(LR, (HR + 0.8 * (HR - blurred) + 0.02).clamp(0, 1)) == []


@pytest.mark.parametrize(("dx", "dy"), [(8, 0), (0, -6), (-12, 20)])
def test_a_shift_is_measured_in_pixels(dx: int, dy: int) -> None:
    moved = torch.roll(HR, (dy, dx), (-2, -1))
    found_x, found_y, response = shift(LR, resize_image(moved, (72, 96)))
    assert (found_x * 4, found_y * 4) == pytest.approx((dx, dy), abs=0.8)
    assert response > 0.5
    notes = check_content(LR, moved)
    assert len(notes) == 1
    assert "is shifted by" in notes[0]


def test_half_a_pixel_is_not_worth_a_word() -> None:
    assert check_content(LR, torch.roll(HR, 1, -1)) == []


def test_another_scene_is_noticed() -> None:
    notes = check_content(LR, scene(1))
    assert len(notes) == 1
    assert "does not look like this frame" in notes[0]


def test_colour_cast_and_brightness_are_noticed() -> None:
    red = HR.clone()
    red[0] = (red[0] + 0.12).clamp(0, 1)
    notes = check_content(LR, red)
    assert any("colour cast (red +" in note for note in notes)
    assert any("darker" in note for note in check_content(LR, HR * 0.75))
    assert any("brighter" in note for note in check_content(LR, (HR + 0.1).clamp(0, 1)))


def test_a_grey_reference_of_a_colour_clip_is_noticed() -> None:
    lr = scene(3)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (resize_image(lr, (1152, 1536)) * weights).sum(0, keepdim=True).expand(3, -1, -1)
    (note,) = [note for note in check_content(lr, grey) if "colour cast over" in note]
    assert note.startswith("is grey where the frame is in colour")
    faded = 0.8 * grey + 0.2 * resize_image(lr, (1152, 1536))
    assert any(note.startswith("has lost most of its colour") for note in check_content(lr, faded))
    # A grey clip may be coloured, and an untouched one says nothing.
    assert check_content(lr, resize_image(lr, (1152, 1536))) == []


def test_an_image_without_more_pixels_is_noticed() -> None:
    assert any("not larger than the frame" in note for note in check_content(LR, LR))


def test_flat_frames_are_no_false_alarm() -> None:
    black = torch.zeros(3, 72, 96)
    assert check_content(black, torch.zeros(3, 288, 384)) == []
    assert correlation(black, LR) == 0.0
    assert "does not look like" in check_content(black, HR)[0]


def test_tiny_frames_are_handled() -> None:
    lr = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(0))
    assert check_content(lr, resize_image(lr, (16, 20))) == []
    assert "does not look like" in check_content(lr, 1 - resize_image(lr, (16, 20)))[0]
    assert check_content(torch.full((3, 1, 1), 0.5), torch.full((3, 4, 4), 0.5)) == []


def test_swapped_references_are_named(tmp_path: Path) -> None:
    frames = {index: resize_image(scene(index), (72, 96)) for index in (0, 24, 48)}
    for index, source in ((0, 24), (24, 0), (48, 48)):
        (tmp_path / f"{index:05d}.png").write_bytes(encode_image(scene(source), ".png", bits=8))
    asked: list[list[int]] = []

    def read_lr(indices: Sequence[int]) -> dict[int, Tensor]:
        asked.append(list(indices))
        return {index: frames[index] for index in indices}

    notes = content_notes(FolderMaker(tmp_path), read_lr, [0, 24, 48])
    assert asked == [[0, 24, 48]]
    assert any(note.startswith("00000.png looks like frame 24") for note in notes)
    assert any(note.startswith("00024.png looks like frame 0") for note in notes)
    assert not any(note.startswith("00048") for note in notes)


def test_only_folders_are_looked_at(tmp_path: Path) -> None:
    assert content_notes(BicubicMaker(), lambda indices: pytest.fail("not needed"), [0]) == []
    (tmp_path / "0.png").write_bytes(encode_image(HR, ".png", bits=8))
    with pytest.raises(KeyframeError, match=r"add 00008\.png"):
        content_notes(FolderMaker(tmp_path), lambda indices: dict.fromkeys(indices, LR), [8])
