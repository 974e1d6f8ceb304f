"""iframe_indices against the picture types that ffprobe decodes."""

from __future__ import annotations

from pathlib import Path

import av
import pytest
from video_clips import write_clip

from sparkvsr.video import iframe_indices

H264 = {"bf": "3", "g": "10"}
CASES = {
    "closed GOP": ("a.mp4", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=0"}),
    "open GOP in MP4": ("a.mp4", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=1"}),
    "open GOP in Matroska": ("a.mkv", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=1"}),
    "open GOP in TS": ("a.ts", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=1"}),
    "HEVC with CRA": (
        "a.mp4",
        "libx265",
        {"x265-params": "log-level=none:open-gop=1:keyint=10:min-keyint=10:bframes=3"},
    ),
    "HEVC in TS": ("a.ts", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=10:bframes=3"}),
    "MPEG-2": ("a.ts", "mpeg2video", {"g": "9", "bf": "2"}),
    "MPEG-4 in AVI": ("a.avi", "mpeg4", {"g": "9", "bf": "2"}),
    "H.264 in AVI": ("a.avi", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=0"}),
    "open GOP in AVI": ("a.avi", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=1"}),
    "raw H.264": ("a.h264", "libx264", {**H264, "x264-params": "scenecut=0:open-gop=1"}),
    "raw HEVC": ("a.hevc", "libx265", {"x265-params": "log-level=none:open-gop=1:keyint=10:bframes=3"}),
    "raw MPEG-2": ("a.m2v", "mpeg2video", {"g": "9", "bf": "2"}),
    "VP9": ("a.webm", "libvpx-vp9", {"g": "9", "deadline": "realtime", "cpu-used": "8"}),
    "all intra: MJPEG": ("a.avi", "mjpeg", {}),
    "all intra: FFV1": ("a.mkv", "ffv1", {"g": "1"}),
    "all intra: ProRes": ("a.mov", "prores_ks", {}),
}
FORMATS = {"mjpeg": "yuvj420p", "prores_ks": "yuv422p10le"}


@pytest.mark.parametrize("case", CASES)
def test_indices_are_the_i_pictures_of_ffprobe(tmp_path: Path, ffprobe, case: str) -> None:
    name, codec, options = CASES[case]
    path = write_clip(
        tmp_path / name, codec=codec, options=options, num_frames=40, pixel_format=FORMATS.get(codec, "yuv420p")
    )
    frames = ffprobe(path, "-select_streams", "v:0", "-show_entries", "frame=pict_type")["frames"]
    expected = [index for index, frame in enumerate(frames) if frame["pict_type"] == "I"]
    assert iframe_indices(path) == expected
    assert len(expected) >= 2
    if case.startswith("all intra"):
        assert expected == list(range(40))


def test_plain_i_pictures_between_start_points_are_found(tmp_path: Path, ffmpeg, ffprobe) -> None:
    # Scene changes closer together than the least distance of start points: x264 writes I-frames without the flag.
    scenes = (
        "testsrc2=s=64x48:r=25:d=0.2[a];color=red:s=64x48:r=25:d=0.28[b];"
        "mandelbrot=s=64x48:r=25,trim=duration=0.2,setpts=PTS-STARTPTS[c];testsrc=s=64x48:r=25:d=0.5[d];[a][b][c][d]concat=n=4"
    )
    path = tmp_path / "s.mp4"
    ffmpeg("-f", "lavfi", "-i", scenes, "-c:v", "libx264", "-g", "50", "-keyint_min", "25", "-bf", "2", path)
    frames = ffprobe(path, "-select_streams", "v:0", "-show_entries", "frame=pict_type,key_frame")["frames"]
    expected = [index for index, frame in enumerate(frames) if frame["pict_type"] == "I"]
    flagged = [index for index, frame in enumerate(frames) if frame["key_frame"]]
    assert len(expected) > len(flagged)
    assert iframe_indices(path) == expected


def test_nothing_is_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", options={**H264, "x264-params": "scenecut=0"}, num_frames=30, size=(256, 192))
    expected = iframe_indices(path)
    data = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        spans = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size > 800]
    for position, size in spans:
        data[position + 780 : position + size] = bytes(size - 780)
    path.write_bytes(bytes(data))
    assert len(spans) > 10
    assert iframe_indices(path) == expected
    assert len(expected) == 3


def test_images_have_none(tmp_path: Path) -> None:
    import torch

    from sparkvsr.video.images import encode_image

    for index in range(3):
        (tmp_path / f"{index}.png").write_bytes(encode_image(torch.zeros(3, 8, 8), ".png", bits=8))
    assert iframe_indices(tmp_path) == []
    assert iframe_indices(tmp_path / "1.png") == [0]
