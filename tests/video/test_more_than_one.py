"""More in a file than is usual: further pictures in an image, channels without names, layouts that a codec lacks."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter

TAKE = "holds more than one picture; only the first is read"


@pytest.mark.parametrize(("name", "kind"), [("pages.tif", "TIFF"), ("phone.jpg", "MPO")])
def test_further_pictures_are_told(tmp_path: Path, name: str, kind: str) -> None:
    pictures = [Image.fromarray(np.full((24, 32, 3), 60 * k, np.uint8)) for k in range(3)]
    pictures[0].save(tmp_path / name, kind, save_all=True, append_images=pictures[1:])
    pictures[1].save(tmp_path / f"one_{name}")
    with VideoReader(tmp_path / name) as reader, VideoReader(tmp_path / f"one_{name}") as single:
        assert [len(list(reader)), len(list(single))] == [1, 1]
        assert reader.warnings == [f"{name} {TAKE}"]
        assert single.warnings == []


def clip_with_sound(path: Path, layout: str, channels: int) -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        audio = out.add_stream("pcm_s16le", rate=48000)
        audio.codec_context.layout = layout
        for k in range(6):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * k, np.uint8))))
        out.mux(video.encode())
        tone = (np.sin(np.arange(11520)[:, None] / 20 * (1 + np.arange(channels))) * 8000).astype(np.int16)
        sound = av.AudioFrame.from_ndarray(tone.reshape(1, -1), format="s16", layout=layout)
        sound.sample_rate = 48000
        out.mux(audio.encode(sound))
        out.mux(audio.encode())
    return path


@pytest.mark.parametrize(
    ("layout", "channels", "output", "codec", "kept"),
    [
        ("2.1", 3, "o.mp4", "h264", ("aac", "2.1")),
        ("5.1", 6, "o.mp4", "h264", ("aac", "5.1")),
        ("4.0", 4, "o.webm", "av1", ("opus", "5.1")),
    ],
)
def test_sound_of_several_channels_is_heard(
    tmp_path: Path, layout: str, channels: int, output: str, codec: str, kept: tuple[str, str]
) -> None:
    source = clip_with_sound(tmp_path / "in.mkv", layout, channels)
    target = tmp_path / output
    with (
        VideoReader(source) as reader,
        VideoWriter(target, source=reader.info, size=(32, 32), options=EncodeOptions(codec=codec)) as writer,
    ):
        for frame in reader:
            writer.write(frame.pixels, frame.pts, frame.duration)
    assert any("is transcoded to" in note for note in writer.notes)
    with av.open(str(target)) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.name, sound.layout.name) == kept
        frames = [frame.to_ndarray() for frame in container.decode(audio=0)]
    assert sum(frame.shape[-1] for frame in frames) >= 11520
    assert max(float(np.abs(frame).max()) for frame in frames) > 0.1


def test_the_flagged_stream_of_a_short_file_that_begins_with_sound(tmp_path: Path) -> None:
    """So short that looking for stills reaches the end, where empty packets belong to no stream that was asked for."""
    with av.open(str(tmp_path / "in.mkv"), "w") as out:
        audio = out.add_stream("pcm_s16le", rate=48000)
        audio.codec_context.layout = "mono"
        videos = [out.add_stream("ffv1", rate=25) for _ in range(2)]
        for side, video in zip((32, 48), videos, strict=True):
            video.width, video.height, video.pix_fmt = side, side, "yuv420p"
        videos[0].disposition = av.stream.Disposition(0)
        videos[1].disposition = av.stream.Disposition.default
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 4800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 48000
        for side, video in zip((32, 48), videos, strict=True):
            for k in range(3):
                picture = np.full((side, side, 3), 50 * k, np.uint8)
                out.mux(video.encode(av.VideoFrame.from_ndarray(picture)))
            out.mux(video.encode())
        out.mux(audio.encode(sound))
    with VideoReader(tmp_path / "in.mkv") as reader:
        assert (reader.info.stream_index, reader.info.width, len(list(reader))) == (2, 48, 3)
