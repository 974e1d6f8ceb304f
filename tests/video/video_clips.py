"""Makers of small clips with a known structure, encoded with PyAV so that they need no other program.

The picture is a moving gradient with the frame's number as bars in its upper rows (`frame_number` reads it back), so
that a wrong order or an off-by-one shows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from torch import Tensor

NUM_BITS = 8


def picture(index: int, width: int = 64, height: int = 48) -> np.ndarray:
    """Return uint8 RGB ``(height, width, 3)``: bars that spell `index` over a moving gradient."""
    x = np.arange(width)[None, :]
    y = np.arange(height)[:, None]
    red = 128 + 60 * np.sin((x + 2 * index) / 9) + 0 * y
    green = 128 + 60 * np.cos((y + index) / 7) + 0 * x
    blue = 128 + 50 * np.sin((x + y) / 11)
    image = np.stack([red, green, blue], axis=-1)
    bar = width // NUM_BITS
    for bit in range(NUM_BITS):
        image[: height // 4, bit * bar : (bit + 1) * bar] = 235 if index >> bit & 1 else 20
    return image.clip(0, 255).astype(np.uint8)


def frame_number(pixels: Tensor) -> int:
    """Read the number back from ``(3, h, w)`` pixels of any size."""
    _, height, width = pixels.shape
    bar = width // NUM_BITS
    row = pixels[1, height // 8]
    return sum(int(row[bit * bar + bar // 2] > 0.5) << bit for bit in range(NUM_BITS))


def write_clip(
    path: Path,
    *,
    num_frames: int = 24,
    size: tuple[int, int] = (64, 48),
    fps: Fraction = Fraction(25),
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    options: dict[str, str] | None = None,
    pts: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    rotation: tuple[float, bool, bool] | None = None,
    audio_seconds: float = 0.0,
    container_options: dict[str, str] | None = None,
    **context: object,
) -> Path:
    """Encode a clip. `pts` (in `time_base`) gives a variable rate; `context` sets attributes of the encoder."""
    with av.open(str(path), "w", container_options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.codec_context.options = {"preset": "veryfast", "crf": "10", **(options or {})}
        else:
            stream.codec_context.options = options or {}
        stream.codec_context.time_base = time_base or 1 / fps
        for name, value in context.items():
            setattr(stream.codec_context, name, value)
        if rotation is not None:
            stream.set_display_rotation(*rotation)
        audio = container.add_stream("aac", rate=44100) if audio_seconds else None
        for index in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(index, *size), format="rgb24")
            frame = frame.reformat(format=pixel_format)
            frame.pts = pts[index] if pts is not None else index
            frame.time_base = time_base or 1 / fps
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if audio is not None:
            write_tone(container, audio, audio_seconds)
    return path


def write_tone(container: av.container.OutputContainer, stream: av.audio.stream.AudioStream, seconds: float) -> None:
    """Encode a sine tone."""
    rate = stream.codec_context.sample_rate
    for start in range(0, math.ceil(seconds * rate), 1024):
        t = np.arange(start, start + 1024) / rate
        samples = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None].repeat(2, 0)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def write_rich_clip(path: Path, *, seconds: int = 4, fps: Fraction = Fraction(30000, 1001)) -> Path:
    """A Matroska file with two sound tracks, three subtitle tracks, chapters, a font, tags and dispositions."""
    with av.open(str(path), "w") as container:
        picture_stream = container.add_stream("libx264", rate=fps)
        picture_stream.width, picture_stream.height = 64, 48
        picture_stream.codec_context.options = {"preset": "veryfast", "g": "20"}
        picture_stream.metadata["title"] = "Picture"
        sounds = [container.add_stream("aac", rate=44100), container.add_stream("libopus", rate=48000)]
        for stream, language in zip(sounds, ("eng", "fra"), strict=True):
            stream.metadata["language"] = language
        sounds[0].metadata["title"] = "Main"
        sounds[0].disposition = 0
        sounds[1].disposition = av.stream.Disposition.default
        texts = [container.add_mux_stream("subrip"), container.add_mux_stream("subrip")]
        for stream, language in zip(texts, ("eng", "deu"), strict=True):
            stream.metadata["language"] = language
        texts[0].disposition = av.stream.Disposition.forced
        container.add_attachment("font.ttf", "application/x-truetype-font", bytes(range(256)) * 8)
        container.metadata.update({"title": "My Film", "artist": "Someone", "CUSTOM": "own value"})
        container.set_chapters(
            [
                {"id": 1, "start": 0, "end": 1500, "time_base": Fraction(1, 1000), "metadata": {"title": "Opening"}},
                {"id": 2, "start": 1500, "end": 4000, "time_base": Fraction(1, 1000), "metadata": {"title": "End"}},
            ]
        )
        for index in range(int(seconds * fps)):
            frame = av.VideoFrame.from_ndarray(picture(index % 256), format="rgb24")
            frame.pts, frame.time_base = index, 1 / fps
            container.mux(picture_stream.encode(frame))
        container.mux(picture_stream.encode(None))
        for stream in sounds:
            _write_sound(container, stream, seconds)
        for stream, words in zip(texts, (("Hello <i>there</i>", "Second"), ("Hallo", "Zweite")), strict=True):
            for number, text in enumerate(words):
                packet = av.Packet(text.encode())
                packet.time_base = Fraction(1, 1000)
                packet.pts = packet.dts = 500 + 1500 * number
                packet.duration, packet.is_keyframe, packet.stream = 700, True, stream
                container.mux(packet)
    return path


def _write_sound(container: av.container.OutputContainer, stream: av.audio.stream.AudioStream, seconds: int) -> None:
    rate = stream.codec_context.sample_rate
    resampler = av.AudioResampler(stream.codec_context.format, stream.codec_context.layout, rate)
    for start in range(0, seconds * rate, 960):
        t = np.arange(start, start + 960) / rate
        samples = (0.3 * np.sin(2 * np.pi * 440 * t)).astype(np.float32)[None].repeat(2, 0)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
        for part in resampler.resample(frame):
            container.mux(stream.encode(part))
    container.mux(stream.encode(None))
