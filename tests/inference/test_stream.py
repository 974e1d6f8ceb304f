"""Frames that pass once give what a file gives, and every end of a pipe is told."""

from __future__ import annotations

import io
import json
import os
import threading
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
import pytest

from sparkvsr.errors import ConfigError, DecodeError, EncodeError, ReaderGoneError
from sparkvsr.hooks import silent
from sparkvsr.inference.events import event_schema
from sparkvsr.inference.stream.from_file import upscale_into_pipe
from sparkvsr.inference.stream.job import upscale_stream
from sparkvsr.inference.stream.restorer import check_model
from sparkvsr.inference.stream.spool import spooled
from sparkvsr.inference.upscale import make_options, upscale
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import load_model
from sparkvsr.video import VideoInfo, VideoReader, probe
from sparkvsr.video.pipes import (
    PipeReader,
    PipeSink,
    PipeSource,
    PipeWriter,
    open_sink,
    parse_input_format,
    read_y4m_header,
)
from sparkvsr.video.pipes.sinks import FileSink

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
            with os.fdopen(into, "wb") as file:
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
            with os.fdopen(out, "rb") as file:
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
    data = y4m(scenes(58, [26]))
    passed, events = through_pipe(data, vivid)
    result = upscale(saved(tmp_path, data), tmp_path / "f.mkv", model=vivid, keyframes="scenes", codec="ffv1")
    assert len(result.keyframe_indices) > 4
    expected = file_planes(result.output)
    got = planes_of(passed, tmp_path)
    assert len(got) == len(expected) == 58
    assert [k for k in range(58) if not np.array_equal(got[k], expected[k])] == []
    for event in events:
        jsonschema.Draft202012Validator(event_schema()).validate(event)
    assert events[-1]["event"] == "done"
    assert events[-1]["frames"] == 58


def test_faithful_with_chosen_keyframes_equals_the_file_command(faithful: RestorationModel, tmp_path: Path) -> None:
    # The first shot ends before its keyframe would come, and a session that knew of it must not use it.
    data = y4m(scenes(44, [16]))
    chosen: dict[str, Any] = {"keyframes": [20, 40], "guidance_scale": 2.0, "references": "bicubic", "scale": 2}
    passed, _ = through_pipe(data, faithful, **chosen)
    result = upscale(saved(tmp_path, data), tmp_path / "f.mkv", model=faithful, codec="ffv1", **chosen)
    expected, got = file_planes(result.output), planes_of(passed, tmp_path)
    assert [k for k in range(44) if not np.array_equal(got[k], expected[k])] == []


def test_guidance_and_weight_of_single_keyframes_hold_in_a_pipe(faithful: RestorationModel, tmp_path: Path) -> None:
    refs = tmp_path / "refs"
    refs.mkdir()
    frames = scenes(12, [])
    for index in (0, 8):
        luma = np.kron(frames[index][: W * H].reshape(H, W), np.ones((2, 2)))
        warmer = np.stack([np.minimum(luma + 40, 255), luma, luma], -1).astype(np.uint8)
        av.VideoFrame.from_ndarray(warmer, "rgb24").to_image().save(refs / f"{index}.png")
    entries = [{"index": 0, "guidance": 2.0}, {"index": 8, "weight": 0.5}]
    manifest = {"format": "sparkvsr-keyframes", "version": 1, "keyframes": entries}
    (refs / "keyframes.json").write_text(json.dumps(manifest))
    data = y4m(frames)
    chosen: dict[str, Any] = {"references": str(refs), "scale": 2}
    passed, _ = through_pipe(data, faithful, **chosen)
    result = upscale(saved(tmp_path, data), tmp_path / "f.mkv", model=faithful, codec="ffv1", **chosen)
    expected, got = file_planes(result.output), planes_of(passed, tmp_path)
    assert [k for k in range(12) if not np.array_equal(got[k], expected[k])] == []
    (refs / "keyframes.json").unlink()
    plain, _ = through_pipe(data, faithful, **chosen)
    assert plain != passed


LAYOUTS = {
    "420jpeg": ("yuv420p", 1, 1.5),
    "420mpeg2": ("yuv420p", 1, 1.5),
    "420paldv": ("yuv420p", 1, 1.5),
    "422": ("yuv422p", 1, 2),
    "444": ("yuv444p", 1, 3),
    "mono": ("gray", 1, 1),
    "420p10": ("yuv420p10le", 2, 1.5),
    "444p16": ("yuv444p16le", 2, 3),
    "mono16": ("gray16le", 2, 1),
}


@pytest.mark.parametrize("word", LAYOUTS)
def test_layouts_and_depths_go_through(word: str, tmp_path: Path) -> None:
    name, width, planes = LAYOUTS[word]
    rng = np.random.default_rng(1)
    bits = 8 if width == 1 else int(name.removesuffix("le")[-2:])
    count = round(W * H * planes)
    values = rng.integers(20 << (bits - 8), 230 << (bits - 8), (3, count)).astype("<u2" if width == 2 else "u1")
    data = y4m(list(values), f"C{word} XCOLORRANGE=FULL").replace(b"A1:1", b"A16:11")
    passed, _ = through_pipe(data, load_model("bicubic"), scale=2)
    path = tmp_path / "out.y4m"
    path.write_bytes(passed)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.pix_fmt, stream.average_rate) == (name, Fraction(30000, 1001))
        assert (stream.width, stream.height, stream.sample_aspect_ratio) == (2 * W, 2 * H, Fraction(16, 11))
        got = [frame.to_ndarray() for frame in container.decode(stream)]
    with VideoReader(path) as reader:
        assert reader.info.color.range == 2
    if name.startswith("gray"):
        assert len(got) == 3
        return
    saved(tmp_path, data)
    options = {"codec": "ffv1", "pixel_format": name}
    result = upscale(tmp_path / "in.y4m", tmp_path / "f.mkv", model="bicubic", keyframes="none", scale=2, **options)
    assert [k for k, frame in enumerate(file_planes(result.output)) if not np.array_equal(got[k], frame)] == []


def test_interlaced_streams_are_deinterlaced_like_a_file(tmp_path: Path) -> None:
    data = y4m(scenes(6, [])).replace(b" Ip ", b" Ib ")
    passed, events = through_pipe(data, load_model("bicubic"), scale=1)
    assert "is interlaced and is deinterlaced" in str(events[0]["notes"])
    assert passed.startswith(b"YUV4MPEG2 W32 H24 F30000:1001 Ip A1:1 C420mpeg2")
    saved(tmp_path, data)
    result = upscale(tmp_path / "in.y4m", tmp_path / "f.mkv", model="bicubic", keyframes="none", scale=1, codec="ffv1")
    got = planes_of(passed, tmp_path)
    assert [k for k, frame in enumerate(file_planes(result.output)) if not np.array_equal(got[k], frame)] == []


def test_raw_frames_are_read_as_they_are_named() -> None:
    frames = scenes(3, [])
    model = load_model("bicubic")
    results = []
    for name, data in (
        ("yuv420p", [frame.tobytes() for frame in frames]),
        ("nv12", [nv12(frame) for frame in frames]),
    ):
        with fed(b"".join(data)) as reader, written() as (writer, collect):
            source = PipeSource(reader, parse_input_format(f"{name}:{W}x{H}:25:limited:bt709"))
            options = make_options(model="bicubic", scale=2)
            upscale_stream(
                source, lambda i, s, w=writer, o=options: open_sink("y4m", w, i, s, o.encode), options, model,
                lambda event: None, "stdout",
            )  # fmt: skip
            results.append(collect())
    assert results[0] == results[1]
    assert results[0].startswith(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420mpeg2 XYSCSS=420MPEG2 XCOLORRANGE=LIMITED\n")


def nv12(frame: np.ndarray) -> bytes:
    luma, cb, cr = frame[: W * H], frame[W * H : W * H * 5 // 4], frame[W * H * 5 // 4 :]
    return luma.tobytes() + np.stack([cb, cr], 1).tobytes()


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("yuv420p", "is not PIXELFORMAT:WIDTHxHEIGHT:FPS"),
        ("yuv420p:64:25", "is not WIDTHxHEIGHT"),
        ("yuv420p:64x0:25", "sides of 1 to"),
        ("yuv420p:64x48:0", "is not a frame rate"),
        ("yuv999p:64x48:25", "is no pixel format"),
        ("pal8:64x48:25", "is not read"),
        ("yuv420p:64x48:25:blue", "'blue' is unknown"),
    ],
)
def test_a_wrong_input_format_is_told(text: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        parse_input_format(text)


def test_an_end_in_the_middle_of_a_frame_is_told_after_what_came_whole(tmp_path: Path) -> None:
    data = y4m(scenes(5, []))[:-100]
    model = load_model("bicubic")
    with fed(data) as reader, written() as (writer, collect):
        source = PipeSource(reader, read_y4m_header(reader))
        options = make_options(model="bicubic", scale=1)
        with pytest.raises(DecodeError, match=r"ended in the middle of frame 4 \(1052 of 1152 bytes\)"):
            upscale_stream(
                source, lambda i, s: open_sink("y4m", writer, i, s, options.encode), options, model,
                lambda event: None, "stdout",
            )  # fmt: skip
        passed = collect()
    assert len(planes_of(passed, tmp_path)) == 4


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (b"YUV4MPEG2 W32 H24 C410\n", "layout C410"),
        (b"YUV4MPEG2 H24\n", "without a usable width"),
        (b"YUV4MPEG2 W99999 H99999\n", "declares frames of 99999x99999"),
        (b"YUV4MPEG2 W32 H24", "no whole y4m header"),
        (b"YUV4MPEG2 W32 H24 Im\n", "mixes interlaced and progressive"),
        (b"YUV4MPEG2 W32 H24\nGARBAGE", "no frame begins where frame 0 should"),
        (b"YUV4MPEG2 W32 H24\n", "holds no frame"),
    ],
)
def test_a_stream_that_cannot_be_read_is_told(head: bytes, what: str) -> None:
    with pytest.raises(DecodeError, match=what):
        through_pipe(head, load_model("bicubic"), scale=1)


def test_a_reader_that_went_away_ends_it() -> None:
    out, into = os.pipe()
    os.close(out)
    writer = PipeWriter(into)
    with pytest.raises(ReaderGoneError, match="the program that reads stdout went away"):
        writer.write(b"x" * 100)
    os.close(into)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"keyframes": "iframes"}, "--iframes needs a file"),
        ({"keyframes": "random:3"}, "--random needs to know how long"),
        ({"preview": "1s@0:01"}, "--preview needs a file"),
        ({"compare": True}, "--compare needs a file"),
        ({"work": Path("w")}, "--work needs a file"),
        ({"stream": 1}, "--stream needs a file"),
        ({"codec": "hevc"}, "y4m, which is not encoded"),
        ({"pixel_format": "rgb24"}, "y4m has no pixel format rgb24"),
    ],
)
def test_what_a_pipe_cannot_do_is_refused(options: dict[str, Any], what: str) -> None:
    with pytest.raises((ConfigError, EncodeError), match=what):
        through_pipe(y4m(scenes(1, [])), load_model("bicubic"), **options)


def test_a_model_that_needs_whole_shots_is_refused() -> None:
    model = load_model("bicubic")
    model.is_resumable = False
    with pytest.raises(ConfigError, match="looks at a whole shot"):
        check_model(model)


def test_a_part_and_keyframes_beyond_the_end() -> None:
    passed, events = through_pipe(
        y4m(scenes(9, [])), load_model("bicubic"), scale=1, start=4, keyframes=[5, 90], references="lite"
    )
    assert passed.count(b"FRAME\n") == 5
    assert "keyframes 90 were never reached: the clip ended after 9 frames" in events[-1]["notes"]


def test_a_stream_becomes_images(tmp_path: Path) -> None:
    with fed(y4m(scenes(3, []))) as reader:
        source = PipeSource(reader, read_y4m_header(reader))
        options = make_options(model="bicubic", scale=1)
        target = tmp_path / "out" / "%03d.png"
        upscale_stream(
            source, lambda i, s: FileSink(target, i, s, options.encode, overwrite=False), options,
            load_model("bicubic"), lambda event: None, str(target),
        )  # fmt: skip
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["000.png", "001.png", "002.png"]


def test_a_writing_that_waits_can_be_ended() -> None:
    out, into = os.pipe()
    writer = PipeWriter(into)
    threading.Timer(0.3, writer.stop).start()
    assert writer.write(bytes(1 << 20)) == 1 << 20
    assert writer.num_bytes < 1 << 20
    os.close(into)
    os.close(out)


def test_what_is_no_clip_is_told_by_the_name_that_the_user_knows() -> None:
    no_video = pytest.raises(DecodeError, match="^cannot open stdin: it is not a video")
    with fed(b"hello\n") as reader, no_video, spooled(reader, silent) as path:
        probe(path)
    assert not path.exists()


def test_a_stream_comes_out_as_matroska(tmp_path: Path) -> None:
    path = saved(tmp_path, y4m(scenes(6, [])))
    passed, _ = through_pipe(path.read_bytes(), load_model("bicubic"), "mkv", scale=2, codec="ffv1")
    wanted = file_planes(upscale(path, tmp_path / "f.mkv", model="bicubic", scale=2, codec="ffv1").output)
    assert np.array_equal(planes_of(passed, tmp_path), wanted)


def test_a_file_goes_into_a_pipe_as_matroska(tmp_path: Path) -> None:
    path = saved(tmp_path, y4m(scenes(6, [])))
    events: list[dict[str, Any]] = []
    options = make_options(model="bicubic", scale=2, codec="ffv1", keyframes="random:1")
    with written() as (writer, collect):
        upscale_into_pipe(
            path,
            lambda job: open_sink("mkv", writer, job.clip.info, (2 * H, 2 * W), job.clip.encode),
            options,
            load_model("bicubic"),
            events.append,
            "stdout",
        )
        passed = collect()
    result = upscale(path, tmp_path / "f.mkv", model="bicubic", scale=2, codec="ffv1")
    got = planes_of(passed, tmp_path)
    assert [k for k, frame in enumerate(file_planes(result.output)) if not np.array_equal(got[k], frame)] == []
    assert [event["event"] for event in events if event["event"] not in ("analysis", "progress")] == [
        "input", "plan", "done",
    ]  # fmt: skip
    for event in events:
        jsonschema.Draft202012Validator(event_schema()).validate(event)
