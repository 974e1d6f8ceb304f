"""The project folder: versions, references in both directions, masks, checks; all of it on the disk."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from studio_clips import BICUBIC, reference, studio_of, until, write_clip
from torch import Tensor

from sparkvsr.errors import ConfigError, EncodeError, KeyframeError, WeightsError
from sparkvsr.keyframes.folder import FolderMaker
from sparkvsr.keyframes.manifest import read_manifest
from sparkvsr.studio import edits
from sparkvsr.studio.clip_session import ClipSession
from sparkvsr.studio.export_options import checked_export, command_line, default_output
from sparkvsr.studio.fixes import aligned, composed, findings, with_colours_of
from sparkvsr.studio.frames import encoded
from sparkvsr.studio.history import History
from sparkvsr.studio.images import load_image
from sparkvsr.studio.pictures import Pictures
from sparkvsr.studio.project import Project
from sparkvsr.studio.references import used_indices
from sparkvsr.studio.studio import Studio
from sparkvsr.video import read_image


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Studio]:
    made = studio_of(write_clip(tmp_path / "in.mp4"))
    yield made
    made.close()


def reopened(studio: Studio) -> Studio:
    studio.close()
    return Studio(studio.options, ask=Pictures().ask)


def image_of(clip: ClipSession, image: str) -> Tensor:
    return load_image(clip.project.image_path(image))


def refs(clip: ClipSession) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in clip.project.path("refs").iterdir()}


def test_an_upload_becomes_a_keyframe_as_the_command_line_reads_it(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    edits.upload(clip, 20, reference(20))
    edits.weight(clip, {"index": 20, "weight": 0.4})
    maker = FolderMaker(clip.project.path("refs"))
    maker.check_clip(clip.clip)
    maker.check(maker.indices, (48, 64))
    assert maker.indices == [5, 20]
    assert maker.weights == {5: 1.0, 20: 0.4}
    assert clip.project.path("refs", "00005.png").read_bytes() == reference(5)


def test_undo_and_redo_survive_a_restart(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    first = refs(clip)
    edits.upload(clip, 5, reference(5, 30))
    edits.guidance(clip, {"guidance": 1.5})
    edits.remove(clip, {"index": 5})
    assert refs(clip) == {}

    studio = reopened(studio)
    clip = studio.clip(0)
    edits.undo(clip, {})
    assert clip.project.path("refs", "00005.png").read_bytes() == reference(5, 30)
    edits.undo(clip, {})
    assert clip.history.table["guidance"] == 1.0
    edits.undo(clip, {})
    assert refs(clip) == first
    edits.undo(clip, {})
    assert refs(clip) == {}
    with pytest.raises(ConfigError, match="nothing to undo"):
        edits.undo(clip, {})

    studio = reopened(studio)
    clip = studio.clip(0)
    for _ in range(4):
        edits.redo(clip, {})
    assert refs(clip) == {}
    assert clip.history.redo_label is None
    edits.undo(clip, {})
    edits.upload(clip, 9, reference(9))
    assert clip.history.redo_label is None  # a new edit ends what could be done again
    studio.close()


def test_a_disabled_keyframe_has_weight_0_in_the_list_and_comes_back_with_its_own(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    edits.weight(clip, {"index": 5, "weight": 0.7})
    edits.enable(clip, {"index": 5, "enabled": False})
    manifest = read_manifest(clip.project.path("refs"))
    assert manifest is not None
    assert manifest.keyframes[0].weight == 0
    assert used_indices(clip.history.table) == []
    assert not clip.watch(0)  # what the studio wrote itself is no change from outside
    edits.enable(clip, {"index": 5})
    manifest = read_manifest(clip.project.path("refs"))
    assert manifest is not None
    assert manifest.keyframes[0].weight == 0.7


def test_what_other_programs_do_to_the_folder_is_taken_over(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    folder = clip.project.path("refs")
    (folder / "00005.png").write_bytes(reference(5, 40))
    (folder / "00012.png").write_bytes(reference(12))
    (folder / "notes.txt").write_text("mine")
    assert clip.watch(0)
    table = clip.history.table
    assert sorted(table["keyframes"]) == ["12", "5"]
    assert torch.equal(image_of(clip, table["keyframes"]["5"]["image"]), read_image(folder / "00005.png"))
    assert clip.history.undo_label == "2 changes outside"
    edits.undo(clip, {})
    assert (folder / "00005.png").read_bytes() == reference(5)
    assert not (folder / "00012.png").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    edits.redo(clip, {})

    content = json.loads((folder / "keyframes.json").read_text())
    content["keyframes"][0]["weight"] = 0.25
    (folder / "keyframes.json").write_text(json.dumps(content))
    assert clip.watch(0)
    assert clip.history.table["keyframes"]["5"]["weight"] == 0.25
    (folder / "00012.png").unlink()
    assert clip.watch(0)
    assert sorted(clip.history.table["keyframes"]) == ["5"]
    assert not clip.watch(0)


def test_a_keyframe_has_a_guidance_of_its_own_or_that_of_all(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    edits.keyframe_guidance(clip, {"index": 5, "guidance": 1.7})
    folder = clip.project.path("refs")
    assert FolderMaker(folder).guidance == {5: 1.7}
    edits.upload(clip, 5, reference(5, 30))  # another image keeps it
    assert FolderMaker(folder).guidance == {5: 1.7}
    content = json.loads((folder / "keyframes.json").read_text())
    content["keyframes"][0]["guidance"] = 1.2
    (folder / "keyframes.json").write_text(json.dumps(content))
    assert clip.watch(0)
    assert clip.history.table["keyframes"]["5"]["guidance"] == 1.2
    edits.keyframe_guidance(clip, {"index": 5, "guidance": None})
    assert FolderMaker(folder).guidance == {}
    with pytest.raises(ConfigError, match="1 to 10"):
        edits.keyframe_guidance(clip, {"index": 5, "guidance": 0.5})
    content["keyframes"][0]["guidance"] = 0.5
    (folder / "keyframes.json").write_text(json.dumps(content))
    with pytest.raises(KeyframeError, match='lower "weight"'):
        read_manifest(folder)


def test_the_look_is_part_of_a_version(studio: Studio) -> None:
    from sparkvsr.models import registry

    clip = studio.clip(0)
    assert clip.settings()["look"] is None  # that of the command line
    edits.look(clip, {"look": "faithful"})
    assert clip.settings() == {"guidance": 1.0, "look": "faithful"}
    assert "--look faithful" in clip.command("out.mp4")
    edits.undo(clip, {})
    assert clip.settings()["look"] is None
    assert edits.LOOKS == registry.LOOKS


def test_on_a_full_disk_nothing_happens_and_with_room_all_goes_on(
    studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    told: list[dict[str, object]] = []
    clip.tell = told.append  # type: ignore[method-assign]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("sparkvsr.studio.files.os.fsync", full)
        for edit in (
            lambda: edits.upload(clip, 9, reference(9)),
            lambda: edits.weight(clip, {"index": 5, "weight": 0.5}),
            lambda: edits.undo(clip, {}),
        ):
            with pytest.raises(EncodeError, match="No space left on device.*free some space"):
                edit()
        studio.render_range(clip, {"what": "all", "here": 0})
        assert "free some space" in str(told[-1]["text"])
    assert [item["kind"] for item in studio.queue.of(0)] == ["all"]
    assert clip.history.undo_label == "upload 5"
    assert clip.history.table["keyframes"]["5"]["weight"] == 1.0
    edits.weight(clip, {"index": 5, "weight": 0.5})
    edits.undo(clip, {})
    edits.undo(clip, {})
    assert refs(clip) == {}


def test_a_clip_that_is_replaced_is_noticed_and_nothing_wrong_is_shown(studio: Studio) -> None:
    clip = studio.clip(0)
    told: list[dict[str, object]] = []
    clip.tell = told.append  # type: ignore[method-assign]
    clip.look_after_clip()
    assert told == []
    clip.clip.rename(kept := clip.clip.with_name("kept.mp4"))
    write_clip(clip.clip, frames=30)
    clip.look_after_clip()
    assert "was changed" in str(told[0]["text"])
    assert clip.state()["error"] == told[0]["text"]
    with pytest.raises(KeyframeError, match="put it back"):
        clip.source(3)
    kept.replace(clip.clip)
    clip.look_after_clip()
    assert clip.state()["error"] is None
    assert clip.source(3)["index"] == 3


def test_changes_made_while_the_studio_was_closed_are_taken_over(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    folder = clip.project.path("refs")
    studio.close()
    (folder / "00005.png").write_bytes(reference(5, 40))
    studio = Studio(studio.options, ask=Pictures().ask)
    assert (folder / "00005.png").read_bytes() == reference(5, 40) or studio.clip(0)
    clip = studio.clip(0)
    assert (folder / "00005.png").read_bytes() == reference(5, 40)
    assert clip.history.undo_label == "edit 5 outside"
    studio.close()


def test_a_crash_between_the_version_and_the_folder_is_mended(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    monkeypatch.setattr(clip.references, "write", lambda table: (_ for _ in ()).throw(OSError("power")))
    with pytest.raises(OSError, match="power"):
        edits.upload(clip, 5, reference(5, 40))
    studio = reopened(studio)
    clip = studio.clip(0)
    assert clip.project.path("refs", "00005.png").read_bytes() == reference(5, 40)
    assert clip.history.undo_label == "upload 5"
    studio.close()


def test_images_under_other_names_are_taken_over_and_put_aside(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    folder = clip.project.path("refs")
    (folder / "frame_12.bmp").write_bytes(
        bmp := cv2.imencode(".bmp", np.full((192, 256, 3), 80, np.uint8))[1].tobytes()
    )
    (folder / "7.png").write_bytes(reference(7))
    edits.weight(clip, {"index": 5, "weight": 0.5})  # before anybody looked
    assert clip.watch(0)
    assert sorted(map(int, clip.history.table["keyframes"])) == [5, 7, 12]
    assert (folder / "originals" / "frame_12.bmp").read_bytes() == bmp
    assert FolderMaker(folder).indices == [5, 7, 12]
    assert not clip.watch(0)


def test_a_file_that_is_being_written_is_waited_for(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    path = clip.project.path("refs", "00005.png")
    path.write_bytes(reference(5, 40)[:500])
    assert not clip.watch()
    path.write_bytes(reference(5, 40))
    assert not clip.watch()
    until(clip.watch, 5)
    assert clip.history.undo_label == "edit 5 outside"


def test_an_edit_here_loses_no_edit_outside(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    clip.project.path("refs", "00005.png").write_bytes(reference(5, 40))
    edits.weight(clip, {"index": 5, "weight": 0.5})  # before anybody looked
    kept = [one["image"] for one in clip.candidates(5)]
    assert [clip.project.image_path(image).read_bytes() for image in kept] == [reference(5), reference(5, 40)]


def test_a_broken_image_outside_is_told_and_changes_nothing(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    told: list[dict[str, object]] = []
    clip.tell = told.append  # type: ignore[method-assign]
    clip.project.path("refs", "00005.png").write_bytes(b"half an image")
    assert not clip.watch(0)
    assert "not an image" in str(told[0]["text"])
    assert clip.history.undo_label == "upload 5"


def test_the_wrong_shape_is_refused_with_the_right_one(studio: Studio) -> None:
    square = encoded(np.zeros((64, 64, 3), np.uint8), "png")
    with pytest.raises(KeyframeError, match="256x192"):
        edits.upload(studio.clip(0), 5, square)
    with pytest.raises(KeyframeError, match="0 to 23"):
        edits.upload(studio.clip(0), 24, reference(0))


def test_damaged_files_of_the_project_lose_no_image(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    folder = clip.project.folder
    studio.close()
    for name in ("history.json", "state.json", "candidates.json", "refs.json", "analysis.json", "reach.json"):
        (folder / name).write_text('{"steps": [{"label": 3')
    studio = Studio(studio.options, ask=Pictures().ask)
    clip = studio.clip(0)
    assert used_indices(clip.history.table) == [5]  # taken from refs/
    assert clip.project.path("refs", "00005.png").read_bytes() == reference(5)
    studio.close()


def test_a_model_that_does_not_exist_is_refused_at_the_start(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "in.mp4")
    with pytest.raises(WeightsError, match="--model 'best' is unknown"):
        Pictures().begin([str(clip)], {"model": "best"}, [])


def test_a_folder_of_another_clip_or_with_other_files_is_refused(tmp_path: Path) -> None:
    clip, other = write_clip(tmp_path / "in.mp4"), write_clip(tmp_path / "other.mp4")
    Project(tmp_path / "p", clip, Pictures().ask).close()
    (tmp_path / "p/studio.json").write_text(json.dumps({"version": 2, "clip": "in.mp4"}))
    with pytest.raises(ConfigError, match="of a newer sparkvsr"):
        Project(tmp_path / "p", clip, Pictures().ask)
    (tmp_path / "p/studio.json").write_text(json.dumps({"version": 1, "clip": "in.mp4"}))
    with pytest.raises(ConfigError, match="belongs to in.mp4"):
        Project(tmp_path / "p", other, Pictures().ask)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("x")
    with pytest.raises(ConfigError, match="thesis.doc"):
        Project(tmp_path / "full", clip, Pictures().ask)


def test_a_mask_takes_only_its_part(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5))
    base = clip.history.table["keyframes"]["5"]["image"]
    edits.upload(clip, 5, reference(5, 60))
    over = clip.history.table["keyframes"]["5"]["image"]
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[:, 32:] = 255
    edits.mask(clip, 5, encoded(mask, "png"), over, base)
    entry = clip.history.table["keyframes"]["5"]
    assert entry["mask"] == {"over": over, "base": base, "mask": entry["mask"]["mask"]}
    joined = image_of(clip, entry["image"])
    assert torch.equal(joined[..., :120], image_of(clip, base)[..., :120])
    assert torch.equal(joined[..., 136:], image_of(clip, over)[..., 136:])
    with pytest.raises(KeyframeError, match="no fresh result"):
        edits.mask(clip, 5, encoded(mask, "png"), over, "output")
    with pytest.raises(KeyframeError, match="do not belong"):
        edits.mask(clip, 6, encoded(mask, "png"), over, base)


def test_a_soft_mask_mixes() -> None:
    over, base = torch.ones(3, 8, 8), torch.zeros(3, 4, 4)
    assert torch.allclose(composed(over, base, torch.full((1, 2, 2), 0.25)), torch.full((3, 8, 8), 0.25))


def textured() -> Tensor:
    torch.manual_seed(1)
    small = torch.rand(3, 12, 16)
    coarse = torch.nn.functional.interpolate(small[None], size=(480, 640), mode="bicubic")[0]
    fine = torch.nn.functional.interpolate(torch.rand(1, 1, 120, 160), size=(480, 640), mode="bicubic")[0]
    return (0.8 * coarse + 0.2 * fine).clamp(0, 1)


def shrunk(image: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(image[None], size=(120, 160), mode="area")[0]


def test_a_shifted_image_is_found_and_aligned() -> None:
    image = textured()
    lr = shrunk(image)
    moved = torch.roll(image, (8, 12), (1, 2))
    found = findings(lr, moved)
    assert [one["fix"] for one in found] == ["align"]
    mended = aligned(lr, moved)
    assert findings(lr, mended) == []
    inside = (slice(None), slice(40, -40), slice(40, -40))
    assert float((mended[inside] - image[inside]).abs().mean()) < 0.02
    assert float((moved[inside] - image[inside]).abs().mean()) > 0.05


def test_a_colour_cast_is_found_and_taken_away() -> None:
    image = textured() * 0.6 + 0.2
    lr = shrunk(image)
    cast = (image + torch.tensor([0.12, 0.0, -0.08]).view(3, 1, 1)).clamp(0, 1)
    assert "colours" in [one["fix"] for one in findings(lr, cast)]
    mended = with_colours_of(lr, cast)
    assert findings(lr, mended) == []
    assert float((mended - image).abs().mean()) < 0.01


def test_the_fix_is_a_version_of_its_own(studio: Studio) -> None:
    clip = studio.clip(0)
    edits.upload(clip, 5, reference(5, 60))
    state = until(lambda: clip.state()["keyframes"][0]["findings"], 20)
    assert "colours" in [one["fix"] for one in state]
    edits.fix(clip, {"index": 5, "fix": "colours"})
    assert clip.history.undo_label == "colours 5"
    assert len(clip.candidates(5)) == 2


def test_the_command_gives_what_the_page_gives(tmp_path: Path) -> None:
    line = command_line(
        Path("my clip.mp4"),
        Path("refs"),
        Path("store"),
        Path("out.mkv"),
        {**BICUBIC, "height": 256, "codec": "ffv1"},
        1.5,
    )
    assert line == (
        "sparkvsr upscale 'my clip.mp4' --references refs --height 256 --model bicubic --guidance 1.5 --device cpu "
        "--codec ffv1 --work store -o out.mkv"
    )
    assert default_output(Path("a b/ü.webm"), {"codec": "av1", "height": 720}) == "__720p.mp4"
    assert default_output(Path("in.mkv"), {}) == "in_x4.mkv"
    assert checked_export({"codec": "hevc", "crf": 20}) == {"codec": "hevc", "crf": 20}


def test_history_is_bounded_and_sound(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sparkvsr.studio.history.MAX_STEPS", 5)
    history = History(studio.clip(0).project)
    for number in range(9):
        history.push(f"step {number}", {"guidance": float(number), "keyframes": {}})
    assert not history.push("the same", {"guidance": 8.0, "keyframes": {}})
    count = 0
    while history.undo():
        count += 1
    assert count == 4
