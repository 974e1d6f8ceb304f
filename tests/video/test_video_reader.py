"""VideoReader and read_frames: order, exact starts, damage, orientation, fields."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from video_clips import frame_number, write_clip

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.video import VideoReader, probe, read_frames

LAYOUTS = {
    "h264 closed": ("a.mp4", "libx264", {"bf": "3", "g": "8"}, "yuv420p"),
    "h264 open GOP": ("a.mkv", "libx264", {"bf": "3", "g": "8", "x264-params": "open-gop=1:scenecut=0"}, "yuv420p"),
    "h264 one start point": ("a.mp4", "libx264", {"bf": "2", "g": "250"}, "yuv420p"),
    "hevc CRA": ("a.mp4", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=8:bframes=3"}, "yuv420p"),
    "h264 in TS": ("a.ts", "libx264", {"bf": "3", "g": "8"}, "yuv420p"),
    "mpeg4 in AVI": ("a.avi", "mpeg4", {"bf": "2", "g": "8"}, "yuv420p"),
    "h264 in AVI": ("a.avi", "libx264", {"bf": "3", "g": "8"}, "yuv420p"),
    "mjpeg": ("a.avi", "mjpeg", {}, "yuvj420p"),
    "vp9": ("a.webm", "libvpx-vp9", {"g": "8", "deadline": "realtime", "cpu-used": "8"}, "yuv420p"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_start_gives_the_same_frames_as_reading_all(tmp_path: Path, layout: str) -> None:
    name, codec, options, pixel_format = LAYOUTS[layout]
    path = write_clip(tmp_path / name, codec=codec, options=options, pixel_format=pixel_format, num_frames=30)
    whole = list(VideoReader(path))
    assert [frame_number(frame.pixels) for frame in whole] == list(range(30))
    assert [frame.index for frame in whole] == list(range(30))
    for start, frames in ((0, 3), (7, 2), (8, 1), (13, 9), (28, 5), (29, None)):
        part = list(VideoReader(path, start=start, frames=frames))
        assert [frame.index for frame in part] == list(range(start, min(30, start + (frames or 30))))
        for frame in part:
            assert torch.equal(frame.pixels, whole[frame.index].pixels)
            assert (frame.pts, frame.duration) == (whole[frame.index].pts, whole[frame.index].duration)
    picked = read_frames(path, [29, 3, 17, 3])
    assert list(picked) == [3, 17, 29]
    assert all(torch.equal(pixels, whole[index].pixels) for index, pixels in picked.items())


def test_a_part_of_a_reader_is_a_reader_of_that_part(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", codec="libx264", options={"bf": "3", "g": "8"}, num_frames=20)
    reader = VideoReader(path, start=2, frames=4)
    for start, frames in ((0, 3), (11, 5), (18, 9)):
        part = list(reader.part(start, frames))
        expected = list(VideoReader(path, start=start, frames=frames))
        assert [frame.index for frame in part] == [frame.index for frame in expected]
        assert all(torch.equal(a.pixels, b.pixels) for a, b in zip(part, expected, strict=True))
    assert [frame.index for frame in reader] == [2, 3, 4, 5]


def test_contract_of_a_frame(tmp_path: Path) -> None:
    reader = VideoReader(write_clip(tmp_path / "a.mp4", fps=Fraction(30000, 1001)))
    frames = list(reader)
    assert len(reader) == reader.num_frames == len(frames) == 24
    assert frames[0].pixels.shape == (3, 48, 64)
    assert frames[0].pixels.dtype == torch.float32
    assert 0 <= frames[0].pixels.min() <= frames[0].pixels.max() <= 1
    seconds = [frame.pts * reader.time_base for frame in frames]
    assert seconds == [Fraction(1001, 30000) * k for k in range(24)]
    assert all(frame.duration * reader.time_base == Fraction(1001, 30000) for frame in frames)
    assert frames[0].alpha is None
    assert "(3, 48, 64)" in repr(frames[0])


def test_variable_rate_times_are_those_of_the_file(tmp_path: Path) -> None:
    pts = [0, 3600, 7200, 18000, 21600, 36000, 39600, 50000, 60000, 61000, 64000, 70001]
    path = write_clip(tmp_path / "v.mp4", num_frames=12, pts=pts, time_base=Fraction(1, 90000), options={"bf": "2"})
    reader = VideoReader(path)
    assert [frame.pts * reader.time_base for frame in reader] == [Fraction(t, 90000) for t in pts]


@pytest.mark.parametrize("mirror", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_rotation_and_mirroring_are_applied_as_ffmpeg_does(tmp_path: Path, ffmpeg, angle: int, mirror) -> None:
    path = write_clip(tmp_path / "r.mp4", num_frames=2, rotation=(angle, *mirror), pixel_format="yuv444p")
    ffmpeg("-i", path, "-frames:v", "1", "-sws_flags", "accurate_rnd+full_chroma_int", tmp_path / "r.png")
    expected = next(iter(VideoReader(tmp_path / "r.png"))).pixels
    info = probe(path)
    pixels = next(iter(VideoReader(path))).pixels
    assert pixels.shape == expected.shape == (3, info.height, info.width)
    assert (pixels - expected).abs().mean() < 1.5 / 255


def test_cropped_frames_are_read_without_their_padding(tmp_path: Path) -> None:
    # 62x46 is coded as 64x48 with a cropping rectangle
    path = write_clip(tmp_path / "c.mp4", size=(62, 46))
    assert next(iter(VideoReader(path))).pixels.shape == (3, 46, 62)


def test_edit_list_hides_frames(tmp_path: Path, ffmpeg, ffprobe) -> None:
    full = write_clip(tmp_path / "full.mp4", num_frames=60, options={"g": "20", "bf": "2"})
    path = tmp_path / "cut.mp4"
    ffmpeg("-ss", "0.56", "-i", full, "-c", "copy", path)
    expected = ffprobe(path, "-select_streams", "v:0", "-show_entries", "frame=best_effort_timestamp_time")["frames"]
    reader = VideoReader(path)
    frames = list(reader)
    assert [float(f.pts * reader.time_base) for f in frames] == pytest.approx(
        [float(f["best_effort_timestamp_time"]) for f in expected]
    )
    assert frame_number(frames[0].pixels) == 14
    assert reader.info.num_frames == len(frames)


def test_interlaced_is_deinterlaced_with_a_word(tmp_path: Path) -> None:
    path = write_clip(
        tmp_path / "i.mkv",
        codec="mpeg2video",
        num_frames=12,
        options={"flags": "+ildct+ilme", "top": "1"},
        size=(64, 64),
    )
    info = probe(path)
    assert info.is_interlaced
    reader = VideoReader(path)
    frames = list(reader)
    assert [frame.index for frame in frames] == list(range(12))
    assert [frame_number(frame.pixels) for frame in frames] == list(range(12))
    assert any("is interlaced and is deinterlaced" in warning for warning in reader.warnings)
    kept = VideoReader(path, deinterlace="off")
    assert len(list(kept)) == 12
    assert not kept.warnings
    part = list(VideoReader(path, start=5, frames=3))
    assert all(torch.equal(frame.pixels, frames[frame.index].pixels) for frame in part)


def test_deinterlace_on_works_on_unflagged_clips_and_combing_goes(tmp_path: Path) -> None:
    import av
    import numpy as np

    path = tmp_path / "comb.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv444p"
        for index in range(8):
            image = np.full((64, 64, 3), 30, np.uint8)
            image[0::2, 4 * index : 4 * index + 16] = 220  # top field
            image[1::2, 4 * index + 2 : 4 * index + 18] = 220  # bottom field, half a frame later
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv444p")))
        container.mux(stream.encode(None))

    def combing(pixels: torch.Tensor) -> float:
        return float((pixels[:, 1:-1] - (pixels[:, :-2] + pixels[:, 2:]) / 2).abs().mean())

    raw = list(VideoReader(path, deinterlace="off"))[4].pixels
    clean = list(VideoReader(path, deinterlace="on"))[4].pixels
    assert combing(clean) < 0.4 * combing(raw)


def test_truncated_file_gives_what_is_there(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "t.mkv", num_frames=60, size=(160, 128))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    reader = VideoReader(path)
    frames = list(reader)
    assert 5 < len(frames) < 60
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert [frame_number(frame.pixels) for frame in frames[:-1]] == list(range(len(frames) - 1))


def test_truncated_fast_start_mp4_gives_what_is_there_and_tells(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "t.mp4", num_frames=60, size=(160, 128), container_options={"movflags": "+faststart"})
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    reader = VideoReader(path)
    frames = list(reader)
    assert 5 < len(frames) < 60
    assert [frame_number(frame.pixels) for frame in frames[:-3]] == list(range(len(frames) - 3))
    assert reader.warnings


def test_damage_in_the_middle_keeps_count_and_times(tmp_path: Path) -> None:
    import av

    path = write_clip(tmp_path / "d.mp4", codec="libx264", num_frames=40, options={"g": "10", "bf": "0"})
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets[12:15]:
        data[position : position + size] = bytes([0xFF]) * size
    path.write_bytes(bytes(data))
    reader = VideoReader(path)
    frames = list(reader)
    assert [frame.index for frame in frames] == list(range(40))
    assert [frame.pts for frame in frames] == sorted({frame.pts for frame in frames})
    assert [frame_number(frame.pixels) for frame in frames[20:]] == list(range(20, 40))
    assert [frame_number(frame.pixels) for frame in frames[:12]] == list(range(12))
    assert any("damaged" in warning for warning in reader.warnings)


def test_size_change_inside_a_stream_is_resized_with_a_word(tmp_path: Path) -> None:
    a = write_clip(tmp_path / "a.ts", codec="mpeg2video", num_frames=6)
    b = write_clip(tmp_path / "b.ts", codec="mpeg2video", num_frames=6, size=(96, 80))
    (tmp_path / "ab.ts").write_bytes(a.read_bytes() + b.read_bytes())
    reader = VideoReader(tmp_path / "ab.ts")
    assert {tuple(frame.pixels.shape) for frame in reader} == {(3, 48, 64)}
    assert any("frame size changes" in warning for warning in reader.warnings)


# Refusals


def test_start_behind_the_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    with pytest.raises(DecodeError, match="start 24 is behind the end.*0 to 23"):
        VideoReader(path, start=24)
    with pytest.raises(DecodeError, match="start >= 0"):
        VideoReader(path, start=-1)
    with pytest.raises(ConfigError, match="deinterlace 'maybe' is unknown"):
        VideoReader(path, deinterlace="maybe")


def test_frame_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="has no frame 99: it has 24, 0 to 23"):
        read_frames(write_clip(tmp_path / "a.mp4"), [3, 99])


def test_all_packets_ruined(tmp_path: Path) -> None:
    import av

    path = write_clip(tmp_path / "r.mp4", num_frames=10)
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    data = bytearray(path.read_bytes())
    for position, size in packets:
        data[position : position + size] = bytes([0xFF]) * size
    path.write_bytes(bytes(data))
    with pytest.raises(DecodeError, match="no frame of .* could be decoded"):
        list(VideoReader(path))


def test_sequence_of_two_sizes(tmp_path: Path) -> None:
    from sparkvsr.video.images import encode_image

    (tmp_path / "0.png").write_bytes(encode_image(torch.zeros(3, 8, 8), ".png", bits=8))
    (tmp_path / "1.png").write_bytes(encode_image(torch.zeros(3, 8, 10), ".png", bits=8))
    with pytest.raises(DecodeError, match="1.png is 10x8 but the first image of the sequence is 8x8"):
        list(VideoReader(tmp_path))


def test_truncated_transport_stream(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "t.ts", num_frames=60, size=(160, 128))
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 + 77])
    frames = list(VideoReader(path))
    assert 5 < len(frames) < 60
    assert [frame_number(frame.pixels) for frame in frames[:-3]] == list(range(len(frames) - 3))


def test_dv_and_field_coded_h264_are_seen_as_interlaced(tmp_path: Path, ffmpeg) -> None:
    fields = ("-f", "lavfi", "-i", "testsrc2=s=720x576:r=50:d=0.4", "-vf", "tinterlace=interleave_top,fieldorder=tff")
    ffmpeg(*fields, "-c:v", "dvvideo", "-pix_fmt", "yuv420p", tmp_path / "dv.avi")
    ffmpeg(*fields, "-c:v", "libx264", "-preset", "ultrafast", "-x264opts", "tff=1", tmp_path / "f.mp4")
    for name in ("dv.avi", "f.mp4"):
        info = probe(tmp_path / name)
        assert info.is_interlaced, name
        assert len(list(VideoReader(tmp_path / name))) == info.num_frames
