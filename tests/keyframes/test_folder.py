"""The folder of references with its `keyframes.json`."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.folder import FolderMaker
from sparkvsr.keyframes.manifest import clip_fingerprint


def write_image(path: Path, height: int = 32, width: int = 48, value: int = 100) -> None:
    cv2.imwrite(str(path), np.full((height, width, 3), value, np.uint8))


def write_list(folder: Path, *items: dict[str, object], fingerprint: str | None = None) -> None:
    clip = {} if fingerprint is None else {"fingerprint": fingerprint, "name": "other.mp4"}
    (folder / "keyframes.json").write_text(json.dumps({"clip": clip, "keyframes": list(items)}))


def test_weights_come_from_the_list_and_zero_leaves_out(tmp_path: Path) -> None:
    for index in (0, 24, 48, 72):
        write_image(tmp_path / f"{index:05d}.png")
    write_list(tmp_path, {"index": 0, "weight": 0.25}, {"index": 24, "weight": 0}, {"index": 48})
    maker = FolderMaker(tmp_path)
    assert maker.indices == [0, 48, 72]
    assert maker.weights == {0: 0.25, 48: 1.0, 72: 1.0}
    assert maker.left_out == (24,)
    with pytest.raises(KeyframeError, match="keyframe 24 has weight 0"):
        maker.check([0, 24], (16, 24))


def test_without_a_list_all_images_have_full_weight(tmp_path: Path) -> None:
    write_image(tmp_path / "8.png")
    assert FolderMaker(tmp_path).weights == {8: 1.0}


def test_lr_frames_sheet_and_hidden_files_are_not_references(tmp_path: Path) -> None:
    (tmp_path / "lr").mkdir()
    (tmp_path / "00099.png").mkdir()
    write_image(tmp_path / "lr" / "00048.png")
    write_image(tmp_path / "contact_sheet.png")
    write_image(tmp_path / ".00050.png")
    write_image(tmp_path / "00048.png")
    assert FolderMaker(tmp_path).paths == {48: tmp_path / "00048.png"}


def test_an_image_may_have_any_name_that_the_list_gives(tmp_path: Path) -> None:
    write_image(tmp_path / "hero 2.png", value=200)
    write_image(tmp_path / "00002.png", value=10)
    write_list(tmp_path, {"index": 48, "file": "hero 2.png"})
    maker = FolderMaker(tmp_path)
    assert maker.indices == [2, 48]
    assert maker.make(torch.zeros(3, 16, 24), (32, 48), 48).mean().item() == pytest.approx(200 / 255, abs=1e-3)


def test_a_replaced_file_type_is_found_by_its_number(tmp_path: Path) -> None:
    write_image(tmp_path / "00048.jpg")
    write_list(tmp_path, {"index": 48, "file": "00048.png"})
    assert FolderMaker(tmp_path).indices == [48]


def test_two_images_for_one_frame_are_refused_also_with_a_list(tmp_path: Path) -> None:
    write_image(tmp_path / "00048.jpg")
    write_image(tmp_path / "00048.png")
    write_list(tmp_path, {"index": 48, "file": "00048.png"})
    with pytest.raises(KeyframeError, match="two images for frame 48"):
        FolderMaker(tmp_path)


def test_a_listed_image_that_is_missing_is_refused_not_dropped(tmp_path: Path) -> None:
    write_image(tmp_path / "00000.png")
    write_list(tmp_path, {"index": 0}, {"index": 48})
    with pytest.raises(KeyframeError, match=r"00048\.png is missing.*weight 0"):
        FolderMaker(tmp_path)
    write_list(tmp_path, {"index": 0}, {"index": 48, "weight": 0})
    assert FolderMaker(tmp_path).indices == [0]


def test_only_weight_zero_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "00000.png")
    write_list(tmp_path, {"index": 0, "weight": 0})
    with pytest.raises(KeyframeError, match="only weight 0"):
        FolderMaker(tmp_path)


def test_absurd_numbers_in_names_are_passed_over(tmp_path: Path) -> None:
    write_image(tmp_path / ("9" * 200 + ".png"))
    write_image(tmp_path / "4.png")
    assert FolderMaker(tmp_path).indices == [4]


def test_references_of_another_video_are_refused(tmp_path: Path) -> None:
    clip = tmp_path / "clip"
    clip.mkdir()
    for index in range(4):
        write_image(clip / f"{index}.png", value=40 * index)
    refs = tmp_path / "refs"
    refs.mkdir()
    write_image(refs / "0.png")
    maker = FolderMaker(refs)
    maker.check_clip(clip)  # nothing is known: fine
    write_list(refs, {"index": 0}, fingerprint=clip_fingerprint(clip))
    FolderMaker(refs).check_clip(clip)
    write_image(clip / "3.png", value=10)
    with pytest.raises(KeyframeError, match=r"made for another video \(other\.mp4\)"):
        FolderMaker(refs).check_clip(clip)
