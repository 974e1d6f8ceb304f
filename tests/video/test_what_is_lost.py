"""Whatever of a source is not in the output is in the notes: everything a file can hold, into every container.

The inventory of source and output is ffprobe's; the notes are ours.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from test_video_writer import copy_clip

from sparkvsr.video import EncodeOptions, VideoReader, losses
from sparkvsr.video.carry import COLUMNS, KEPT

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUTS = {
    "o.mp4": "h264",
    "o.m4v": "hevc",
    "o.mov": "h264",
    "prores.mov": "prores",
    "o.mkv": "h264",
    "ffv1.mkv": "ffv1",
    "o.webm": "av1",
    "o.ts": "h264",
    "images/": "h264",
    "%03d.jpg": "h264",
}
WORDS = {
    "sound": "audio stream|sound track",
    "text subtitles": "subtitle",
    "bitmap subtitles": "subtitle",
    "chapters": "chapter",
    "attachments": "attachment",
    "cover": "cover picture",
    "data": "data stream",
    "timecode": "timecode",
    "alpha": "transparency",
    "captions": "closed captions",
    "hdr": "HDR",
}
BITMAPS = ("hdmv_pgs_subtitle", "dvd_subtitle", "dvb_subtitle")


def inventory(path: Path, ffprobe) -> dict[str, int]:
    """What a file holds beside its colours, counted."""
    if path.is_dir() or path.suffix == ".jpg":
        first = next(iter(sorted(path.iterdir()))) if path.is_dir() else path.with_name("000.jpg")
        stream = ffprobe(first, "-show_streams")["streams"][0]
        return {"alpha": int(stream["pix_fmt"].startswith(("rgba", "ya")))}
    asked = ("-show_streams", "-show_chapters", "-show_format", "-show_frames", "-read_intervals", "%+#30")
    shown = ffprobe(path, *asked)
    streams: list[dict[str, Any]] = shown["streams"]
    tags = [shown["format"].get("tags", {}), *(stream.get("tags", {}) for stream in streams)]
    side = [entry["side_data_type"] for frame in shown["frames"] for entry in frame.get("side_data_list", [])]
    # Matroska's cover is an attachment with a picture's type, shown as a video stream.
    kinds = [
        "cover" if s["disposition"]["attached_pic"] or s.get("tags", {}).get("mimetype", "").startswith("image/")
        else s["codec_type"]
        for s in streams
    ]  # fmt: skip
    timecodes = [s for s in streams if s["codec_type"] == "data" and "timecode" in s.get("tags", {})]
    chapter_tracks = [s for s in streams if s.get("codec_name") == "bin_data" and shown["chapters"]]
    subtitles = [s for s in streams if s["codec_type"] == "subtitle"]
    bitmaps = [s for s in subtitles if s["codec_name"] in BITMAPS]
    # ffprobe 5.1 takes the chapter track of MP4 for subtitles without a language of their own.
    named = [s for s in subtitles if s.get("tags", {}).get("language", "und") != "und"]
    texts = [s for s in named if s not in bitmaps]
    return {
        "sound": kinds.count("audio"),
        "text subtitles": len(texts),
        "bitmap subtitles": len(bitmaps),
        "chapters": len(shown["chapters"]),
        "attachments": kinds.count("attachment"),
        "cover": kinds.count("cover"),
        "data": kinds.count("data") - len(timecodes) - len(chapter_tracks),
        "timecode": int(any(key.lower() == "timecode" for entry in tags for key in entry)),
        "alpha": int(any(s.get("pix_fmt", "").startswith(("yuva", "rgba", "bgra", "gbra")) for s in streams)),
        "captions": int(any("Closed Captions" in entry for entry in side)),
        "hdr": int(any("Mastering display" in entry for entry in side)),
    }


def with_captions(ffmpeg, folder: Path) -> Path:
    """H.264 with CEA-608 captions (ATSC A/53 part 4: an SEI message of registered user data) before every picture."""
    # Turned upright it is 64 wide: libx265 4.1 corrupts memory below that.
    source = "testsrc2=s=96x64:r=25:d=1"
    ffmpeg("-f", "lavfi", "-i", source, "-c:v", "libx264", "-bf", "0", "-x264-params", "aud=1", folder / "a.h264")
    pairs = bytes([0xFC, 0x94, 0x2C, 0xFC, 0x48, 0x49])
    message = bytes([0xB5, 0, 0x31]) + b"GA94" + bytes([3, 0x42, 0xFF]) + pairs + b"\xff"
    sei = b"\0\0\0\1" + bytes([6, 4, len(message)]) + message + b"\x80"
    units = re.split(b"\0\0\0\1|\0\0\1", (folder / "a.h264").read_bytes())[1:]
    parts = [(sei if unit[0] & 31 in (1, 5) else b"") + b"\0\0\0\1" + unit for unit in units]
    (folder / "c.h264").write_bytes(b"".join(parts))
    ffmpeg("-r", "25", "-i", folder / "c.h264", "-c", "copy", folder / "c.mp4")
    return folder / "c.mp4"


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory, ffmpeg) -> dict[str, Path]:
    """Files that hold everything between them: no container takes all of it at once."""
    folder = tmp_path_factory.mktemp("everything")
    (folder / "s.srt").write_text("1\n00:00:00,100 --> 00:00:00,900\nHello\n")
    (folder / "ch.txt").write_text(
        ";FFMETADATA1\n[CHAPTER]\nTIMEBASE=1/1000\nSTART=0\nEND=400\ntitle=A\n"
        "[CHAPTER]\nTIMEBASE=1/1000\nSTART=400\nEND=1000\ntitle=B\n"
    )
    (folder / "font.ttf").write_bytes(bytes(range(256)))
    display = b"PG" + (9000).to_bytes(4, "big") + bytes(4)
    screen = bytes.fromhex("0040003010000080000000")
    (folder / "s.sup").write_bytes(display + bytes([0x16, 0, len(screen)]) + screen + display + bytes([0x80, 0, 0]))
    ffmpeg("-f", "lavfi", "-i", "color=blue:s=32x32", "-frames:v", "1", folder / "cover.png")
    tones = [word for rate in (440, 880) for word in ("-f", "lavfi", "-i", f"sine={rate}:d=1")]
    texts = ["-i", folder / "s.srt", "-f", "sup", "-i", folder / "s.sup", "-f", "ffmetadata", "-i", folder / "ch.txt"]
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *tones, *texts),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4", "-map_metadata", "5"),
        *("-c:v", "ffv1", "-pix_fmt", "yuva420p", "-c:a:0", "aac", "-c:a:1", "adpcm_ms", "-c:s:0", "srt"),
        *("-c:s:1", "copy", "-metadata:s:s:0", "language=eng", "-timecode", "01:00:00:00"),
        *("-attach", folder / "font.ttf", "-metadata:s:t:0", "mimetype=application/x-truetype-font"),
        *("-attach", folder / "cover.png", "-metadata:s:t:1", "mimetype=image/png"),
        folder / "all.mkv",
    )
    ffmpeg(
        *("-i", with_captions(ffmpeg, folder), *tones, "-i", folder / "s.srt", "-i", folder / "cover.png"),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-map", "4", "-c:v:0", "copy"),
        *("-metadata:s:v:0", "rotate=90", "-c:a:0", "aac", "-c:a:1", "ac3", "-c:s", "mov_text"),
        *("-metadata:s:s:0", "language=eng", "-c:v:1", "png", "-disposition:v:1", "attached_pic"),
        *("-timecode", "00:59:59:20", folder / "all.mp4"),
    )
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", *tones, "-f", "data", "-i", folder / "s.srt"),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", "-c:v", "libx264", "-c:a:0", "mp2", "-c:a:1", "ac3"),
        *("-c:d", "copy", folder / "all.ts"),
    )
    hdr = "log-level=none:hdr10=1:max-cll=1000,400:master-display=" \
        "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"  # fmt: skip
    ffmpeg(
        *("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=0.4", "-pix_fmt", "yuv420p10le", "-c:v", "libx265"),
        *("-x265-params", hdr, "-color_primaries", "bt2020", "-color_trc", "smpte2084", "-colorspace", "bt2020nc"),
        folder / "hdr.mkv",
    )
    return {name: folder / name for name in ("all.mkv", "all.mp4", "all.ts", "hdr.mkv")}


@pytest.mark.parametrize("name", ["all.mkv", "all.mp4", "all.ts", "hdr.mkv"])
@pytest.mark.parametrize("output", OUTPUTS)
def test_whatever_is_missing_is_in_the_notes(
    tmp_path: Path, sources: dict[str, Path], ffprobe, name: str, output: str
) -> None:
    source, target = sources[name], tmp_path / output
    options = EncodeOptions(codec=OUTPUTS[output])
    before = inventory(source, ffprobe)
    writer = copy_clip(source, f"{target}/" if output.endswith("/") else target, options=options)
    after = inventory(target, ffprobe)
    for kind, count in before.items():
        if after.get(kind, 0) < count and not (kind == "hdr" and _is_h264_hdr(options, target)):
            lines = [note for note in writer.notes if re.search(WORDS[kind], note)]
            assert any("drop" in line or "without" in line for line in lines), (kind, before, after, writer.notes)
    # The plan says the same before anything is written.
    info = VideoReader(source).info
    assert losses(info, Path(target), options, (info.height, info.width)) == writer.notes


def _is_h264_hdr(options: EncodeOptions, target: Path) -> bool:
    """Debian's ffprobe 5.1 does not read HDR10 metadata from H.264; test_depth_and_hdr.py reads it with FFmpeg 8."""
    return options.codec == "h264" and target.suffix != ".jpg" and bool(target.suffix)


def test_sources_hold_what_they_should(sources: dict[str, Path], ffprobe) -> None:
    held = [inventory(path, ffprobe) for path in sources.values()]
    assert {kind for found in held for kind, count in found.items() if count} == set(WORDS)


@pytest.mark.parametrize(
    ("output", "codec", "sound"),
    [("o.mp4", "h264", "aac"), ("o.mov", "h264", "aac"), ("o.mkv", "h264", "flac"), ("o.webm", "av1", "opus"),
     ("o.ts", "h264", "aac")],
)  # fmt: skip
def test_sound_that_is_not_held_is_transcoded_in_step(
    tmp_path: Path, ffmpeg, ffprobe, output: str, codec: str, sound: str
) -> None:
    # A tone between 0.4 and 0.6 s, in a codec that no output takes.
    source = tmp_path / "s.wmv"
    beep = "sine=1000:d=1:r=44100,volume='between(t,0.4,0.6)':eval=frame"
    ffmpeg("-f", "lavfi", "-i", "testsrc2=s=64x48:r=25:d=1", "-f", "lavfi", "-i", beep, "-c:v", "wmv2",
           "-c:a", "wmav2", source)  # fmt: skip
    writer = copy_clip(source, tmp_path / output, options=EncodeOptions(codec=codec))
    assert any(f"transcoded to {sound}" in note.lower() for note in writer.notes)
    stream = next(s for s in ffprobe(tmp_path / output, "-show_streams")["streams"] if s["codec_type"] == "audio")
    assert stream["codec_name"] == sound
    heard = [_loud_span(path, ffprobe, ffmpeg, tmp_path) for path in (source, tmp_path / output)]
    assert heard[0][1] - heard[0][0] == pytest.approx(0.2, abs=0.03)
    assert heard[1] == pytest.approx(heard[0], abs=0.01)


def _loud_span(path: Path, ffprobe, ffmpeg, folder: Path) -> tuple[float, float]:
    """When the tone begins and ends after the first picture, decoded by ffmpeg."""
    import numpy as np

    starts = {s["codec_type"]: float(s["start_time"]) for s in ffprobe(path, "-show_streams")["streams"]}
    wave = folder / "heard.raw"
    ffmpeg(
        "-copyts",
        "-i",
        path,
        "-map",
        "0:a",
        "-af",
        "aresample=8000:async=1:first_pts=0",
        "-ac",
        "1",
        "-f",
        "s16le",
        wave,
    )
    loud = np.flatnonzero(np.abs(np.fromfile(wave, np.int16)) > 500) / 8000
    return loud[0] - starts["video"], loud[-1] - starts["video"]


def test_the_table_of_the_manual_is_the_list() -> None:
    text = (REPOSITORY / "docs" / "fidelity.md").read_text()
    lines = [f"| of the source | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {kind} | {' | '.join(cells)} |" for kind, cells in KEPT.items()]
    assert "\n".join(lines) in text
