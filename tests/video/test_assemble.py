"""Segments joined to one file: the same frames, times and streams as an output in one go."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from sparkvsr.errors import DecodeError, EncodeError
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter, probe
from sparkvsr.video.assemble import assemble_video

SIZE = (48, 64)
STOPS = (7, 8, 20)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 frames with B-frames, a variable rate, and sound."""
    path = tmp_path_factory.mktemp("clips") / "in.mkv"
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"bf": "2"})
        video.width, video.height, video.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("aac", rate=16000, layout="mono")
        for index in range(20):
            picture = np.roll(np.arange(48 * 64 * 3).reshape(48, 64, 3) // 40, index * 2, 1).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = index * 40 + (index % 3) * 7, Fraction(1, 1000)
            out.mux(video.encode(frame))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 12800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def write_segments(source: Path, folder: Path, codec: str) -> tuple[list[Path], list[tuple[int | None, int | None]]]:
    info, options = probe(source), EncodeOptions(codec=codec, copy_streams=False)  # type: ignore[arg-type]
    segments, times = [], []
    with VideoReader(source) as reader:
        frames = list(reader)
    for start, stop in zip((0, *STOPS[:-1]), STOPS, strict=True):
        segments.append(folder / f"segment{start}.mkv")
        with VideoWriter(segments[-1], source=info, size=SIZE, options=options) as writer:
            for frame in frames[start:stop]:
                writer.write(frame.pixels, frame.pts, frame.duration)
                times.append((frame.pts, frame.duration))
    return segments, times


def pictures(path: Path) -> list[torch.Tensor]:
    with VideoReader(path) as reader:
        return [frame.pixels for frame in reader]


def times_in_ms(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        return [round(float(frame.time or 0) * 1000) for frame in container.decode(video=0)]


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [
        *(("h264", suffix) for suffix in (".mp4", ".mkv", ".ts")),
        *(("hevc", suffix) for suffix in (".mp4", ".ts")),
        *(("prores", ".mov"), ("ffv1", ".mkv"), ("av1", ".mp4")),
    ],
)
def test_joined_segments_hold_their_frames_at_the_source_times(
    source: Path, tmp_path: Path, codec: str, suffix: str
) -> None:
    segments, times = write_segments(source, tmp_path, codec)
    out = tmp_path / f"out{suffix}"
    options = EncodeOptions(codec=codec)  # type: ignore[arg-type]
    assemble_video(out, segments, times, source=probe(source), size=SIZE, options=options)
    expected = [picture for segment in segments for picture in pictures(segment)]
    joined = pictures(out)
    assert len(joined) == 20
    assert all(torch.equal(a, b) for a, b in zip(joined, expected, strict=True))
    # Matroska output starts with the sound's delay; times are compared from the first frame on.
    before, after = times_in_ms(source), times_in_ms(out)
    assert [t - before[0] for t in before] == pytest.approx([t - after[0] for t in after], abs=1)
    with av.open(str(out)) as container:
        assert [stream.codec_context.name for stream in container.streams.audio] == ["aac"]
        decoding = [packet.dts for packet in container.demux(video=0) if packet.dts is not None]
        assert decoding == sorted(set(decoding))


def test_existing_output_is_kept(source: Path, tmp_path: Path) -> None:
    segments, times = write_segments(source, tmp_path, "h264")
    out = tmp_path / "out.mp4"
    out.write_text("precious")
    with pytest.raises(EncodeError, match="exists"):
        assemble_video(out, segments, times, source=probe(source), size=SIZE, options=EncodeOptions())
    assert out.read_text() == "precious"


def test_missing_frames_are_an_error_and_leave_nothing(source: Path, tmp_path: Path) -> None:
    segments, times = write_segments(source, tmp_path, "h264")
    with pytest.raises(DecodeError, match="hold 8 frames, the clip has 20"):
        assemble_video(
            tmp_path / "out.mp4", segments[:2], times, source=probe(source), size=SIZE, options=EncodeOptions()
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(segment.name for segment in segments)
