"""Frames in any order, where previews begin, what is suggested, the queue."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from studio_clips import write_clip
from torch import Tensor

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.shots import Shot
from sparkvsr.studio.frames import FrameSource, PictureCache
from sparkvsr.studio.preview import preview_frames
from sparkvsr.studio.render_queue import RenderQueue, saved_items
from sparkvsr.studio.suggest import suggest_frame
from sparkvsr.video import read_frames


def test_frames_are_those_of_the_reader_in_any_order(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "in.mp4", frames=40)
    wanted = read_frames(path, range(40))
    source = FrameSource(path, PictureCache(200_000))  # room for 21 pictures
    for index in [39, 0, 20, 19, 18, 5, 6, 7, 39, 38, 0, 33]:
        expected = (wanted[index] * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(source.get(index), expected), index
    assert source.seconds() == pytest.approx([index / 25 for index in range(40)])


def test_the_cache_keeps_to_its_limit() -> None:
    cache = PictureCache(10 * 300)
    for index in range(50):
        cache.put(("a", index), np.zeros((10, 10, 3), np.uint8))
    assert cache.get(("a", 39)) is None
    assert cache.get(("a", 40)) is not None


def test_previews_begin_at_the_keyframe_or_shortly_before() -> None:
    shot = Shot(10, 100)
    assert preview_frames(shot, [40], 40, 5) == ([], [40, 41, 42, 43, 44])
    assert preview_frames(shot, [40], 42, 2) == ([40, 41], [42, 43])
    assert preview_frames(shot, [20], 60, 2) == ([20, 57, 58, 59], [60, 61])
    assert preview_frames(shot, [5, 70], 10, 3) == ([], [10, 11, 12])
    # At the end, too, the frame that is looked at is the first to change.
    assert preview_frames(shot, [], 99, 4) == ([96, 97, 98], [99])
    assert preview_frames(Shot(0, 3), [], 1, 25) == ([0], [1, 2])
    # Of the keyframes of the model's own kind the one before is gone through as well.
    assert preview_frames(shot, [20], 60, 2, [40, 80]) == ([20, 40, 57, 58, 59], [60, 61])
    assert preview_frames(shot, [20], 60, 2, [58]) == ([20, 58, 59], [60, 61])
    assert preview_frames(shot, [59], 60, 2, [58]) == ([58, 59], [60, 61])


def test_the_suggestion_lies_where_keyframes_do_not_reach() -> None:
    def read(wanted: object) -> dict[int, Tensor]:
        return {index: torch.rand(3, 16, 16) for index in wanted}  # type: ignore[attr-defined]

    shares = [1.0 - index / 50 for index in range(60)]
    shares = [max(0.0, share) for share in shares]
    found = suggest_frame([(0, 60)], [0], shares, read)
    assert 33 <= found.index < 60
    assert "carry little" in found.why
    other = suggest_frame([(0, 60), (60, 160)], [0], [*shares, *[None] * 100], read)
    assert 60 <= other.index < 160
    with pytest.raises(KeyframeError, match="carry every frame"):
        suggest_frame([(0, 20)], [0], [0.9] * 20, read)


def test_the_queue_goes_on_and_restarts_what_is_old() -> None:
    sent: list[dict[str, object]] = []
    queue = RenderQueue(sent.append, lambda item: {**item, "do": "render"}, lambda _: None)
    item = {"clip": 0, "kind": "all", "start": 0, "stop": 9, "here": 0, "label": "all"}
    first = queue.add(item)
    shot = queue.add({**item, "kind": "shot"}, first=True)
    assert queue.add({**item, "kind": "shot"}) == shot  # not twice
    assert [one["do"] for one in sent] == ["render"]
    queue.restart()
    assert sent[-1] == {"do": "cancel", "id": first["id"]}
    queue.finished(first["id"])
    assert queue.running is not None
    assert queue.running["kind"] == "all"  # anew, before the others
    assert queue.running["id"] not in (first["id"], shot["id"])
    queue.cancel(shot["id"])
    queue.lost()
    kept = json.loads(json.dumps(queue.of(0)))
    assert [one["kind"] for one in saved_items(kept, 0)] == ["all"]
    assert saved_items([{"kind": "rm"}, 3, {"kind": "all", "start": "x"}, {"kind": "export", "start": 0}], 0) == []
