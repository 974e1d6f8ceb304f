"""`keyframes.json` and the fingerprint of a clip: round trip, and everything a hostile file may hold."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.manifest import (
    MANIFEST_NAME,
    KeyframeEntry,
    Manifest,
    clip_fingerprint,
    is_same_clip,
    read_manifest,
    write_manifest,
)


def write_clip(path: Path, frames: int = 9, speed: int = 3, crf: str = "18", codec: str = "libx264") -> Path:
    with av.open(str(path), "w") as out:
        stream = out.add_stream(codec, rate=25, options={"crf": crf} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        y, x = np.mgrid[:48, :64].astype(np.float32)
        for index in range(frames):
            wave = 128 + 60 * np.sin((x + speed * index) / 7) + 50 * np.cos(y / 9)
            frame = np.stack([wave, wave * 0.8, 255 - wave], -1).clip(0, 255).astype(np.uint8)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        out.mux(stream.encode())
    return path


def test_round_trip(tmp_path: Path) -> None:
    manifest = Manifest(
        keyframes=(
            KeyframeEntry(0, 0.0, 0, "lite", 1.0, None, "00000.png"),
            KeyframeEntry(48, 1.92, 1, "lite", 0.5, "ein Gesicht, 顔", "hero.png"),
        ),
        fingerprint="64x48:9:25.0000:-",
        clip_name="in.mp4",
        num_frames=96,
    )
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def test_no_file_is_no_manifest(tmp_path: Path) -> None:
    assert read_manifest(tmp_path) is None


def test_entries_are_sorted_and_have_defaults(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_NAME).write_text('{"keyframes": [{"index": 8, "note": "mine"}, {"index": 2, "weight": 0}]}')
    manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert [(entry.index, entry.weight) for entry in manifest.keyframes] == [(2, 0.0), (8, 1.0)]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        ({"index": -1}, '"index" -1'),
        ({"index": 1.5}, '"index" 1.5'),
        ({"index": True}, '"index" True'),
        ({"index": "0"}, "\"index\" '0'"),
        ({"index": 10**30}, '"index" of 100 bits'),
        ({}, 'has no "index"'),
        ({"index": 0, "weight": 2}, '"weight" 2'),
        ({"index": 0, "weight": -0.1}, '"weight" -0.1'),
        ({"index": 0, "weight": float("nan")}, '"weight" nan'),
        ({"index": 0, "weight": "1"}, "\"weight\" '1'"),
        ({"index": 0, "weight": True}, '"weight" True'),
        ({"index": 0, "time": float("inf")}, '"time" inf'),
        ({"index": 0, "shot": -3}, '"shot" -3'),
        ({"index": 0, "prompt": ["a"]}, '"prompt"'),
        ({"index": 0, "file": "../../etc/passwd.png"}, "plain name"),
        ({"index": 0, "file": "/etc/passwd"}, "plain name"),
        ({"index": 0, "file": "..\\x.png"}, "plain name"),
        ({"index": 0, "file": "C:x.png"}, "plain name"),
        ({"index": 0, "file": ".hidden.png"}, "plain name"),
        ({"index": 0, "file": "a\0.png"}, "plain name"),
        ({"index": 0, "file": ""}, "plain name"),
        ({"index": 0, "file": 7}, "not text"),
        ([0], "has to be an object"),
        (None, "has to be an object"),
    ],
)
def test_a_wrong_entry_is_refused_by_name(tmp_path: Path, item: Any, words: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(json.dumps({"keyframes": [item]}))
    with pytest.raises(KeyframeError) as caught:
        read_manifest(tmp_path)
    assert words in str(caught.value)
    assert "keyframe 0" in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "not readable JSON"),
        ("{", "not readable JSON"),
        ("[" * 100_000, "not readable JSON"),
        ('{"keyframes": [{"index": ' + "9" * 5000 + "}]}", "keyframes.json"),
        ("[]", "not a keyframe list"),
        ('{"format": "other"}', "not a keyframe list"),
        ('{"version": 2, "keyframes": []}', "version 2"),
        ('{"keyframes": {"0": {}}}', "has to be a list"),
        ("{}", "has to be a list"),
        ('{"keyframes": [{"index": 3}, {"index": 3}]}', "lists frame 3 twice"),
        ('{"keyframes": [{"index": 3, "file": "a.png"}, {"index": 4, "file": "a.png"}]}', "a.png to two frames"),
        ('{"keyframes": [], "clip": []}', '"clip"'),
        ('{"keyframes": [], "clip": {"fingerprint": 3}}', '"fingerprint"'),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / MANIFEST_NAME).write_text(text)
    with pytest.raises(KeyframeError) as caught:
        read_manifest(tmp_path)
    assert words in str(caught.value)


def test_binary_and_huge_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / MANIFEST_NAME
    path.write_bytes(b"\xff\xfe\x00\x01" * 100)
    with pytest.raises(KeyframeError, match="not readable JSON"):
        read_manifest(tmp_path)
    with path.open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(KeyframeError, match="more than 16 MB"):
        read_manifest(tmp_path)


def test_fingerprint_survives_renaming_remuxing_and_a_gentle_encode(tmp_path: Path) -> None:
    original = write_clip(tmp_path / "a.mp4")
    fingerprint = clip_fingerprint(original)
    (tmp_path / "b.mp4").write_bytes(original.read_bytes())
    assert clip_fingerprint(tmp_path / "b.mp4") == fingerprint
    again = write_clip(tmp_path / "c.mkv", crf="12")
    assert is_same_clip(fingerprint, clip_fingerprint(again))


def test_fingerprint_tells_clips_apart(tmp_path: Path) -> None:
    fingerprint = clip_fingerprint(write_clip(tmp_path / "a.mp4"))
    assert not is_same_clip(fingerprint, clip_fingerprint(write_clip(tmp_path / "motion.mp4", speed=-2)))
    assert not is_same_clip(fingerprint, clip_fingerprint(write_clip(tmp_path / "longer.mp4", frames=10)))
    assert not is_same_clip(fingerprint, "nonsense")
    assert not is_same_clip(fingerprint, fingerprint.rpartition(":")[0] + ":xyz")
    assert not is_same_clip(fingerprint, fingerprint[:-2])
