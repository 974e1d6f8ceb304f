"""Peak memory of `sparkvsr upscale` against the length of the clip: it must not grow.

    python benchmarks/memory.py [--frames 100 1000] [--size 320x180] [--model lite]
    python benchmarks/memory.py --pipe --frames 2000 --model bicubic --scale 1
    python benchmarks/memory.py --plan 480x270 960x540 1920x1080

Makes clips with a cut every 100 frames, runs the whole command in a process of its own, prints the peak resident set.
With --pipe, the frames go as y4m through stdin and stdout, and the resident set is watched from quarter to quarter.
With --plan, only what the model plans for clips of these sizes, without and with little memory; nothing is restored.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO

import cv2
import numpy as np
import psutil
from clips import drifting_textures

from sparkvsr.errors import ResourceError
from sparkvsr.models.registry import load_model


def print_plans(name: str, sizes: list[str]) -> None:
    """The model's own plan, always by 4, for LR sizes."""
    model = load_model(name, device="cpu")
    for text in sizes:
        width, height = map(int, text.split("x"))
        for memory in (64e9, 8e9, 4e9, 2e9):
            size = (4 * height, 4 * width)
            try:
                plan = model.plan((height, width), size, 1000, guided_passes=1, memory_bytes=int(memory))
            except ResourceError as exc:
                print(f"{text} to {size[1]}x{size[0]}, {memory / 1e9:.0f} GB allowed: {exc}")
                continue
            tile = f"tiles of {plan.tile} px" if plan.tile else "whole frames"
            need = f"{plan.memory_bytes / 1e9:.2f} GB, chunks of {plan.chunk_frames}, {tile}"
            print(f"{text} to {size[1]}x{size[0]}, {memory / 1e9:.0f} GB allowed: {need}")


def send_frames(into: IO[bytes], count: int, size: tuple[int, int]) -> None:
    """A drifting texture as y4m, another one every 100 frames."""
    height, width = size
    into.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420mpeg2\n".encode())
    generator = np.random.default_rng(0)
    chroma = bytes([128]) * (2 * ((height + 1) // 2) * ((width + 1) // 2))
    for index in range(count):
        if index % 100 == 0:
            texture = cv2.resize(generator.integers(16, 235, (height // 8, width // 8), np.uint8), (width, height))
        into.write(b"FRAME\n" + np.roll(texture, index, 1).tobytes() + chroma)
    into.close()


def watch_pipe(command: list[str], count: int, size: tuple[int, int]) -> list[float]:
    """MiB of the process, the highest of each quarter of the frames that came out."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdin is not None
    assert process.stdout is not None
    sender = threading.Thread(target=send_frames, args=(process.stdin, count, size))
    sender.start()
    watched = psutil.Process(process.pid)
    peaks = [0.0] * 4
    header = process.stdout.readline()
    width, height = (int(word[1:]) for word in header.split()[1:3])
    frame = len(b"FRAME\n") + width * height + 2 * ((height + 1) // 2) * ((width + 1) // 2)
    for index in range(count):
        if len(process.stdout.read(frame)) < frame:
            sys.exit(f"{' '.join(command)} ended after {index} frames")
        peaks[4 * index // count] = max(peaks[4 * index // count], watched.memory_info().rss / 2**20)
    sender.join()
    if process.wait():
        sys.exit(f"{' '.join(command)} failed")
    return peaks


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[100, 1000])
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--references", help="default: lite for lite, bicubic for bicubic")
    parser.add_argument("--scale", default="4")
    parser.add_argument("--pipe", action="store_true")
    parser.add_argument("--plan", nargs="+", metavar="SIZE")
    arguments = parser.parse_args()
    if arguments.plan:
        print_plans(arguments.model, arguments.plan)
        return
    width, height = map(int, arguments.size.split("x"))
    tool = str(Path(sys.executable).with_name("sparkvsr"))
    if arguments.pipe:
        for frames in arguments.frames:
            command = [tool, "upscale", "-", "-o", "-", "--model", arguments.model, "--scale", arguments.scale]
            started = time.monotonic()
            quarters = watch_pipe(command, frames, (height, width))
            shown = ", ".join(f"{one:.0f}" for one in quarters)
            seconds = time.monotonic() - started
            print(f"{frames:6} frames of {width}x{height} through a pipe: {shown} MiB by quarter, {seconds:.0f} s")
        return
    peaks = []
    for frames in arguments.frames:
        with tempfile.TemporaryDirectory() as scratch:
            clip = drifting_textures(Path(scratch) / "in.mp4", frames, (height, width), shot_frames=100)
            command = [tool, "upscale", str(clip), "--iframes", "--model", arguments.model]
            command += ["--references", arguments.references or arguments.model, "--scale", arguments.scale]
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
