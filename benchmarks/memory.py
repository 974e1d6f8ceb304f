"""Peak memory of `sparkvsr upscale` against the length of the clip: it must not grow.

    python benchmarks/memory.py [--frames 100 1000] [--size 320x180] [--model lite]

Makes clips with a cut every 100 frames, runs the whole command in a process of its own, prints the peak resident set.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from sparkvsr.keyframes.references import resize_image
from sparkvsr.video import EncodeOptions, VideoWriter


def make_clip(path: Path, frames: int, width: int, height: int) -> Path:
    """A drifting texture, another one after each cut."""
    generator = torch.Generator().manual_seed(0)
    with VideoWriter(path, source=None, size=(height, width), options=EncodeOptions(crf=20), overwrite=True) as writer:
        for index in range(frames):
            if index % 100 == 0:
                small = torch.rand(3, height // 8, width // 8, generator=generator)
                texture = resize_image(small, (height, width * 2))
            left = index % 100
            writer.write(texture[:, :, left : left + width])
    return path


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--model", default="lite")
    arguments = parser.parse_args()
    width, height = map(int, arguments.size.split("x"))
    tool = str(Path(sys.executable).with_name("sparkvsr"))
    peaks = []
    for frames in arguments.frames:
        with tempfile.TemporaryDirectory() as scratch:
            clip = make_clip(Path(scratch) / "in.mp4", frames, width, height)
            command = [tool, "upscale", str(clip), "--iframes", "--model", arguments.model]
            started = time.monotonic()
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(f"{' '.join(command)} failed")
            peaks.append(usage.ru_maxrss / 1024)
            seconds = time.monotonic() - started
            print(f"{frames:6} frames of {width}x{height}: peak {peaks[-1]:.0f} MiB, {seconds:.0f} s", flush=True)
    print(f"longest against shortest: {peaks[-1] / peaks[0]:.3f}")


if __name__ == "__main__":
    main()
