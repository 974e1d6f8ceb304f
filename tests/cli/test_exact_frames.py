"""Every frame once and in order, with its sound, around the length of a segment; told by other code than joins them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import av
import numpy as np
import pytest
from upscale_clips import picture, run

from sparkvsr.inference.clip.segments import SEGMENT_FRAMES

BITS, BLOCK = 8, 8


def numbered(index: int) -> np.ndarray:
    """A smooth picture with its number as a row of blocks, in Gray code: one changes at a time, which is no cut."""
    image = picture(0, 48, BITS * BLOCK)
    for bit in range(BITS):
        image[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 200 if (index ^ index >> 1) >> bit & 1 else 50
    return image


def number_of(luma: np.ndarray) -> int:
    """The number in a picture of any size."""
    unit = luma.shape[1] // BITS
    number = sum(1 << bit for bit in range(BITS) if luma[unit // 2, bit * unit + unit // 2] > 128)
    for shift in (1, 2, 4):
        number ^= number >> shift
    return number


def write_numbered(path: Path, frames: int) -> Path:
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"g": "12", "bf": "2", "crf": "10", "sc_threshold": "0"})
        video.width, video.height, video.pix_fmt = BITS * BLOCK, 48, "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono")
        for index in range(frames):
            out.mux(video.encode(av.VideoFrame.from_ndarray(numbered(index))))
        tone = (np.sin(np.arange(16000 * frames // 25) / 20) * 8000).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def facts(path: Path) -> tuple[list[int], list[float], list[str]]:
    """Numbers and times in seconds of the frames, and hashes of the packets of sound, by PyAV alone."""
    with av.open(str(path)) as container:
        frames = [
            (number_of(frame.to_ndarray(format="gray")), float(frame.time)) for frame in container.decode(video=0)
        ]
    with av.open(str(path)) as container:
        sound = [hashlib.sha256(bytes(packet)).hexdigest() for packet in container.demux(audio=0) if packet.size]
    return [number for number, _ in frames], [time for _, time in frames], sound


@pytest.mark.parametrize("frames", [1, SEGMENT_FRAMES - 1, SEGMENT_FRAMES, SEGMENT_FRAMES + 1, 2 * SEGMENT_FRAMES])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
def test_every_frame_is_there_once_and_in_order(tmp_path: Path, frames: int, suffix: str) -> None:
    clip = write_numbered(tmp_path / "in.mp4", frames)
    numbers, times, sound = facts(clip)
    assert numbers == list(range(frames))
    out = tmp_path / f"out{suffix}"
    work = tmp_path / "work"
    options = ("--model", "bicubic", "--scale", "2", "--no-keyframes", "--work", work)
    assert run(clip, "-o", out, *options).exit_code == 0
    made = facts(out)
    assert made[0] == numbers
    assert made[1] == pytest.approx(times, abs=1e-3)
    assert made[2] == sound
    # Joined again from the stored segments, and from one that had to be made again.
    stored = sorted((work / "segments").glob("*.mkv"))
    assert len(stored) == -(-frames // SEGMENT_FRAMES)
    stored[-1].unlink()
    assert run(clip, "-o", out, "--overwrite", *options).exit_code == 0
    assert facts(out)[0] == numbers
    assert facts(out)[2] == sound


@pytest.mark.parametrize("frames", [1, SEGMENT_FRAMES, SEGMENT_FRAMES + 1])
def test_every_image_of_a_sequence_is_there_once_and_in_order(tmp_path: Path, frames: int) -> None:
    clip = write_numbered(tmp_path / "in.mp4", frames)
    out = tmp_path / "out"
    out.mkdir()
    options = ("--model", "bicubic", "--scale", "2", "--no-keyframes")
    assert run(clip, "-o", out / "%05d.png", *options).exit_code == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{index:05d}.png" for index in range(frames)]
    assert [facts_of_image(out / name) for name in names] == list(range(frames))


def facts_of_image(path: Path) -> int:
    with av.open(str(path)) as container:
        return number_of(next(container.decode(video=0)).to_ndarray(format="gray"))
