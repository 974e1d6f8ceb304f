"""PQ and HLG tags, mastering metadata, and alpha in video."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
import torch
from test_video_writer import copy_clip
from video_clips import write_clip

from sparkvsr.video import ColourTags, EncodeOptions, VideoReader, VideoWriter, probe
from sparkvsr.video.hdr import HdrMetadata

MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"


@pytest.fixture(scope="module")
def hdr10(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_clip(
        tmp_path_factory.mktemp("hdr") / "hdr.mp4",
        codec="libx265",
        pixel_format="yuv420p10le",
        num_frames=8,
        options={"x265-params": f"log-level=none:master-display={MASTERING}:max-cll=1000,400"},
        colorspace=9,
        color_primaries=9,
        color_trc=16,
        color_range=1,
    )


def test_hdr_metadata_is_read(hdr10: Path) -> None:
    info = probe(hdr10)
    assert info.color == ColourTags(9, 1, 9, 16)
    assert info.bit_depth == 10
    assert info.hdr is not None
    assert info.hdr.mastering_display() == MASTERING
    assert info.hdr.content_light() == "1000,400"
    assert info.hdr.luminance == (Fraction(50, 10000), Fraction(1000))


@pytest.mark.parametrize("codec", ["h264", "hevc", "av1"])
def test_hdr_metadata_is_carried(tmp_path: Path, hdr10: Path, ffprobe, codec: str) -> None:
    path = tmp_path / "o.mkv"
    copy_clip(hdr10, path, options=EncodeOptions(codec))
    frame = ffprobe(path, "-show_frames", "-read_intervals", "%+#1")["frames"][0]
    assert frame["pix_fmt"] == "yuv420p10le"
    assert [frame[f"color_{name}"] for name in ("space", "primaries", "transfer")] == [
        "bt2020nc",
        "bt2020",
        "smpte2084",
    ]
    hdr = probe(path).hdr
    assert hdr is not None
    assert hdr.content_light() == "1000,400"
    assert hdr.primaries is not None
    assert float(hdr.primaries[2]) == pytest.approx(0.265, abs=1e-4)
    if codec == "h264":
        return  # Debian's ffprobe 5.1 does not read this from H.264, newer ones do
    side = {entry["side_data_type"]: entry for entry in frame["side_data_list"]}
    mastering = side["Mastering display metadata"]
    assert float(Fraction(mastering["green_x"])) == pytest.approx(0.265, abs=1e-4)
    assert float(Fraction(mastering["white_point_y"])) == pytest.approx(0.329, abs=1e-4)
    assert float(Fraction(mastering["max_luminance"])) == pytest.approx(1000, rel=1e-3)
    assert float(Fraction(mastering["min_luminance"])) == pytest.approx(0.005, rel=0.05)
    light = side["Content light level metadata"]
    assert (light["max_content"], light["max_average"]) == (1000, 400)


def test_hlg_tags_are_carried(tmp_path: Path, ffprobe) -> None:
    source = write_clip(tmp_path / "s.mkv", pixel_format="yuv420p10le", num_frames=3, colorspace=9, color_primaries=9,
                        color_trc=18, color_range=1)  # fmt: skip
    copy_clip(source, tmp_path / "o.mp4")
    stream = ffprobe(tmp_path / "o.mp4", "-show_streams")["streams"][0]
    assert stream["color_transfer"] == "arib-std-b67"
    assert stream["pix_fmt"] == "yuv420p10le"


def test_partial_metadata_spells_nothing() -> None:
    assert HdrMetadata().mastering_display() is None
    assert HdrMetadata(max_content_light=5).content_light() == "5,0"


@pytest.mark.parametrize(
    ("codec", "suffix", "pixel_format"), [("prores", ".mov", "yuva444p10le"), ("ffv1", ".mkv", "yuva444p10le")]
)
def test_alpha_in_video_round_trips(tmp_path: Path, ffprobe, codec: str, suffix: str, pixel_format: str) -> None:
    ramp = torch.linspace(0, 1, 64).reshape(1, 1, 64).repeat(1, 48, 1)
    colours = torch.rand(3, 6, 8).repeat_interleave(8, 1).repeat_interleave(8, 2)
    source = tmp_path / f"s{suffix}"
    options = EncodeOptions(codec, pixel_format="yuva444p10le")
    with VideoWriter(source, source=None, size=(48, 64), options=options) as writer:
        for _ in range(3):
            writer.write(colours, alpha=ramp)
    info = probe(source)
    assert info.has_alpha
    assert info.bit_depth >= 10
    frames = list(VideoReader(source))
    assert (frames[0].alpha - ramp).abs().max() < 1.5 / 255
    writer = copy_clip(source, tmp_path / f"o{suffix}", options=EncodeOptions(codec))
    stream = ffprobe(tmp_path / f"o{suffix}", "-show_streams")["streams"][0]
    assert stream["pix_fmt"].startswith("yuva444p1")
    again = next(iter(VideoReader(tmp_path / f"o{suffix}")))
    assert (again.alpha - ramp).abs().max() < 2 / 255
    # FFmpeg decodes ProRes 4444 to 12 bits, whatever it was made from.
    assert [note for note in writer.notes if "prores is written with 10 bits" not in note] == []
    dropped = copy_clip(source, tmp_path / "o.mp4").notes
    assert any("no transparency" in note for note in dropped)


@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv422p", "yuv444p", "yuv422p10le", "yuv444p10le"])
@pytest.mark.parametrize("codec", ["h264", "hevc", "ffv1"])
def test_subsampling_and_depth_are_kept(tmp_path: Path, ffprobe, codec: str, pixel_format: str) -> None:
    source = write_clip(tmp_path / "s.mkv", codec="ffv1", pixel_format=pixel_format, num_frames=3)
    copy_clip(source, tmp_path / "o.mkv", options=EncodeOptions(codec))
    assert ffprobe(tmp_path / "o.mkv", "-show_streams")["streams"][0]["pix_fmt"] == pixel_format
