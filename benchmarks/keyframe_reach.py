"""How far a keyframe reaches: PSNR gain over the blind result by distance to the keyframe.

    python benchmarks/keyframe_reach.py CLIPS -o docs/keyframe_reach.png

Each clip is reduced by 4 (antialiased bicubic, 8 bit) and restored three times: blind, with one keyframe made by lite,
and with one perfect keyframe (the original frame), which is what an edit by hand or a strong image model comes close
to. The keyframe lies in the first frame, so the distance is the number of frames since then. PSNR is of the luma
(BT.601) without a border of 8 pixels. Prints a table and writes a plot.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

import sparkvsr
from sparkvsr.keyframes.references import make_reference_maker
from sparkvsr.metrics import psnr_y
from sparkvsr.video import VideoReader
from sparkvsr.video.pixels import resize_image

SCALE = 4
BORDER_PX = 8
KINDS = ("lite", "perfect")
COLOURS = {"lite": (180, 120, 30), "perfect": (40, 110, 220)}  # BGR


def psnr(restored: Tensor, original: Tensor) -> list[float]:
    """PSNR of each frame's luma in dB."""
    return [psnr_y(*pair, border=BORDER_PX) for pair in zip(restored, original, strict=True)]


def read_clip(path: Path, frames: int) -> Tensor:
    """``(F, 3, H, W)``, sides cut to multiples of 8."""
    with VideoReader(path, frames=frames) as reader:
        clip = torch.stack([frame.pixels for frame in reader])
    return clip[..., : clip.shape[-2] // 8 * 8, : clip.shape[-1] // 8 * 8]


def measure(path: Path, frames: int, model: sparkvsr.RestorationModel) -> dict[str, list[float]]:
    """PSNR of each frame, for each way of restoring."""
    original = read_clip(path, frames)
    lr = resize_image(original, (original.shape[-2] // SCALE, original.shape[-1] // SCALE)).mul(255).round() / 255
    size = (original.shape[-2], original.shape[-1])
    maker = make_reference_maker("lite", model.device)
    keyframes = {"lite": maker.make(lr[0], size), "perfect": original[0]}
    out = {"bicubic": psnr(resize_image(lr, size), original), "blind": psnr(model.restore(lr), original)}
    for kind in KINDS:
        out[kind] = psnr(model.restore(lr, keyframes[kind][None], [0]), original)
    return out


def mean_gains(numbers: dict[str, dict[str, list[float]]]) -> dict[str, dict[int, float]]:
    """Gain over blind by kind and distance, mean over the clips that are long enough."""
    gains: dict[str, dict[int, float]] = {}
    for kind in KINDS:
        by_distance: dict[int, list[float]] = defaultdict(list)
        for found in numbers.values():
            for distance, (guided, blind) in enumerate(zip(found[kind], found["blind"], strict=True)):
                by_distance[distance].append(guided - blind)
        gains[kind] = {distance: sum(values) / len(values) for distance, values in by_distance.items()}
    return gains


def plot(gains: dict[str, dict[int, float]], counts: list[int], path: Path) -> None:
    """A line for each kind: distance in frames against gain in dB.

    Begins behind the keyframe: that frame itself is nearly the perfect image, and would press the rest flat.

    Args:
        gains: by kind and distance.
        counts: length of each clip; where one ends, the mean is of fewer, and a line says so.
    """
    gains = {kind: {distance: gain for distance, gain in line.items() if distance} for kind, line in gains.items()}
    width, height, left, bottom, top = 720, 360, 60, 48, 24
    canvas = np.full((height, width, 3), 255, np.uint8)
    longest = max(max(line) for line in gains.values())
    highest = max(0.5, math.ceil(max(max(line.values()) for line in gains.values()) * 2) / 2)
    lowest = min(0.0, math.floor(min(min(line.values()) for line in gains.values()) * 2) / 2)

    def place(distance: float, gain: float) -> tuple[int, int]:
        x = left + (width - left - 20) * distance / max(1, longest)
        y = height - bottom - (height - bottom - top) * (gain - lowest) / (highest - lowest)
        return round(x), round(y)

    def write(text: str, x: int, y: int, colour: tuple[int, int, int] = (60, 60, 60)) -> None:
        cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, 1, cv2.LINE_AA)

    step = 0.5 if highest - lowest <= 4 else 1.0 if highest - lowest <= 8 else 2.0
    for number in range(int((highest - lowest) / step) + 1):
        gain = lowest + number * step
        x, y = place(0, gain)
        cv2.line(canvas, (x, y), (width - 20, y), (225, 225, 225) if gain else (120, 120, 120), 1)
        write(f"{gain:+.1f}", 12, y + 4)
    for distance in range(0, longest + 1, 5 if longest > 12 else 2):
        write(str(distance), place(distance, lowest)[0] - 6, height - bottom + 18)
    write("frames since the keyframe", width // 2 - 80, height - 10)
    write("PSNR-Y gain over blind, dB", 12, 14)
    for end in sorted(set(counts)):
        left_over = sum(count > end for count in counts)
        if left_over:
            (x, y0), (_, y1) = place(end - 0.5, lowest), place(end - 0.5, highest)
            cv2.line(canvas, (x, y0), (x, y1), (170, 170, 170), 1)
            write(f"{left_over} clips", x + 6, y0 - 8)
            write(f"{sum(count >= end for count in counts)} clips", x - 52, y0 - 8)
    for number, (kind, line) in enumerate(gains.items()):
        points = np.array([place(distance, gain) for distance, gain in sorted(line.items())], np.int32)
        cv2.polylines(canvas, [points], isClosed=False, color=COLOURS[kind], thickness=2, lineType=cv2.LINE_AA)
        cv2.line(canvas, (width - 230, 40 + 20 * number), (width - 205, 40 + 20 * number), COLOURS[kind], 2)
        names = {"lite": "keyframe made by lite", "perfect": "perfect keyframe"}
        write(names[kind], width - 198, 44 + 20 * number)
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), canvas, [cv2.IMWRITE_PNG_COMPRESSION, 9])


def main() -> None:
    """Measure, print, plot."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="clips with full detail")
    parser.add_argument("-o", "--output", type=Path, default=Path("keyframe_reach.png"))
    parser.add_argument("--frames", type=int, default=32, help="of each clip")
    parser.add_argument("--model", default="lite")
    parser.add_argument("--json", type=Path, help="also write the numbers here")
    parser.add_argument("--replot", type=Path, metavar="JSON", help="plot numbers written before; measure nothing")
    arguments = parser.parse_args()
    numbers: dict[str, dict[str, list[float]]] = {}
    if arguments.replot:
        numbers = json.loads(arguments.replot.read_text())
        plot(mean_gains(numbers), [len(found["blind"]) for found in numbers.values()], arguments.output)
        return
    look = "faithful" if arguments.model == "lite" else None
    model = sparkvsr.load_model(arguments.model, look=look)
    print(
        f"{'clip':<20}{'frames':>7}{'bicubic':>9}{'blind':>8}{'lite':>8}{'perfect':>9}   PSNR-Y in dB, mean over frames"
    )
    for path in sorted(entry for entry in arguments.folder.iterdir() if entry.suffix in (".mp4", ".mkv", ".mov")):
        started = time.monotonic()
        found = measure(path, arguments.frames, model)
        numbers[path.name] = found
        means = [sum(found[name]) / len(found[name]) for name in ("bicubic", "blind", *KINDS)]
        count = len(found["blind"])
        print(
            f"{path.name:<20}{count:>7}{means[0]:>9.2f}{means[1]:>8.2f}{means[2]:>8.2f}{means[3]:>9.2f}"
            f"   ({time.monotonic() - started:.0f} s)"
        )
        sys.stdout.flush()
    if not numbers:
        sys.exit(f"{arguments.folder} holds no clips")
    gains = mean_gains(numbers)
    print(f"\n{'distance':>8}{'clips':>7}{'lite':>8}{'perfect':>9}   gain over blind in dB, mean over clips")
    for distance in sorted(gains["lite"]):
        if distance in (0, 1, 2, 3, 4, 6, 8, 12, 16, 20, 24, 28, 31):
            count = sum(len(found["blind"]) > distance for found in numbers.values())
            print(f"{distance:>8}{count:>7}{gains['lite'][distance]:>8.2f}{gains['perfect'][distance]:>9.2f}")
    plot(gains, [len(found["blind"]) for found in numbers.values()], arguments.output)
    print(f"\nplot: {arguments.output}")
    if arguments.json:
        arguments.json.write_text(json.dumps(numbers, indent=1))


if __name__ == "__main__":
    main()
