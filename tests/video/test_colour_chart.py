"""Colours: every matrix and range there and back, and against FFmpeg as a second opinion."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from video_clips import write_clip

from sparkvsr.video import ColourTags, EncodeOptions, VideoInfo, VideoReader, VideoWriter, probe
from sparkvsr.video.colour_tags import assumed_tags, rgb_to_ycbcr, ycbcr_to_rgb
from sparkvsr.video.pixels import frame_to_pixels, pixels_to_frame

MATRICES = {"bt709": 1, "fcc": 4, "bt470bg": 5, "smpte170m": 6, "smpte240m": 7, "bt2020nc": 9, "untagged": 2}
RANGES = {"limited": 1, "full": 2, "untagged": 0}
CHART_TOLERANCE = 2 / 255  # half a code of luma and of chroma, seen through the matrix, is 1.7/255
SWSCALE_TOLERANCE = 4.5 / 255  # swscale's own 8-bit conversion is up to 2 codes off on either way


def chart(patch: int = 16) -> torch.Tensor:
    """Colours of the RGB cube's corners, edges and greys, as flat patches: ``(3, H, W)`` in [0, 1]."""
    levels = (0.0, 0.25, 0.5, 0.75, 1.0)
    colours = torch.tensor(list(itertools.product(levels, repeat=3)) + [(g / 18,) * 3 for g in range(19)])  # 144
    grid = colours.reshape(12, 12, 3).permute(2, 0, 1)
    return grid.repeat_interleave(patch, 1).repeat_interleave(patch, 2).contiguous()


def centres(pixels: torch.Tensor, patch: int = 16) -> torch.Tensor:
    """The middle of each patch, away from chroma that bleeds over its edges."""
    return pixels[:, patch // 2 :: patch, patch // 2 :: patch]


@pytest.fixture(scope="module")
def base_info(tmp_path_factory: pytest.TempPathFactory) -> VideoInfo:
    return probe(write_clip(tmp_path_factory.mktemp("base") / "b.mkv", num_frames=1))


def write_chart(path: Path, info: VideoInfo, tags: ColourTags, pixel_format: str, codec: str = "ffv1") -> VideoInfo:
    source = replace(info, color=tags)
    options = EncodeOptions(
        codec=codec, pixel_format=pixel_format, crf=1 if codec != "ffv1" else None, copy_streams=False
    )
    pixels = chart()
    with VideoWriter(path, source=source, size=pixels.shape[-2:], options=options) as writer:
        writer.write(pixels)
    return source


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv444p", "yuv422p10le"])
@pytest.mark.parametrize("range_name", RANGES)
@pytest.mark.parametrize("matrix", MATRICES)
def test_chart_round_trips(
    tmp_path: Path, base_info: VideoInfo, matrix: str, range_name: str, pixel_format: str
) -> None:
    tags = ColourTags(MATRICES[matrix], RANGES[range_name], 2, 2)
    write_chart(tmp_path / "c.mkv", base_info, tags, pixel_format)
    read = probe(tmp_path / "c.mkv")
    assert (read.color.matrix, read.color.range) == (tags.matrix, tags.range)
    pixels = next(iter(VideoReader(tmp_path / "c.mkv"))).pixels
    assert (centres(pixels) - centres(chart())).abs().max() <= CHART_TOLERANCE


@pytest.mark.parametrize("range_name", ["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "bt2020nc"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "av1", "prores"])
def test_every_codec_carries_the_tags(
    tmp_path: Path, base_info: VideoInfo, ffprobe, codec: str, matrix: str, range_name: str
) -> None:
    if codec == "prores" and range_name == "full":
        pytest.skip("ProRes has no full range")
    suffix = ".mov" if codec == "prores" else ".mp4"
    primaries = {"bt709": 1, "smpte170m": 6, "bt2020nc": 9}[matrix]
    tags = ColourTags(MATRICES[matrix], RANGES[range_name], primaries, 1)
    source = replace(base_info, color=tags)
    path = tmp_path / f"c{suffix}"
    with VideoWriter(
        path, source=source, size=(192, 192), options=EncodeOptions(codec=codec, copy_streams=False)
    ) as writer:
        writer.write(chart())
    stream = ffprobe(path, "-show_streams")["streams"][0]
    assert stream["color_space"] == matrix
    assert stream["color_range"] == ("pc" if range_name == "full" else "tv")
    assert stream["color_primaries"] == {"bt709": "bt709", "smpte170m": "smpte170m", "bt2020nc": "bt2020"}[matrix]
    error = (centres(next(iter(VideoReader(path))).pixels) - centres(chart())).abs()
    assert error.mean() < 2.5 / 255  # lossy codecs at their default quality


@pytest.mark.parametrize("range_name", ["limited", "full"])
@pytest.mark.parametrize("matrix", ["bt709", "smpte170m", "smpte240m", "bt2020nc"])
def test_ffmpeg_reads_our_colours(tmp_path: Path, base_info: VideoInfo, ffmpeg, matrix: str, range_name: str) -> None:
    tags = ColourTags(MATRICES[matrix], RANGES[range_name], 2, 2)
    write_chart(tmp_path / "c.mkv", base_info, tags, "yuv444p")
    flags = "scale=sws_flags=accurate_rnd+full_chroma_int+full_chroma_inp,format=rgb24"
    ffmpeg("-i", tmp_path / "c.mkv", "-vf", flags, "-frames:v", "1", tmp_path / "c.png")
    theirs = next(iter(VideoReader(tmp_path / "c.png"))).pixels
    assert (centres(theirs) - centres(chart())).abs().max() <= SWSCALE_TOLERANCE


@pytest.mark.parametrize("matrix", [1, 4, 6, 7, 9])
@pytest.mark.parametrize("is_full", [False, True])
@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_arithmetic_follows_the_standard(matrix: int, is_full: bool, bits: int) -> None:
    tags = ColourTags(matrix, 2 if is_full else 1)
    white, black = rgb_to_ycbcr(torch.ones(3, 1, 1), tags, bits), rgb_to_ycbcr(torch.zeros(3, 1, 1), tags, bits)
    top, unit = 2**bits - 1, 2 ** (bits - 8)
    assert white[0].item() == pytest.approx(top if is_full else 235 * unit, rel=1e-6)
    assert black[0].item() == pytest.approx(0 if is_full else 16 * unit, abs=1e-4)
    neutral = 2 ** (bits - 1)
    assert white[1:].flatten().tolist() == pytest.approx([neutral] * 2, rel=1e-5)
    colours = torch.rand(3, 7, 5)
    assert torch.allclose(ycbcr_to_rgb(rgb_to_ycbcr(colours, tags, bits), tags, bits), colours, atol=1e-5)


def test_red_in_bt709_and_bt601_are_the_published_codes() -> None:
    red = torch.tensor([1.0, 0, 0]).reshape(3, 1, 1)
    assert rgb_to_ycbcr(red, ColourTags(1, 1), 8).flatten().round().tolist() == [63, 102, 240]
    assert rgb_to_ycbcr(red, ColourTags(6, 1), 8).flatten().round().tolist() == [81, 90, 240]


def test_untagged_rule() -> None:
    assert assumed_tags(ColourTags(), 480).matrix == 6
    assert assumed_tags(ColourTags(), 719).matrix == 6
    assert assumed_tags(ColourTags(), 720).matrix == 1
    assert assumed_tags(ColourTags(), 720).range == 1
    assert assumed_tags(ColourTags(9, 2), 480) == ColourTags(9, 2)


def test_untagged_small_clip_keeps_its_colours_when_it_becomes_large(tmp_path: Path, base_info: VideoInfo) -> None:
    # Read as BT.601 for its 48 lines; written to 768 lines it must be BT.601 still, and its own reader has to know.
    pixels = chart(64)
    with VideoWriter(
        tmp_path / "u.mkv", source=base_info, size=(768, 768), options=EncodeOptions("ffv1", copy_streams=False)
    ) as writer:
        writer.write(pixels)
    info = probe(tmp_path / "u.mkv")
    read = next(iter(VideoReader(tmp_path / "u.mkv"))).pixels
    assert (centres(read, 64) - centres(pixels, 64)).abs().max() <= CHART_TOLERANCE
    assert info.color.matrix == 6


@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "yuv422p10le", "yuv444p12le", "yuv420p16le", "gbrp16le"])
def test_deep_formats_keep_their_depth(pixel_format: str) -> None:
    ramp = torch.linspace(0, 1, 1024).reshape(1, 1, 1024).repeat(3, 4, 1)
    tags = ColourTags(1, 1)
    frame = pixels_to_frame(ramp, pixel_format, tags)
    pixels, _ = frame_to_pixels(frame, tags)
    assert (pixels - ramp).abs().max() < 1 / 1023
    assert len(pixels[1, 0].unique()) > 800  # an 8-bit step in between would leave 256


def test_chroma_is_sited_where_it_is_read(tmp_path: Path) -> None:
    # A colour ramp comes back without a shift: a wrong siting moves chroma by half a pixel.
    x = torch.linspace(0.1, 0.9, 64)
    ramp = torch.stack([x, 1 - x, x]).reshape(3, 1, 64).repeat(1, 48, 1)
    for pixel_format in ("yuv420p", "yuv422p"):
        pixels, _ = frame_to_pixels(pixels_to_frame(ramp, pixel_format, ColourTags(1, 1)), ColourTags(1, 1))
        error = (pixels - ramp)[:, :, 2:-2]
        assert error.mean().abs() < 0.3 / 255
        assert error.abs().max() < 2.5 / 255


LAYOUTS = (
    "gray gray10le pal8 rgb24 bgr0 rgb565le gbrp10le nv12 p010le yuyv422 uyvy422 yuv411p yuv410p yuva420p ya8 rgba64le "
    "monow"
)


@pytest.mark.parametrize("name", LAYOUTS.split())
def test_every_layout_is_read(name: str) -> None:
    image = np.zeros((16, 32, 3), np.uint8)
    image[:, :16] = 255
    frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(
        format="rgb8" if name == "pal8" else name, dst_colorspace="ITU709", dst_color_range="MPEG"
    )
    pixels, alpha = frame_to_pixels(frame, ColourTags(1, 0 if name.startswith(("gray", "ya", "mono")) else 1))
    assert pixels.shape == (3, 16, 32)
    assert pixels[:, :, 2:10].mean() > 0.97
    assert pixels[:, :, 22:30].mean() < 0.03
    assert (alpha is not None) == (name in ("yuva420p", "ya8", "rgba64le"))


def test_palette_of_a_gif(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "p.gif", codec="gif", pixel_format="rgb8", num_frames=5)
    frames = list(VideoReader(path))
    assert len(frames) == 5
    assert frames[0].pixels.shape == (3, 48, 64)
    assert frames[0].pixels.std() > 0.1


def test_matrix_without_luma_weights_is_told_and_not_written(tmp_path: Path, ffmpeg) -> None:
    path = write_clip(tmp_path / "y.mkv", codec="ffv1", colorspace=8, num_frames=2)
    reader = VideoReader(path)
    assert any("ycgco" in warning for warning in reader.warnings)
    with VideoWriter(tmp_path / "o.mkv", source=reader.info, size=(48, 64)) as writer:
        for frame in reader:
            writer.write(frame.pixels, pts=frame.pts)
    assert probe(tmp_path / "o.mkv").color.matrix == 1
