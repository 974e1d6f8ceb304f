"""Everything but the picture: sound, subtitles, chapters, attachments, tags; compared by ffprobe."""

from __future__ import annotations

import hashlib
from fractions import Fraction
from pathlib import Path

import av
import pytest
from test_video_writer import copy_clip
from video_clips import frame_number, write_clip, write_rich_clip

from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter, probe

PUBLIC_WITH_SOUND = ("friday_bw_640x480.mp4", "nasa_13013.mp4", "realshort_320x240.mp4")
PUBLIC_ODD = ("dove_002.mp4", "carphone_distorted.mp4", "dove_007.mp4")


def packets(path: Path, kind: str, number: int = 0) -> list[tuple[float, str]]:
    """Time and digest of the packets of one stream, by PyAV's demuxer (bytes, not our reader)."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][number]
        return [
            (float(p.pts * p.time_base), hashlib.sha256(bytes(p)).hexdigest()[:12])
            for p in container.demux(stream)
            if p.pts is not None and p.size
        ]


@pytest.fixture(scope="module")
def rich(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_rich_clip(tmp_path_factory.mktemp("rich") / "rich.mkv")


def test_matroska_to_matroska_keeps_all(tmp_path: Path, rich: Path, ffprobe) -> None:
    target = tmp_path / "o.mkv"
    writer = copy_clip(rich, target)
    assert writer.notes == []
    asked = ("-show_streams", "-show_chapters", "-show_format")
    before, after = ffprobe(rich, *asked), ffprobe(target, *asked)
    assert [s["codec_type"] for s in after["streams"]] == [s["codec_type"] for s in before["streams"]]
    for a, b in zip(before["streams"], after["streams"], strict=True):
        assert a["codec_name"] == b["codec_name"]
        assert a["disposition"] == b["disposition"]
        assert a.get("start_time") == b.get("start_time")
        for key in ("language", "title", "filename", "mimetype"):
            assert a.get("tags", {}).get(key) == b.get("tags", {}).get(key)
    assert [(c["start_time"], c["end_time"], c["tags"]) for c in after["chapters"]] == [
        (c["start_time"], c["end_time"], c["tags"]) for c in before["chapters"]
    ]
    for key in ("title", "ARTIST", "CUSTOM"):
        assert after["format"]["tags"][key] == before["format"]["tags"][key]
    for kind, number in (("audio", 0), ("audio", 1), ("subtitle", 0), ("subtitle", 1)):
        assert packets(rich, kind, number) == packets(target, kind, number)
    with av.open(str(target)) as container:
        assert next(s for s in container.streams if s.type == "attachment").data == bytes(range(256)) * 8


def test_matroska_to_mp4_keeps_what_it_can_and_says_what_not(tmp_path: Path, rich: Path, ffprobe) -> None:
    target = tmp_path / "o.mp4"
    writer = copy_clip(rich, target)
    streams = ffprobe(target, "-show_streams", "-show_chapters")
    kinds = [(s["codec_type"], s["codec_name"], s.get("tags", {}).get("language")) for s in streams["streams"]]
    assert kinds[:5] == [
        ("video", "h264", "und"),
        ("audio", "aac", "eng"),
        ("audio", "opus", "fra"),
        ("subtitle", "mov_text", "eng"),
        ("subtitle", "mov_text", "deu"),
    ]
    assert streams["streams"][3]["disposition"]["forced"] == 1
    assert streams["streams"][2]["disposition"]["default"] == 1
    assert [c["tags"]["title"] for c in streams["chapters"]] == ["Opening", "End"]
    assert sum("converted to mov_text" in note for note in writer.notes) == 2
    assert sum("attachment" in note and "dropped" in note for note in writer.notes) == 1
    for number in (0, 1):
        assert [d for _, d in packets(rich, "audio", number)] == [d for _, d in packets(target, "audio", number)]


def test_subtitles_read_the_same_after_conversion(tmp_path: Path, rich: Path, ffmpeg) -> None:
    copy_clip(rich, tmp_path / "o.mp4")
    copy_clip(tmp_path / "o.mp4", tmp_path / "back.mkv")
    for name in ("o.mp4", "back.mkv"):
        ffmpeg("-i", tmp_path / name, "-map", "0:s:0", tmp_path / f"{name}.srt")
    first, second = ((tmp_path / f"{n}.srt").read_text().split("\n") for n in ("o.mp4", "back.mkv"))
    assert [line for line in first if "-->" not in line] == [line for line in second if "-->" not in line]
    assert "Hello there" in first
    # Matroska has no times below zero: where AAC begins 23 ms early, all streams move together.
    shift = packets(tmp_path / "back.mkv", "video")[0][0] - packets(tmp_path / "o.mp4", "video")[0][0]
    shown = [packets(tmp_path / name, "subtitle")[-1][0] for name in ("o.mp4", "back.mkv")]
    assert 0 <= shift < 0.03
    assert shown[1] - shown[0] == pytest.approx(shift, abs=0.0011)


def test_mov_refuses_opus_so_it_becomes_aac(tmp_path: Path, rich: Path, ffprobe) -> None:
    writer = copy_clip(rich, tmp_path / "o.mov")
    expected = "audio stream 2 (opus, fra) is transcoded to AAC: .mov cannot hold it; .mkv takes it as it is"
    assert expected in writer.notes
    sounds = [s for s in ffprobe(tmp_path / "o.mov", "-show_streams")["streams"] if s["codec_type"] == "audio"]
    assert [(s["codec_name"], s["tags"]["language"]) for s in sounds] == [("aac", "eng"), ("aac", "fra")]
    assert float(sounds[1]["duration"]) == pytest.approx(4.0, abs=0.05)


def test_streams_can_be_left_out(tmp_path: Path, rich: Path) -> None:
    copy_clip(rich, tmp_path / "o.mkv", options=EncodeOptions(copy_streams=False))
    info = probe(tmp_path / "o.mkv")
    assert (info.num_audio, info.num_subtitles, info.num_attachments, info.num_chapters) == (0, 0, 0, 0)


def test_cover_picture_survives_both_ways(tmp_path: Path, ffmpeg, ffprobe) -> None:
    clip = write_clip(tmp_path / "c.mp4")
    ffmpeg("-f", "lavfi", "-i", "color=blue:s=32x32", "-frames:v", "1", tmp_path / "cover.png")
    source = tmp_path / "s.mp4"
    ffmpeg("-i", clip, "-i", tmp_path / "cover.png", "-map", "0", "-map", "1", "-c", "copy", "-c:v:1", "png",
           "-disposition:v:1", "attached_pic", source)  # fmt: skip
    copy_clip(source, tmp_path / "a.mkv")
    copy_clip(tmp_path / "a.mkv", tmp_path / "b.mp4")
    for name in ("a.mkv", "b.mp4"):
        streams = ffprobe(tmp_path / name, "-show_streams")["streams"]
        cover = next(s for s in streams if s["disposition"]["attached_pic"])
        assert (cover["codec_name"], cover["width"]) == ("png", 32)
        assert probe(tmp_path / name).num_frames == 24


def test_bitmap_subtitles_are_copied(tmp_path: Path, ffmpeg, ffprobe) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,700\nHello\n")
    # Teletext and DVD bitmaps need fonts to make; DVB's encoder takes the bitmap that PGS or DVD decoders give, so a
    # raw PGS stream with one empty display set stands for them.
    segments = bytearray()
    for pts, kind, body in ((9000, 0x16, bytes.fromhex("0040003010000080000000")), (9000, 0x80, b"")):
        segments += b"PG" + pts.to_bytes(4, "big") + bytes(4) + bytes([kind]) + len(body).to_bytes(2, "big") + body
    (tmp_path / "s.sup").write_bytes(bytes(segments))
    clip = write_clip(tmp_path / "c.mp4")
    source = tmp_path / "s.mkv"
    ffmpeg("-i", clip, "-f", "sup", "-i", tmp_path / "s.sup", "-map", "0", "-map", "1", "-c", "copy", source)
    writer = copy_clip(source, tmp_path / "o.mkv")
    assert writer.notes == []
    assert [s["codec_name"] for s in ffprobe(tmp_path / "o.mkv", "-show_streams")["streams"]][1] == "hdmv_pgs_subtitle"
    assert packets(source, "subtitle") == packets(tmp_path / "o.mkv", "subtitle")
    assert any("dropped" in note for note in copy_clip(source, tmp_path / "o.mp4").notes)


def copy_part(source: Path, target: Path, start: int, frames: int) -> None:
    reader = VideoReader(source, start=start, frames=frames)
    with VideoWriter(target, source=reader.info, size=(48, 64), clip_range=(start, frames)) as writer:
        for frame in reader:
            writer.write(frame.pixels, pts=frame.pts, duration=frame.duration)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_a_part_of_the_clip_has_its_part_of_the_sound(tmp_path: Path, suffix: str, ffprobe) -> None:
    source = write_clip(tmp_path / "s.mp4", num_frames=100, audio_seconds=4.0, options={"g": "12", "bf": "2"})
    target = tmp_path / f"o{suffix}"
    copy_part(source, target, 40, 30)
    assert [frame_number(f.pixels) for f in VideoReader(target)] == list(range(40, 70))
    streams = ffprobe(target, "-show_streams")["streams"]
    assert float(streams[0]["start_time"]) == 0
    before, after = dict(map(reversed, packets(source, "audio"))), packets(target, "audio")
    frame = 1 / 25
    assert abs(len(after) * 1024 / 44100 - 30 * frame) < frame
    for time, digest in after:
        assert abs(before[digest] - 40 * frame - time) < 0.002  # Matroska rounds to milliseconds
    assert 0 <= after[0][0] < frame


def test_chapters_are_cut_to_the_part(tmp_path: Path, rich: Path, ffprobe) -> None:
    copy_part(rich, tmp_path / "o.mkv", 30, 60)
    chapters = ffprobe(tmp_path / "o.mkv", "-show_chapters")["chapters"]
    times = [(float(c["start_time"]), float(c["end_time"])) for c in chapters]
    begin = float(packets(rich, "video")[0][0]) + 30 * 1001 / 30000
    assert times[0] == pytest.approx((0, 1.5 - begin), abs=0.002)
    assert times[1] == pytest.approx((1.5 - begin, 60 * 1001 / 30000), abs=0.002)


@pytest.mark.shared
@pytest.mark.parametrize("name", PUBLIC_WITH_SOUND + PUBLIC_ODD)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_real_clips_keep_their_streams(tmp_path: Path, shared_dir: Path, ffprobe, name: str, suffix: str) -> None:
    source = shared_dir / "data" / "public" / "lq" / name
    target = tmp_path / f"o{suffix}"
    with VideoReader(source) as reader:
        size = (reader.info.height, reader.info.width)
        with VideoWriter(target, source=reader.info, size=size, options=EncodeOptions(preset="ultrafast")) as writer:
            for frame in reader:
                writer.write(frame.pixels, pts=frame.pts, duration=frame.duration)
    before, after = (ffprobe(path, "-show_streams", "-count_packets")["streams"] for path in (source, target))
    assert [s["codec_type"] for s in before] == [s["codec_type"] for s in after]
    for a, b in zip(before, after, strict=True):
        if a["codec_name"] != "mov_text":
            assert a["codec_name"] == b["codec_name"]
            assert a["nb_read_packets"] == b["nb_read_packets"]
        if a["codec_type"] == "video":
            assert float(Fraction(a["avg_frame_rate"])) == pytest.approx(float(Fraction(b["avg_frame_rate"])), rel=1e-5)
        assert a.get("width") == b.get("width")
        assert a.get("sample_aspect_ratio", "1:1") == b.get("sample_aspect_ratio", "1:1")
        assert a["disposition"] == b["disposition"]
        if suffix == ".mp4":
            assert a["start_time"] == b["start_time"]
            # One clip's edit list trims 12 ms of encoder padding off the end of its sound; the copy keeps them.
            assert float(a["duration"]) == pytest.approx(float(b["duration"]), abs=0.013)


def test_nothing_is_left_open(tmp_path: Path, rich: Path) -> None:
    descriptors = Path("/proc/self/fd")
    if not descriptors.is_dir():
        pytest.skip("needs /proc")
    before = len(list(descriptors.iterdir()))
    for number in range(5):
        copy_clip(rich, tmp_path / f"{number}.mkv")
    assert len(list(descriptors.iterdir())) <= before + 1


def test_styled_and_web_subtitles_become_timed_text(tmp_path: Path, ffmpeg) -> None:
    (tmp_path / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,700\n<b>Two</b>\nlines\n")
    clip = write_clip(tmp_path / "c.mp4")
    for codec, name in (("ass", "a.mkv"), ("webvtt", "w.mkv")):
        source = tmp_path / name
        ffmpeg("-i", clip, "-i", tmp_path / "s.srt", "-map", "0", "-map", "1", "-c:v", "copy", "-c:s", codec, source)
        writer = copy_clip(source, tmp_path / f"{codec}.mp4")
        assert any("converted to mov_text" in note for note in writer.notes)
        ffmpeg("-i", tmp_path / f"{codec}.mp4", "-map", "0:s:0", tmp_path / f"{codec}.srt")
        assert "00:00:00,100 --> 00:00:00,700\nTwo\nlines" in (tmp_path / f"{codec}.srt").read_text()


def test_sound_whose_packets_have_no_length_keeps_its_last_packet(tmp_path: Path, ffmpeg, ffprobe) -> None:
    source, out = tmp_path / "in.mkv", tmp_path / "out.mp4"
    clip = ["-f", "lavfi", "-i", "testsrc2=s=32x32:r=10:d=1", "-f", "lavfi", "-i", "sine=d=1:r=48000"]
    ffmpeg(*clip, "-c:a", "alac", source)
    copy_clip(source, out)
    before, after = (ffprobe(path, "-show_packets", "-select_streams", "a")["packets"] for path in (source, out))
    assert [packet["size"] for packet in after] == [packet["size"] for packet in before]
    assert float(after[-1]["pts_time"]) == pytest.approx(float(before[-1]["pts_time"]), abs=1e-3)


def test_an_empty_sound_track_is_told(tmp_path: Path, ffmpeg) -> None:
    full = write_clip(tmp_path / "f.mp4", num_frames=5)
    source = tmp_path / "s.mkv"
    ffmpeg(
        "-i",
        full,
        "-f",
        "lavfi",
        "-i",
        "anullsrc=d=0.1",
        "-map",
        "0:v",
        "-map",
        "1:a",
        "-c:v",
        "copy",
        "-frames:a",
        "0",
        source,
    )
    notes = copy_clip(source, tmp_path / "o.mp4").notes
    assert [note for note in notes if "is empty: nothing of it is in the output" in note], notes
