"""Memory does not grow with the length of a clip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from video_clips import write_clip

GROWTH_MIB = 12
"""Allowed between 100 and 1,000 frames: allocator noise. One 320x180 float frame is 0.66 MiB, 900 of them 590 MiB."""

PROGRAM = """
import resource, sys, torch
from sparkvsr.video import VideoReader, VideoWriter
torch.set_num_threads(1)
with VideoReader(sys.argv[1]) as reader:
    size = (reader.info.height, reader.info.width)
    with VideoWriter(sys.argv[2], source=reader.info, size=size) as writer:
        for frame in reader:
            writer.write(frame.pixels, pts=frame.pts, duration=frame.duration)
print(writer.num_frames, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def peak_mib(source: Path, target: Path, num_frames: int) -> float:
    command = [sys.executable, "-c", PROGRAM, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=200)
    count, peak = done.stdout.split()
    assert int(count) == num_frames
    return float(peak)


def test_reader_and_writer_need_the_same_memory_for_1000_frames_as_for_100(tmp_path: Path) -> None:
    # With sound, as the stream copier must not collect packets either. 160x96 keeps the test quick.
    peaks = {}
    for num_frames in (100, 1000):
        source = write_clip(
            tmp_path / f"{num_frames}.mp4",
            num_frames=num_frames,
            size=(160, 96),
            audio_seconds=num_frames / 25,
            options={"preset": "ultrafast"},
        )
        peaks[num_frames] = peak_mib(source, tmp_path / f"o{num_frames}.mp4", num_frames)
    assert peaks[1000] - peaks[100] < GROWTH_MIB, peaks
