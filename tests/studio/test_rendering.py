"""The render process: the same segments as `sparkvsr upscale`, previews, cancelling, dying and going on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from studio_clips import BICUBIC, reference, studio_of, until, write_clip

from sparkvsr.hooks import silent
from sparkvsr.inference.clip.job import prepare
from sparkvsr.inference.clip.render import segments_of
from sparkvsr.inference.upscale import load_for, make_options, upscale
from sparkvsr.studio import edits
from sparkvsr.studio.clip_plan import ClipPlanner, analyse, analysis_from_json, analysis_to_json, clip_identity
from sparkvsr.studio.clip_session import ClipSession
from sparkvsr.studio.frames import encoded
from sparkvsr.studio.pictures import Pictures
from sparkvsr.studio.studio import Studio, StudioOptions
from sparkvsr.video import read_frames
from sparkvsr.video.pixels import to_uint8

LITE = {**BICUBIC, "model": "lite"}


class Events(list[dict[str, Any]]):
    """What the page would be told."""

    def named(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self if event["event"] == name]


def started(studio: Studio) -> tuple[ClipSession, Events]:
    studio.render.start()
    studio.start()
    clip = studio.clip(0)
    events = Events()
    clip.tell = events.append  # type: ignore[method-assign]
    until(lambda: clip.shown.segments, 90)
    return clip, events


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Studio]:
    studio = Studio(StudioOptions(clips=[write_clip(tmp_path / "in.mp4")], values=LITE))
    yield studio
    studio.close()


def idle(studio: Studio) -> bool:
    return not studio.queue.of(0)


def settled(clip: ClipSession) -> None:
    """Wait until the plan is that of the newest version and of what is in the store."""
    clip.ask_plan()
    until(lambda: clip.is_planned, 30)


@pytest.mark.parametrize("look", ["vivid", "faithful"])
def test_the_plan_is_that_of_upscale(tmp_path: Path, look: str) -> None:
    values = {**LITE, "look": look}
    studio = studio_of(write_clip(tmp_path / "in.mp4"), values=values)
    clip = studio.clip(0)
    for index in (3, 18):
        edits.upload(clip, index, reference(index))
        edits.keyframe_guidance(clip, {"index": index, "guidance": 1.5})
    options, output = make_options(**values), tmp_path / "out.mp4"
    model = load_for(options)
    analysis = analyse(clip.clip, options)
    kept = analysis_from_json(analysis_to_json(analysis, "x"), "x")
    assert kept == analysis
    assert analysis_from_json(analysis_to_json(analysis, "x"), "y") is None
    refs = clip.project.path("refs")
    planner = ClipPlanner(clip.clip, output, options, model, kept)
    planned = set()
    for weights in ((1.0, 1.0), (0.3, 0.0), (0.0, 0.0)):
        for index, weight in zip((3, 18), weights, strict=True):
            if weight:
                edits.weight(clip, {"index": index, "weight": weight})
            else:
                edits.enable(clip, {"index": index, "enabled": False})
        for guidance in (1.0, 0.5, 2.0):
            mine = [one.key for one in segments_of(planner.job(refs, guidance))]
            named = {"references": str(refs)} if any(weights) else {"keyframes": "none"}
            theirs = make_options(**{**values, **named, "guidance_scale": guidance})
            assert mine == [one.key for one in segments_of(prepare(clip.clip, output, theirs, model, silent))]
            planned.add(tuple(mine))
    assert len(planned) == 9  # each with keys of its own
    studio.close()


def test_the_kept_analysis_is_of_these_bytes_only(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4")
    identity = clip_identity(path, "auto")
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # size and time say nothing
    assert clip_identity(path, "auto") != identity


def test_from_keyframe_to_file_as_the_command_line_does_it(lite: Studio, tmp_path: Path) -> None:
    clip, events = started(lite)
    lite.add(clip, {"index": 3, "maker": 0})
    until(lambda: clip.history.table["keyframes"])
    # All that one keyframe may have of its own: an image of which a part is taken, a weight, a guidance.
    edits.upload(clip, 18, reference(18, 40, scene=1))
    left = encoded(np.repeat(np.repeat([[[255], [0]]], 64, 1), 96, 0).repeat(3, 2).astype(np.uint8), "png")
    edits.mask(clip, 18, left, clip.history.table["keyframes"]["18"]["image"], "source")
    edits.weight(clip, {"index": 18, "weight": 0.7})
    edits.keyframe_guidance(clip, {"index": 18, "guidance": 1.6})
    lite.render_range(clip, {"what": "shot", "here": 20})
    until(lambda: idle(lite) and events.named("rendered"))
    settled(clip)
    assert [stored for *_, stored, _ in clip.shown.listed()] == [False, True]
    lite.render_range(clip, {"what": "all", "here": 0})
    until(lambda: len(events.named("rendered")) == 2)
    assert [event["frames"] for event in events.named("rendered")] == [10, 14]
    settled(clip)
    shares = clip.shown.shares(24)
    assert shares[3] is not None
    assert shares[3] > 0.5  # the keyframe covers itself
    assert all(share is not None for share in shares)

    # An edit reaches its own shot only.
    edits.weight(clip, {"index": 18, "weight": 0.5})
    settled(clip)
    listed = clip.shown.listed()
    assert [stored for *_, stored, _ in listed] == [True, False]
    assert listed[1][4] is not None  # the old one is still there to be looked at
    edits.undo(clip, {})
    settled(clip)
    assert [stored for *_, stored, _ in clip.shown.listed()] == [True, True]  # nothing has to be rendered again

    lite.export(clip, {"output": "out.mp4", "compare": True})
    until(lambda: events.named("exported"))
    assert events.named("exported")[0]["rendered"] == 0
    with pytest.raises(Exception, match="is there already"):
        lite.export(clip, {"output": "out.mp4"})
    result = upscale(
        clip.clip, tmp_path / "cli.mp4", references=clip.project.path("refs"), keep_work=False, device="cpu"
    )
    assert result.rendered == 24
    assert (clip.project.path("out", "out.mp4")).read_bytes() == (tmp_path / "cli.mp4").read_bytes()
    assert clip.project.path("out", "out_compare.html").stat().st_size > 1000

    # What the page shows is what the file holds.
    frames = read_frames(tmp_path / "cli.mp4", [0, 13, 14, 23])
    for index, pixels in frames.items():
        key = next(key for start, stop, key, *_ in clip.shown.listed() if start <= index < stop)
        expected = to_uint8(pixels).permute(1, 2, 0).numpy()
        data = clip.ask("frame", place=clip.result(key, index), kind="png")
        assert np.array_equal(cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), 1), cv2.COLOR_BGR2RGB), expected)


def test_a_preview_shows_frames_and_enters_no_store(lite: Studio) -> None:
    clip, events = started(lite)
    edits.upload(clip, 5, reference(5))
    settled(clip)
    lite.preview(clip, {"here": 6})
    until(lambda: events.named("previewed"))
    shown = [event["index"] for event in events.named("frame")]
    assert shown == list(range(6, 14))  # a second is longer than the shot
    assert not any(stored for *_, stored, _ in clip.shown.listed())
    assert clip.shown.best(shown[0]) is not None
    edits.output_frame(clip, {"index": shown[-1]})
    assert clip.history.undo_label == f"take output of {shown[-1]}"
    edits.weight(clip, {"index": 5, "weight": 0.5})
    settled(clip)
    assert clip.shown.best(shown[0]) is None  # old now
    # A file that is written records the reach, too.
    lite.export(clip, {"output": "out.mp4"})
    until(lambda: events.named("exported"))
    settled(clip)
    assert all(share is not None for share in clip.shown.shares(24))


def test_previews_come_between_and_a_render_can_be_cancelled(tmp_path: Path) -> None:
    studio = studio_of(write_clip(tmp_path / "in.mp4", frames=160, cut=None), values=LITE)
    clip, events = started(studio)
    studio.render_range(clip, {"what": "all", "here": 0})
    until(lambda: events.named("frame"))
    studio.preview(clip, {"here": 150})
    until(lambda: events.named("previewed"))
    assert not idle(studio)  # the preview did not wait for the render
    assert events.named("previewed")[0]["frames"] > 0
    number = studio.queue.running["id"]  # type: ignore[index]
    studio.queue.cancel(number)
    until(lambda: idle(studio), 10)
    assert len(clip.shown.previews()) < 160
    # The other look has other segments and its own place in the command; undo goes back to the first.
    vivid = [key for *_, key in clip.shown.segments]
    edits.look(clip, {"look": "faithful"})
    until(lambda: clip.is_planned and [key for *_, key in clip.shown.segments] != vivid)
    assert "--look faithful" in clip.command("out.mp4")
    edits.undo(clip, {})
    until(lambda: clip.is_planned and [key for *_, key in clip.shown.segments] == vivid)
    studio.close()


def test_an_edit_while_rendering_begins_anew_and_nothing_wrong_is_stored(lite: Studio, tmp_path: Path) -> None:
    clip, events = started(lite)
    edits.upload(clip, 3, reference(3))
    lite.render_range(clip, {"what": "all", "here": 0})
    until(lambda: events.named("frame"))
    # Everything that a keyframe can have: a mask, a weight, a guidance of its own, being left out.
    before = clip.history.table["keyframes"]["3"]["image"]
    edits.upload(clip, 3, reference(3, 70))
    mask = np.zeros((48, 64, 3), np.uint8)
    mask[:, :40] = 255
    edits.mask(clip, 3, encoded(mask, "png"), clip.history.table["keyframes"]["3"]["image"], before)
    edits.upload(clip, 9, reference(9, 20))
    edits.enable(clip, {"index": 9, "enabled": False})
    edits.upload(clip, 18, reference(18, 25, scene=1))
    edits.weight(clip, {"index": 18, "weight": 0.6})
    edits.keyframe_guidance(clip, {"index": 18, "guidance": 1.5})
    until(lambda: idle(lite) and clip.is_planned)
    lite.render_range(clip, {"what": "all", "here": 0})
    until(lambda: idle(lite))
    settled(clip)
    assert all(stored for *_, stored, _ in clip.shown.listed())
    lite.export(clip, {"output": "out.mp4"})
    until(lambda: events.named("exported"))
    upscale(clip.clip, tmp_path / "cli.mp4", references=clip.project.path("refs"), keep_work=False, device="cpu")
    assert {index: one["enabled"] for index, one in clip.history.table["keyframes"].items()} == {
        "3": True,
        "9": False,
        "18": True,
    }
    assert clip.project.path("out", "out.mp4").read_bytes() == (tmp_path / "cli.mp4").read_bytes()


def test_a_render_process_that_dies_is_started_again_and_goes_on(lite: Studio) -> None:
    clip, events = started(lite)
    first = lite.render.pid
    assert first is not None
    lite.render_range(clip, {"what": "all", "here": 0})
    os.kill(first, signal.SIGKILL)
    # Whoever asks for a picture now waits for the next process and gets it.
    assert clip.ask("frame", place=clip.source(3), kind="jpg").startswith(b"\xff\xd8")
    until(lambda: events.named("rendered"), 90)
    assert lite.render.pid != first
    assert events.named("problem")
    settled(clip)
    assert all(stored for *_, stored, _ in clip.shown.listed())


def test_a_maker_that_fails_says_why(tmp_path: Path) -> None:
    studio = studio_of(write_clip(tmp_path / "in.mp4"), makers=("command:false {input} {output}", "bicubic"))
    clip, events = started(studio)
    studio.add(clip, {"index": 3, "maker": 0})
    until(lambda: events.named("problem"))
    assert "false" in events.named("problem")[0]["text"]
    assert clip.making == {}
    studio.add(clip, {"index": 3, "maker": 1, "replace": False})
    until(lambda: clip.history.table["keyframes"])
    assert clip.history.table["keyframes"]["3"]["maker"] == "bicubic"
    studio.suggest(clip, {})
    until(lambda: events.named("suggestion"))
    assert 14 <= events.named("suggestion")[0]["index"] < 24  # the shot without a keyframe
    studio.close()


def test_an_image_that_was_being_made_is_made_after_a_restart(tmp_path: Path) -> None:
    studio = studio_of(write_clip(tmp_path / "in.mp4"), makers=("bicubic",))
    clip = studio.clip(0)
    studio.add(clip, {"index": 3, "maker": 0})  # there is no process to make it yet
    studio.close()
    studio = Studio(studio.options, ask=Pictures().ask)
    clip, _ = started(studio)
    until(lambda: clip.history.table["keyframes"])
    assert list(clip.history.table["keyframes"]) == ["3"]
    studio.close()


def test_a_clip_that_cannot_be_opened_says_why(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    path.write_bytes(b"no video")
    studio = studio_of(path)
    with pytest.raises(Exception, match="not a video or image file"):
        studio.clip(0)
    studio.close()


def test_a_model_that_cannot_be_loaded_is_told(tmp_path: Path) -> None:
    studio = studio_of(write_clip(tmp_path / "in.mp4"))
    studio = Studio(replace(studio.options, values={**BICUBIC, "model": str(tmp_path / "nothing")}))
    studio.render.start()
    studio.start()
    until(lambda: studio.error, 60)
    assert "nothing" in str(studio.error)
    # There are pictures to look at all the same.
    clip = studio.clip(0)
    assert clip.ask("frame", place=clip.source(3), kind="jpg").startswith(b"\xff\xd8")
    until(lambda: clip.error, 20)
    assert "nothing" in str(clip.error)
    studio.close()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shots", [[0, float("inf")]]),
        ("shots", [[1, 3]]),
        ("shots", [[0, 2], [1, 3]]),
        ("shots", [[0, 0], [0, 3]]),
        ("times", [[0, "1"], [1, 1], [2, 1]]),
        ("wanted", [float("inf")]),
        ("wanted", [3]),
        ("colour", float("nan")),
        ("digests", ["00"]),
    ],
)
def test_a_kept_analysis_of_others_is_made_anew_where_it_is_not_sound(key: str, value: object) -> None:
    kept = {
        "clip": "x",
        "shots": [[0, 1], [1, 3]],
        "times": [[0, 1], [1, 1], [2, None]],
        "digests": ["00", "01", "02"],
        "colour": 0.0,
        "warnings": [],
        "side_data": [],
        "wanted": [0],
    }
    assert analysis_from_json(kept, "x") is not None
    assert analysis_from_json({**kept, key: value}, "x") is None
