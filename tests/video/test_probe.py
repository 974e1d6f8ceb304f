"""probe and VideoInfo: facts against ffprobe, and every refusal."""

from __future__ import annotations

import struct
import zlib
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from video_clips import picture, write_clip, write_rich_clip

from sparkvsr.errors import DecodeError
from sparkvsr.video import VideoReader, VideoWriter, probe


@pytest.mark.parametrize(
    ("name", "codec", "extra"),
    [
        ("a.mp4", "libx264", {"bf": "3"}),
        ("a.mkv", "libx265", {"x265-params": "log-level=none"}),
        ("a.avi", "mpeg4", {}),
        ("a.mov", "prores_ks", {}),
        ("a.ts", "mpeg2video", {"bf": "2"}),
        ("a.webm", "libvpx-vp9", {"deadline": "realtime", "cpu-used": "8"}),
    ],
)
def test_facts_agree_with_ffprobe(tmp_path: Path, ffprobe, name: str, codec: str, extra: dict[str, str]) -> None:
    pixel_format = "yuv422p10le" if codec == "prores_ks" else "yuv420p"
    path = write_clip(tmp_path / name, codec=codec, options=extra, pixel_format=pixel_format, audio_seconds=0)
    stream = ffprobe(path, "-show_streams", "-count_frames")["streams"][0]
    info = probe(path)
    assert (info.width, info.height) == (stream["width"], stream["height"])
    assert info.num_frames == int(stream["nb_read_frames"])
    assert info.average_fps == Fraction(stream["avg_frame_rate"])
    assert info.pixel_format == stream["pix_fmt"]
    assert info.codec == stream["codec_name"]
    assert info.duration_seconds == pytest.approx(24 / 25, abs=0.002)
    assert info.kind == "video"


def test_streams_chapters_and_attachments_are_counted(tmp_path: Path) -> None:
    info = probe(write_rich_clip(tmp_path / "rich.mkv", seconds=1))
    assert (info.num_audio, info.num_subtitles, info.num_chapters, info.num_attachments) == (2, 2, 2, 1)
    assert info.container == "matroska"
    assert "2 audio tracks" in info.summary()


@pytest.mark.parametrize("fps", [Fraction(30000, 1001), Fraction(60000, 1001), Fraction(24000, 1001), Fraction(25)])
def test_field_rates_are_exact(tmp_path: Path, fps: Fraction) -> None:
    assert probe(write_clip(tmp_path / "a.mp4", fps=fps, num_frames=30)).average_fps == fps


def test_variable_rate_is_seen(tmp_path: Path) -> None:
    pts = [0, 3600, 7200, 18000, 21600, 36000, 39600, 50000, 60000, 61000, 64000, 70001]
    path = write_clip(tmp_path / "v.mp4", num_frames=12, pts=pts, time_base=Fraction(1, 90000))
    info = probe(path)
    assert info.is_vfr
    assert not probe(write_clip(tmp_path / "c.mkv", fps=Fraction(30000, 1001))).is_vfr


def test_image_folder_and_pattern_are_in_natural_order(tmp_path: Path) -> None:
    import torch

    from sparkvsr.video import VideoReader
    from sparkvsr.video.images import encode_image

    for index in (1, 2, 10, 11, 3):
        pixels = torch.from_numpy(picture(index)).permute(2, 0, 1)
        (tmp_path / f"f_{index}.png").write_bytes(encode_image(pixels, ".png", bits=8))
    (tmp_path / ".hidden.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    info = probe(tmp_path)
    assert [p.name for p in info.files] == ["f_1.png", "f_2.png", "f_3.png", "f_10.png", "f_11.png"]
    assert (info.kind, info.num_frames, info.average_fps) == ("sequence", 5, 24)
    from video_clips import frame_number

    assert [frame_number(f.pixels) for f in VideoReader(tmp_path / "f_%d.png")] == [1, 2, 3, 10, 11]
    assert [f.index for f in VideoReader(tmp_path, start=2, frames=2)] == [2, 3]


# Refusals


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="does not exist"):
        probe(tmp_path / "no.mp4")


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "e.mp4").touch()
    with pytest.raises(DecodeError, match="is empty"):
        probe(tmp_path / "e.mp4")


def test_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "t.mp4").write_text("no video at all\n" * 100)
    with pytest.raises(DecodeError, match="not a video or image file"):
        probe(tmp_path / "t.mp4")


def test_folder_without_images(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="holds no images"):
        probe(tmp_path)


def test_pattern_without_files(tmp_path: Path) -> None:
    with pytest.raises(DecodeError, match="no file matches the pattern"):
        probe(tmp_path / "%05d.png")


def test_sound_only(tmp_path: Path) -> None:
    import av
    from video_clips import write_tone

    with av.open(str(tmp_path / "s.m4a"), "w", format="mp4") as container:
        write_tone(container, container.add_stream("aac", rate=44100), 0.5)
    with pytest.raises(DecodeError, match=r"no video stream \(found: audio\)"):
        probe(tmp_path / "s.m4a")


def test_cut_before_the_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4")
    path.write_bytes(path.read_bytes()[:-2000])  # the index of an MP4 comes last
    with pytest.raises(DecodeError, match="damaged or cut short"):
        probe(path)


def test_video_stream_without_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "z.mkv", num_frames=2)
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # up to the first cluster
    with pytest.raises(DecodeError, match="damaged or cut short"):
        probe(path)


def test_header_without_any_packet(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "z.mp4", num_frames=2, container_options={"movflags": "frag_keyframe+empty_moov"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moof") - 4])
    with pytest.raises(DecodeError, match="video stream without frames|damaged"):
        probe(path)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("width", "height"), [(100_000, 100_000), (16_385, 10), (0, 5)])
def test_image_bomb_is_refused_before_decoding(tmp_path: Path, width: int, height: int) -> None:
    (tmp_path / "b.png").write_bytes(png_header(width, height))
    with pytest.raises(DecodeError, match=f"frame size of {width}x{height}"):
        probe(tmp_path / "b.png")


def test_video_header_that_lies_about_its_size(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "l.mkv", codec="ffv1")
    data = path.read_bytes()
    lied = data.replace(b"\xb0\x81\x40", b"\xb0\x83\x01\x86\xa0", 1).replace(
        b"\xba\x81\x30", b"\xba\x83\x01\x86\xa0", 1
    )
    path.write_bytes(lied)
    with pytest.raises(DecodeError):
        probe(path)


def test_playlists_are_not_followed(tmp_path: Path) -> None:
    write_clip(tmp_path / "real.ts", codec="mpeg2video")
    (tmp_path / "p.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nreal.ts\n#EXT-X-ENDLIST\n")
    (tmp_path / "c.ffconcat").write_text("ffconcat version 1.0\nfile real.ts\n")
    for name in ("p.m3u8", "c.ffconcat"):
        with pytest.raises(DecodeError):
            probe(tmp_path / name)


def test_odd_names_are_only_names(tmp_path: Path) -> None:
    for name in ("movie: part 1.mp4", "100%.mp4", "-dash.mp4", "a?b=c.mp4", "ünï cödé.mp4"):
        source = write_clip(tmp_path / "plain.mp4", num_frames=3)
        source.rename(tmp_path / name)
        info = probe(tmp_path / name)
        assert info.num_frames == 3
        target = tmp_path / f"out {name}"
        with VideoWriter(target, source=info, size=(48, 64)) as writer:
            writer.write(__import__("torch").zeros(3, 48, 64))
        assert probe(target).num_frames == 1


def test_a_picture_cropped_at_its_left_is_exactly_that(tmp_path: Path, ffmpeg) -> None:
    """FFmpeg shows again what is cut off at the left, to keep memory aligned, unless it is told not to."""
    whole, cropped = write_clip(tmp_path / "w.mp4", num_frames=2), tmp_path / "c.mp4"
    crop = "h264_metadata=crop_left=2:crop_right=4:crop_top=2"
    ffmpeg("-i", whole, "-c", "copy", "-bsf:v", crop, cropped)
    assert (probe(cropped).width, probe(cropped).height) == (58, 46)
    for frame, full in zip(VideoReader(cropped), VideoReader(whole), strict=True):
        assert torch.equal(frame.pixels[:, 4:-4, 4:-4], full.pixels[:, 6:-4, 6:-8])
