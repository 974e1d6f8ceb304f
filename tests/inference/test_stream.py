"""Frames that pass once give what a file gives, and every end of a pipe is told."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from sparkvsr.errors import ConfigError, DecodeError, EncodeError, ReaderGoneError
from sparkvsr.inference.stream.from_file import upscale_into_pipe
from sparkvsr.inference.stream.job import upscale_stream
from sparkvsr.inference.stream.restorer import check_model
from sparkvsr.inference.upscale import make_options, upscale
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import load_model
from sparkvsr.video import VideoInfo, VideoReader
from sparkvsr.video.pipes import PipeReader, PipeSink, PipeSource, PipeWriter, open_sink, read_y4m_header

W, H = 32, 24


def y4m(frames: Sequence[np.ndarray], words: str = "C420mpeg2 XYSCSS=420MPEG2") -> bytes:
    """A y4m stream of frames that are given as the bytes of their planes."""
    head = f"YUV4MPEG2 W{W} H{H} F30000:1001 Ip A1:1 {words}\n".encode()
    return head + b"".join(b"FRAME\n" + frame.tobytes() for frame in frames)


def scenes(count: int, cuts: Sequence[int], seed: int = 0) -> list[np.ndarray]:
    """4:2:0 frames of textures that drift; another one begins at each cut."""
    rng = np.random.default_rng(seed)
    frames = []
    textures = [np.kron(rng.integers(30, 220, (40, 60)), np.ones((2, 2))) for _ in range(len(cuts) + 1)]
    tints = rng.integers(60, 200, (len(cuts) + 1, 2))
    for index in range(count):
        shot = sum(index >= cut for cut in cuts)
        luma = np.roll(textures[shot], index // 2, 1)[:H, :W]
        chroma = [np.full((H // 2, W // 2), tints[shot][k]) for k in range(2)]
        frames.append(np.concatenate([plane.ravel() for plane in (luma, *chroma)]).astype(np.uint8))
    return frames


def through_pipe(data: bytes, model: RestorationModel, out: str = "y4m", **options: Any) -> tuple[bytes, list[dict]]:
    """What comes out of a pipe that is fed with some bytes, and the events."""
    events: list[dict[str, Any]] = []
    with fed(data) as reader, written() as (writer, collect):
        source = PipeSource(reader, read_y4m_header(reader), start=options.get("start", 0))
        chosen = make_options(**options)

        def opened(info: VideoInfo, size: tuple[int, int]) -> PipeSink:
            return open_sink(out, writer, info, size, chosen.encode)

        try:
            upscale_stream(source, opened, chosen, model, events.append, "stdout")
        finally:
            result = collect()
    return result, events


class fed:  # noqa: N801  (used like a function)
    """A pipe that a thread writes some bytes into."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def __enter__(self) -> PipeReader:
        self._out, into = os.pipe()

        def write() -> None:
            with open(into, "wb") as file, pytest.MonkeyPatch.context():
                try:
                    file.write(self._data)
                except BrokenPipeError:
                    return

        self._thread = threading.Thread(target=write)
        self._thread.start()
        return PipeReader(self._out)

    def __exit__(self, *error: object) -> None:
        os.close(self._out)
        self._thread.join()


class written:  # noqa: N801  (used like a function)
    """A pipe that a thread reads; the second value ends it and gives what came."""

    def __enter__(self) -> tuple[PipeWriter, Any]:
        out, self._into = os.pipe()
        self._got = io.BytesIO()

        def read() -> None:
            with open(out, "rb") as file:
                while block := file.read(65536):
                    self._got.write(block)

        self._thread = threading.Thread(target=read)
        self._thread.start()
        return PipeWriter(self._into), self._collect

    def _collect(self) -> bytes:
        if self._into >= 0:
            os.close(self._into)
            self._into = -1
            self._thread.join()
        return self._got.getvalue()

    def __exit__(self, *error: object) -> None:
        self._collect()


def planes_of(data: bytes, tmp_path: Path) -> list[np.ndarray]:
    """The frames of a video, decoded by FFmpeg, as the bytes of their planes."""
    path = tmp_path / "decoded"
    path.write_bytes(data)
    return file_planes(path)


def file_planes(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray() for frame in container.decode(video=0)]


@pytest.fixture(scope="module")
def vivid() -> RestorationModel:
    return load_model("lite", device="cpu", dtype="fp32")


@pytest.fixture(scope="module")
def faithful() -> RestorationModel:
    return load_model("lite", device="cpu", dtype="fp32", look="faithful")


def saved(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "in.y4m"
    path.write_bytes(data)
    return path


def test_vivid_through_a_pipe_equals_the_file_command(vivid: RestorationModel, tmp_path: Path) -> None:
    data = y4m(scenes(70, [30]))
    passed, events = through_pipe(data, vivid)
    result = upscale(saved(tmp_path, data), tmp_path / "f.mkv", model=vivid, keyframes="scenes", codec="ffv1")
    assert len(result.keyframe_indices) > 4
    expected = file_planes(result.output)
    got = planes_of(passed, tmp_path)
    assert len(got) == len(expected) == 70
    assert [k for k in range(70) if not np.array_equal(got[k], expected[k])] == []
    assert events[-1]["event"] == "done"
    assert events[-1]["frames"] == 70
