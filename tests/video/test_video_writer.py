"""VideoWriter: names, refusals, atomic completion, pixel formats and codecs."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from video_clips import frame_number, picture, write_clip

from sparkvsr.errors import EncodeError
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter, check_output, probe
from sparkvsr.video.frame_size import check_frame_size
from sparkvsr.video.options import Codec, choose_pixel_format


def pixels_of(index: int, width: int = 64, height: int = 48) -> torch.Tensor:
    return torch.from_numpy(picture(index, width, height)).permute(2, 0, 1).float() / 255


def copy_clip(source: Path, target: Path, **options) -> VideoWriter:
    with VideoReader(source) as reader:
        size = (reader.info.height, reader.info.width)
        with VideoWriter(target, source=reader.info, size=size, **options) as writer:
            for frame in reader:
                writer.write(frame.pixels, pts=frame.pts, duration=frame.duration, alpha=frame.alpha)
    return writer


@pytest.mark.parametrize(
    ("codec", "suffix"),
    [("h264", s) for s in (".mp4", ".mov", ".mkv", ".ts", ".m4v")]
    + [("hevc", ".mp4"), ("hevc", ".mkv"), ("av1", ".mp4"), ("av1", ".webm"), ("ffv1", ".mkv"), ("prores", ".mov")],
)
def test_every_codec_and_container_is_read_back(tmp_path: Path, ffprobe, codec: str, suffix: str) -> None:
    source = write_clip(tmp_path / "s.mp4", num_frames=12)
    path = tmp_path / f"o{suffix}"
    copy_clip(source, path, options=EncodeOptions(codec=codec))
    assert [frame_number(frame.pixels) for frame in VideoReader(path)] == list(range(12))
    stream = ffprobe(path, "-show_streams", "-count_frames")["streams"][0]
    assert stream["codec_name"] == codec
    assert int(stream["nb_read_frames"]) == 12
    assert Fraction(stream["avg_frame_rate"]) == 25


def test_close_returns_the_path_and_the_name_appears_only_then(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "o.mp4"
    writer = VideoWriter(path, source=None, size=(48, 64))
    for index in range(3):
        writer.write(pixels_of(index))
        assert not path.exists()
    assert writer.close() == path
    assert path.exists()
    assert [p.name for p in path.parent.iterdir()] == ["o.mp4"]
    assert probe(path).average_fps == 24
    with pytest.raises(EncodeError, match="is closed"):
        writer.write(pixels_of(0))


def write_then_fail(target: str) -> None:
    with VideoWriter(target, source=None, size=(48, 64)) as writer:
        writer.write(pixels_of(0))
        raise ZeroDivisionError


@pytest.mark.parametrize("name", ["o.mp4", "o/", "o.png"])
def test_an_exception_leaves_nothing(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZeroDivisionError):
        write_then_fail(f"{tmp_path}/{name}")
    assert list(tmp_path.iterdir()) == []


def write_twice(target: Path, pts: int | None) -> None:
    with VideoWriter(target, source=None, size=(48, 64)) as writer:
        writer.write(pixels_of(0), pts=pts)
        writer.write(pixels_of(1), pts=pts)


def test_overwrite_keeps_the_old_file_until_the_new_one_is_complete(tmp_path: Path) -> None:
    path = tmp_path / "o.mp4"
    path.write_bytes(b"old")
    writer = VideoWriter(path, source=None, size=(48, 64), overwrite=True)
    writer.write(pixels_of(0))
    assert path.read_bytes() == b"old"
    writer.abort()
    assert path.read_bytes() == b"old"
    with VideoWriter(path, source=None, size=(48, 64), overwrite=True) as writer:
        writer.write(pixels_of(0))
    assert path.read_bytes() != b"old"


def test_nothing_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="no frame was written"):
        VideoWriter(tmp_path / "o.mp4", source=None, size=(48, 64)).close()
    assert list(tmp_path.iterdir()) == []


def test_frame_of_another_size(tmp_path: Path) -> None:
    with (
        pytest.raises(EncodeError, match=r"frame 0 has shape \(3, 48, 60\)"),
        VideoWriter(tmp_path / "o.mp4", source=None, size=(48, 64)) as writer,
    ):
        writer.write(torch.zeros(3, 48, 60))


def test_time_that_goes_back(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="frame time 5 does not come after 5"):
        write_twice(tmp_path / "o.mp4", 5)


def test_uint8_and_float_give_the_same(tmp_path: Path) -> None:
    options = EncodeOptions("ffv1")
    for name, pixels in (("a.mkv", pixels_of(3)), ("b.mkv", (pixels_of(3) * 255).round().to(torch.uint8))):
        with VideoWriter(tmp_path / name, source=None, size=(48, 64), options=options) as writer:
            writer.write(pixels)
    a, b = (next(iter(VideoReader(tmp_path / name))).pixels for name in ("a.mkv", "b.mkv"))
    assert torch.equal(a, b)


def test_values_outside_are_clipped(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.png", source=None, size=(4, 4)) as writer:
        writer.write(torch.tensor([-1.0, 0.5, 7.0]).reshape(3, 1, 1).repeat(1, 4, 4))
    pixels = next(iter(VideoReader(tmp_path / "a.png"))).pixels
    assert pixels[:, 0, 0].tolist() == pytest.approx([0, 128 / 255, 1])


def test_folder_pattern_and_overwrite(tmp_path: Path) -> None:
    for target in (f"{tmp_path}/seq/", tmp_path / "pat" / "f_%03d.png"):
        with VideoWriter(target, source=None, size=(48, 64)) as writer:
            for index in range(3):
                writer.write(pixels_of(index))
        with pytest.raises(EncodeError, match="already holds images"):
            check_output(target)
        check_output(target, overwrite=True)
    assert sorted(p.name for p in (tmp_path / "seq").iterdir()) == ["00000.png", "00001.png", "00002.png"]
    assert sorted(p.name for p in (tmp_path / "pat").iterdir()) == ["f_000.png", "f_001.png", "f_002.png"]
    assert [frame_number(f.pixels) for f in VideoReader(tmp_path / "seq")] == [0, 1, 2]


def test_second_picture_for_one_image(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="holds one picture"):
        write_twice(tmp_path / "a.png", None)


# Refusals before any work


@pytest.mark.parametrize(
    ("name", "codec", "words"),
    [
        ("a.xyz", "h264", "file type .xyz is not written"),
        ("a.mp4", "ffv1", ".mp4 does not hold ffv1"),
        ("a.webm", "h264", ".webm does not hold h264"),
        ("a.mp4", "vp6", "codec 'vp6' is unknown"),
        ("%05d.gif", "h264", "image files of type .gif are not written"),
    ],
)
def test_names_and_codecs_that_do_not_go(tmp_path: Path, name: str, codec: str, words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        check_output(tmp_path / name, codec=codec)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (EncodeOptions(crf=99), "crf 99 is outside 0 to 51"),
        (EncodeOptions("ffv1", crf=3), "crf 3 does not apply to ffv1"),
        (EncodeOptions(pixel_format="nonsense"), "pixel format 'nonsense' is not one that h264 encodes"),
        (EncodeOptions("av1", pixel_format="yuv444p"), "pixel format 'yuv444p' is not one that av1 encodes"),
    ],
)
def test_options_that_do_not_go(tmp_path: Path, options: EncodeOptions, words: str) -> None:
    with pytest.raises(EncodeError, match=words):
        check_output(tmp_path / ("a.mkv"), options=options)


# What each encoder refused here when it was handed real frames; SVT-AV1 hangs where it is long and narrow.
@pytest.mark.parametrize(
    ("codec", "width", "height", "others"),
    [
        ("hevc", 14, 64, "h264 or av1"),
        ("hevc", 6, 6000, "h264"),
        ("av1", 2, 18, "h264"),
        ("av1", 16, 80, "h264 or hevc"),
        ("av1", 64, 8706, "h264 or hevc"),
        ("h264", 16386, 64, "hevc"),
    ],
)
def test_sizes_that_an_encoder_does_not_take(
    tmp_path: Path, codec: Codec, width: int, height: int, others: str
) -> None:
    with pytest.raises(EncodeError, match=f"{codec} cannot encode frames of {width}x{height}; use --codec {others}$"):
        check_frame_size(EncodeOptions(codec), None, (height, width), ".mp4")
    with pytest.raises(EncodeError, match=f"{codec} cannot encode frames of {width}x{height}"):
        VideoWriter(tmp_path / "a.mp4", source=None, size=(height, width), options=EncodeOptions(codec))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("codec", "width", "height"),
    [("h264", 2, 2), ("h264", 2, 6000), ("hevc", 16, 16), ("hevc", 32, 6000), ("av1", 4, 4), ("av1", 4, 64)],
)
def test_small_sizes_that_an_encoder_takes(tmp_path: Path, codec: Codec, width: int, height: int) -> None:
    with VideoWriter(tmp_path / "a.mp4", source=None, size=(height, width), options=EncodeOptions(codec)) as writer:
        for _ in range(3):
            writer.write(torch.rand(3, height, width))
    with VideoReader(tmp_path / "a.mp4") as reader:
        assert [frame.pixels.shape for frame in reader] == [(3, height, width)] * 3


def test_unknown_preset_is_told_before_the_first_frame(tmp_path: Path) -> None:
    with pytest.raises(EncodeError, match="cannot set up the encoder"):
        VideoWriter(tmp_path / "a.mp4", source=None, size=(48, 64), options=EncodeOptions(preset="warp"))
    assert list(tmp_path.iterdir()) == []


def test_existing_output(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    with pytest.raises(EncodeError, match="exists; pass --overwrite"):
        check_output(tmp_path / "a.mp4")
    check_output(tmp_path / "a.mp4", overwrite=True)


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "f").touch()
    with pytest.raises(EncodeError, match="is a file"):
        check_output(tmp_path / "f" / "a.mp4")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(EncodeError, match="may not be written"):
        check_output(tmp_path / "a.mp4")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(EncodeError):
        VideoWriter("/proc/sparkvsr/a.mp4", source=None, size=(48, 64))


@pytest.mark.parametrize("name", ["o.mp4", "o.mkv", "seq/"])
def test_full_disk_is_one_clear_line_and_leaves_nothing(tmp_path: Path, name: str) -> None:
    # A limit on file sizes stands in for a full disk: the writes fail the same way, half-way through.
    program = f"""
import resource, signal, torch, sys
from sparkvsr.video import VideoWriter
from sparkvsr.errors import EncodeError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
torch.manual_seed(0)
try:
    with VideoWriter({str(tmp_path) + "/" + name!r}, source=None, size=(240, 320)) as writer:
        for _ in range(60):
            writer.write(torch.rand(3, 240, 320))
except EncodeError as exc:
    print(exc)
    sys.exit(7)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert done.returncode == 7, done.stderr
    assert "is full; free some space" in done.stdout
    assert list(tmp_path.iterdir()) == []


# Pixel formats


@pytest.mark.parametrize(
    ("source", "codec", "expected"),
    [
        ("yuv420p", "h264", "yuv420p"),
        ("yuv420p10le", "h264", "yuv420p10le"),
        ("yuv422p10le", "h264", "yuv422p10le"),
        ("yuv444p", "hevc", "yuv444p"),
        ("yuv444p12le", "hevc", "yuv444p12le"),
        ("yuv444p12le", "h264", "yuv444p10le"),
        ("yuv422p10le", "av1", "yuv420p10le"),
        ("gray", "h264", "yuv420p"),
        ("pal8", "h264", "yuv420p"),
        ("rgb24", "h264", "yuv420p"),
        ("rgb48le", "hevc", "yuv420p12le"),
        ("yuvj420p", "h264", "yuv420p"),
        ("nv12", "h264", "yuv420p"),
        ("p010le", "h264", "yuv420p10le"),
        ("gbrp", "ffv1", "bgr0"),
        ("rgba64be", "ffv1", "gbrap16le"),
        ("yuva444p10le", "prores", "yuva444p10le"),
        ("yuv420p", "prores", "yuv422p10le"),
    ],
)
def test_format_follows_the_source(tmp_path: Path, source: str, codec: str, expected: str) -> None:
    from sparkvsr.video.pixels import frame_bit_depth, has_alpha_format

    info = probe(write_clip(tmp_path / "s.mp4", num_frames=1))
    info = replace(
        info,
        pixel_format=source,
        bit_depth=frame_bit_depth(source),
        has_alpha=has_alpha_format(source) and source != "pal8",
    )
    assert choose_pixel_format(EncodeOptions(codec), info, (48, 64))[0] == expected


def test_ten_bits_in_ten_bits_out(tmp_path: Path, ffprobe) -> None:
    source = write_clip(tmp_path / "s.mkv", codec="ffv1", pixel_format="yuv420p10le", num_frames=3)
    copy_clip(source, tmp_path / "o.mkv", options=EncodeOptions("ffv1"))
    copy_clip(source, tmp_path / "o.mp4", options=EncodeOptions("h264", crf=0))
    for name in ("o.mkv", "o.mp4"):
        assert ffprobe(tmp_path / name, "-show_streams")["streams"][0]["pix_fmt"] == "yuv420p10le"
    before, after = (list(VideoReader(tmp_path / name)) for name in ("s.mkv", "o.mkv"))
    errors = torch.stack([(a.pixels - b.pixels).abs() for a, b in zip(before, after, strict=True)])
    assert errors.mean() < 0.5 / 1023  # chroma is filtered once more, luma is not touched
    assert len((after[0].pixels * 1023).round().unique()) > 500


def test_lossless_codec_gives_back_the_decoded_frames(tmp_path: Path) -> None:
    source = write_clip(tmp_path / "s.mp4", num_frames=4)
    copy_clip(source, tmp_path / "o.mkv", options=EncodeOptions("ffv1"))
    for a, b in zip(VideoReader(source), VideoReader(tmp_path / "o.mkv"), strict=True):
        # Luma to the code; chroma passes through one more pair of resampling filters.
        assert (a.pixels - b.pixels).abs().mean() < 0.25 / 255
        assert (a.pixels - b.pixels).abs().max() < 5 / 255


def test_odd_sizes_stay_odd(tmp_path: Path, ffprobe) -> None:
    path = tmp_path / "o.mp4"
    with VideoWriter(path, source=None, size=(47, 63)) as writer:
        writer.write(pixels_of(1, 63, 47))
    stream = ffprobe(path, "-show_streams")["streams"][0]
    assert (stream["width"], stream["height"], stream["pix_fmt"]) == (63, 47, "yuv444p")
    assert any("4:4:4" in note for note in writer.notes)


def test_aspect_ratio_and_rotation(tmp_path: Path, ffprobe) -> None:
    source = write_clip(
        tmp_path / "s.mp4", rotation=(90, False, False), sample_aspect_ratio=Fraction(16, 15), num_frames=3
    )
    info = probe(source)
    assert (info.width, info.height, info.rotation_degrees) == (48, 64, 270)
    assert info.sample_aspect_ratio == Fraction(15, 16)  # turned with the picture
    copy_clip(source, tmp_path / "o.mp4")
    stream = ffprobe(tmp_path / "o.mp4", "-show_streams")["streams"][0]
    assert (stream["width"], stream["height"], stream["sample_aspect_ratio"]) == (48, 64, "15:16")
    assert not stream.get("side_data_list")


def test_writer_is_silent(tmp_path: Path) -> None:
    program = f"""
import torch
from sparkvsr.video import EncodeOptions, VideoWriter, VideoReader
for codec in ("h264", "hevc", "av1", "ffv1"):
    path = {str(tmp_path)!r} + f"/{{codec}}.mkv"
    with VideoWriter(path, source=None, size=(64, 64), options=EncodeOptions(codec)) as writer:
        for _ in range(3):
            writer.write(torch.rand(3, 64, 64))
    list(VideoReader(path))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == ""
    assert done.stderr == ""
