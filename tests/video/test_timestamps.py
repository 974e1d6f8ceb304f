"""Time: variable rates to the tick, exact field rates, odd starts, and sync over an hour."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from test_video_writer import copy_clip
from video_clips import write_clip

from sparkvsr.video import VideoReader, VideoWriter, probe

VARIABLE = [0, 3600, 7200, 18000, 21600, 36000, 39600, 50000, 60000, 61000, 64000, 70001]


def times(path: Path, ffprobe) -> list[float]:
    frames = ffprobe(path, "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time")["frames"]
    return [float(frame["best_effort_timestamp_time"]) for frame in frames]


@pytest.mark.parametrize("bframes", ["0", "3"])
def test_variable_rate_to_the_tick(tmp_path: Path, ffprobe, bframes: str) -> None:
    source = write_clip(
        tmp_path / "v.mp4", num_frames=12, pts=VARIABLE, time_base=Fraction(1, 90000), options={"bf": bframes}
    )
    copy_clip(source, tmp_path / "o.mp4")
    reader = VideoReader(tmp_path / "o.mp4")
    assert [f.pts * reader.time_base for f in reader] == [Fraction(t, 90000) for t in VARIABLE]
    assert times(tmp_path / "o.mp4", ffprobe) == pytest.approx([t / 90000 for t in VARIABLE], abs=1e-6)
    copy_clip(source, tmp_path / "o.mkv")
    assert times(tmp_path / "o.mkv", ffprobe) == pytest.approx([t / 90000 for t in VARIABLE], abs=0.0005)


@pytest.mark.parametrize(
    "fps", [Fraction(30000, 1001), Fraction(60000, 1001), Fraction(24000, 1001), Fraction(24), Fraction(50)]
)
@pytest.mark.parametrize(
    "route", [(".mp4", ".mp4"), (".mkv", ".mp4"), (".mp4", ".mkv"), (".ts", ".mp4"), (".mkv", ".mov")]
)
def test_field_rates_stay_exact(tmp_path: Path, ffprobe, fps: Fraction, route: tuple[str, str]) -> None:
    source = write_clip(tmp_path / f"s{route[0]}", fps=fps, num_frames=60)
    target = tmp_path / f"o{route[1]}"
    copy_clip(source, target)
    stream = ffprobe(target, "-show_streams")["streams"][0]
    if route[1] == ".mkv":  # ffprobe's reading of nanoseconds a frame
        assert float(Fraction(stream["avg_frame_rate"])) == pytest.approx(float(fps), rel=1e-6)
    else:
        assert Fraction(stream["avg_frame_rate"]) == fps
    assert probe(target).average_fps == fps
    found = times(target, ffprobe)
    step = 1 / float(fps)
    assert [t - found[0] for t in found] == pytest.approx(
        [k * step for k in range(60)],
        abs=0.0006 if route[1] == ".mkv" else 2e-6,  # milliseconds
    )


def write_hour(path: Path) -> Path:
    """An hour of sound, and a picture every minute on the grid of 29.97: what counts is the arithmetic of the times."""
    fps = Fraction(30000, 1001)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.width, stream.height, stream.codec_context.options = 32, 32, {"preset": "ultrafast", "bf": "0"}
        sound = container.add_stream("aac", rate=8000)
        silence = np.zeros((2, 1024), np.float32)
        for minute in range(61):
            frame = av.VideoFrame(32, 32, "yuv420p")
            frame.pts, frame.time_base = round(minute * 60 * fps), 1 / fps
            container.mux(stream.encode(frame))
            for start in range(-(-minute * 480_000 // 1024) * 1024, min(minute + 1, 60) * 480_000, 1024):
                part = av.AudioFrame.from_ndarray(silence, format="fltp", layout="stereo")
                part.sample_rate, part.pts, part.time_base = 8000, start, Fraction(1, 8000)
                container.mux(sound.encode(part))
        container.mux(stream.encode(None))
        container.mux(sound.encode(None))
    return path


@pytest.fixture(scope="module")
def hour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hour(tmp_path_factory.mktemp("hour") / "hour.mp4")


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_hour_of_sound_and_picture_stays_in_sync(tmp_path: Path, hour: Path, suffix: str) -> None:
    target = tmp_path / f"o{suffix}"
    copy_clip(hour, target)
    found: dict[tuple[Path, str], list[float]] = {}
    for file in (hour, target):
        for kind in ("video", "audio"):
            with av.open(str(file)) as container:
                packets = container.demux(**{kind: 0})
                found[file, kind] = sorted(float(p.pts * p.time_base) for p in packets if p.size)
    assert found[hour, "video"][-1] == pytest.approx(3600, abs=0.05)
    assert found[hour, "audio"][-1] > 3599
    assert len(found[target, "video"]) == len(found[hour, "video"]) == 61
    assert len(found[target, "audio"]) == len(found[hour, "audio"])
    # Matroska has no times below zero, so all streams may move together, by the same amount from first to last.
    shifts = [b - a for kind in ("video", "audio") for a, b in zip(found[hour, kind], found[target, kind], strict=True)]
    assert max(shifts) - min(shifts) < 0.0011  # a frame is 0.033


def test_late_picture_stays_late(tmp_path: Path, ffmpeg, ffprobe) -> None:
    full = write_clip(tmp_path / "f.mp4", num_frames=50, audio_seconds=2.0)
    late = tmp_path / "late.mp4"
    ffmpeg("-itsoffset", "0.5", "-i", full, "-i", full, "-map", "0:v", "-map", "1:a", "-c", "copy", late)
    copy_clip(late, tmp_path / "o.mp4")
    for path in (late, tmp_path / "o.mp4"):
        starts = [float(s["start_time"]) for s in ffprobe(path, "-show_streams")["streams"]]
        assert starts == pytest.approx([0.5, 0.0], abs=0.001)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4"])
@pytest.mark.parametrize("bframes", ["0", "2"])
def test_avi_begins_with_its_sound(tmp_path: Path, ffmpeg, ffprobe, codec: str, bframes: str) -> None:
    """FFmpeg 8 gives the pictures of H.264, and of whatever has B-frames, a frame too late."""
    full = write_clip(tmp_path / "f.mp4", num_frames=12, fps=Fraction(10), audio_seconds=1.2, codec=codec,
                      options={"bf": bframes})  # fmt: skip
    ffmpeg("-i", full, "-c:v", "copy", "-c:a", "pcm_s16le", "-bsf:v", "null", tmp_path / "s.avi")
    copy_clip(tmp_path / "s.avi", tmp_path / "o.mkv")
    streams = ffprobe(tmp_path / "o.mkv", "-show_streams")["streams"]
    assert [float(stream["start_time"]) for stream in streams] == pytest.approx([0.0, 0.0], abs=0.001)
    assert times(tmp_path / "o.mkv", ffprobe) == pytest.approx([k / 10 for k in range(12)], abs=0.001)


def test_transport_stream_offset_is_taken_off_all_streams(tmp_path: Path, ffmpeg, ffprobe) -> None:
    full = write_clip(tmp_path / "f.mp4", num_frames=50, audio_seconds=2.0)
    ffmpeg("-i", full, "-c", "copy", "-output_ts_offset", "1000", tmp_path / "s.ts")
    copy_clip(tmp_path / "s.ts", tmp_path / "o.mp4")
    before, after = (
        [float(s["start_time"]) for s in ffprobe(path, "-show_streams")["streams"]]
        for path in (tmp_path / "s.ts", tmp_path / "o.mp4")
    )
    assert before[0] > 1000
    assert after[0] - after[1] == pytest.approx(before[0] - before[1], abs=0.001)
    assert min(after) == pytest.approx(0, abs=0.03)


def test_clip_without_times_gets_them_from_its_rate(tmp_path: Path, ffprobe) -> None:
    source = write_clip(tmp_path / "s.h264", num_frames=20, fps=Fraction(25))
    reader = VideoReader(source)
    with VideoWriter(tmp_path / "o.mp4", source=reader.info, size=(48, 64)) as writer:
        for frame in reader:
            writer.write(frame.pixels)  # no times at all
    assert times(tmp_path / "o.mp4", ffprobe) == pytest.approx([k / 25 for k in range(20)], abs=1e-6)


@pytest.mark.parametrize("fps", [None, Fraction(30000, 1001), Fraction(12)])
def test_image_sequence_gets_the_asked_rate(tmp_path: Path, ffprobe, fps: Fraction | None) -> None:
    with VideoWriter(f"{tmp_path}/seq/", source=None, size=(48, 64)) as writer:
        for _ in range(10):
            writer.write(torch.rand(3, 48, 64))
    info = probe(tmp_path / "seq")
    with VideoWriter(tmp_path / "o.mp4", source=info, size=(48, 64), fps=fps) as writer:
        for frame in VideoReader(tmp_path / "seq"):
            writer.write(frame.pixels, pts=frame.pts, duration=frame.duration)
    stream = ffprobe(tmp_path / "o.mp4", "-show_streams")["streams"][0]
    assert Fraction(stream["avg_frame_rate"]) == (fps or 24)
    assert int(stream["nb_frames"]) == 10


def test_last_frame_keeps_its_length(tmp_path: Path, ffprobe) -> None:
    source = write_clip(tmp_path / "s.mp4", num_frames=10, options={"bf": "0"})
    copy_clip(source, tmp_path / "o.mp4")
    assert float(ffprobe(tmp_path / "o.mp4", "-show_streams")["streams"][0]["duration"]) == pytest.approx(0.4)


def test_picture_before_zero_is_not_hidden(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "s.mkv", num_frames=6)
    reader = VideoReader(source)
    with VideoWriter(tmp_path / "o.mp4", source=reader.info, size=(48, 64)) as writer:
        for frame in reader:
            writer.write(frame.pixels, pts=frame.pts - 100, duration=frame.duration)
    assert len(list(VideoReader(tmp_path / "o.mp4"))) == 6
