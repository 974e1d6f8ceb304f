"""Speed, memory and quality of whole upscaling commands on the CPU, side by side in one run.

    python benchmarks/upscale_cpu.py --weights DIR [--clip GT.mp4] [--frames 60] [--json out.json]
    python benchmarks/upscale_cpu.py --weights DIR --sizes 320x180x4 640x360x2 1280x720x2 1920x1080x2 --frames 12

A size is WIDTHxHEIGHTxFACTOR of the LR clip. Each method reads the same H.264 clip of that size and writes an H.264
file of FACTOR times the size, in a process of its own:

* `sparkvsr upscale` in the vivid look (the default), in the faithful look with I-frames, and with `--no-keyframes`
* Real-ESRGAN animevideov3, general-x4v3, x4plus: every frame, as spandrel runs them by default (float32), and side by
  side in bf16 and channels_last, as sparkvsr runs them where the CPU multiplies bf16 (same decoder and encoder as
  sparkvsr, one after the other; by 2 their picture of 4 times the size is resized)
* ffmpeg bicubic (if ffmpeg is installed)

Frames per second are those of the whole command without start-up (second run over N frames minus a run over
1 frame); x4plus gets few frames. Memory is the peak resident set of the process. PSNR-Y (BT.601 studio range,
no border) is against the ground truth, read back from the written file; where the truth has not just the result's size
there is none. Ratios are against animevideov3 in float32.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

PEERS = {
    "animevideov3": "realesr-animevideov3",
    "general-x4v3": "realesr-general-x4v3",
    "x4plus": "RealESRGAN_x4plus",
}
SLOW = {"x4plus", "x4plus, bf16"}
BICUBIC = "ffmpeg bicubic"


class Size(NamedTuple):
    """Of an LR clip, with the factor to the output."""

    width: int
    height: int
    factor: int

    @classmethod
    def parse(cls, text: str) -> Size:
        """``320x180x4``."""
        try:
            width, height, factor = (int(part) for part in text.split("x"))
        except ValueError:
            msg = f"{text} is not WIDTHxHEIGHTxFACTOR, like 640x360x2"
            raise argparse.ArgumentTypeError(msg) from None
        return cls(width, height, factor)

    def __str__(self) -> str:
        return f"{self.width}x{self.height} x{self.factor}"


def run_peer(weights: str, source: str, target: str, frames: int, factor: int, *, fast: bool = False) -> None:
    """Upscale every frame with a spandrel model: decode, network, encode in turn."""
    import spandrel
    import torch

    from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter
    from sparkvsr.video.pixels import resize_image

    model = spandrel.ModelLoader(device="cpu").load_from_file(weights)
    dtype = torch.bfloat16 if fast else torch.float32
    layout = torch.channels_last if fast else torch.contiguous_format
    model.model.eval().to(dtype=dtype, memory_format=layout)
    with torch.inference_mode(), VideoReader(Path(source), frames=frames) as reader:
        size = (reader.info.height * factor, reader.info.width * factor)
        with VideoWriter(
            Path(target), source=reader.info, size=size, options=EncodeOptions(), overwrite=True
        ) as writer:
            for frame in reader:
                made = model(frame.pixels[None].to(dtype).contiguous(memory_format=layout))
                picture = made[0].float().clamp(0, 1)
                if tuple(picture.shape[-2:]) != size:
                    picture = resize_image(picture, size)
                writer.write(picture, frame.pts, frame.duration)


def measure(command: list[str]) -> tuple[float, float]:
    """Wall seconds and peak resident megabytes of a command."""
    started = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - started
    if status != 0:
        error = process.stderr.read().decode()[-800:] if process.stderr else ""
        sys.exit(f"{' '.join(command)} failed: {error}")
    return seconds, usage.ru_maxrss / 1000


def commands(weights: Path | None, lr: Path, out: Path, factor: int) -> dict[str, tuple[list[str], list[str]]]:
    """Per method: the command without its frame count, and how the count is given."""
    tool = str(Path(sys.executable).with_name("sparkvsr"))
    base = [tool, "upscale", str(lr), "--overwrite", "--scale", str(factor), "-o"]
    found = {
        "lite, vivid": ([*base, str(out / "lite_vivid.mp4")], ["--frames"]),
        "lite, faithful": ([*base, str(out / "lite_iframes.mp4"), "--iframes", "--look", "faithful"], ["--frames"]),
        "faithful, blind": ([*base, str(out / "lite_blind.mp4"), "--no-keyframes", "--look", "faithful"], ["--frames"]),
    }
    for name, stem in PEERS.items():
        path = None if weights is None else next(iter(sorted(weights.glob(f"{stem}*.pth"))), None)
        if path is None:
            print(f"({name}: no weights in {weights}; give their folder with --weights)")
            continue
        peer = [sys.executable, __file__, "--peer", str(path), "--clip", str(lr), "--factor", str(factor)]
        found[name] = ([*peer, "--out", str(out / f"{name}.mp4")], ["--frames"])
        found[f"{name}, bf16"] = ([*peer, "--fast", "--out", str(out / f"{name}-bf16.mp4")], ["--frames"])
    if shutil.which("ffmpeg"):
        scaling = f"scale=iw*{factor}:ih*{factor}:flags=bicubic"
        bicubic = ["ffmpeg", "-y", "-loglevel", "error", "-i", str(lr), "-vf", scaling]
        found[BICUBIC] = ([*bicubic, "-c:v", "libx264", "-crf", "16", str(out / "bicubic.mp4")], ["-frames:v"])
    return found


def main() -> None:
    """Measure and print a table for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of Real-ESRGAN weight files")
    parser.add_argument("--clip", type=Path, help="ground truth; default Big Buck Bunny 720p, see demo.py")
    parser.add_argument("--sizes", type=Size.parse, nargs="+", default=[Size(320, 180, 4)], metavar="WxHxFACTOR")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--slow-frames", type=int, default=3, help="frames for x4plus")
    parser.add_argument("--only", nargs="+", help="methods, by the names of the table")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--fast", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--factor", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        clip, factor = str(arguments.clip), arguments.factor
        run_peer(arguments.peer, clip, arguments.out, arguments.frames, factor, fast=arguments.fast)
        return

    from demo import FOLDER, fetch_clip

    FOLDER.mkdir(exist_ok=True)
    truth = arguments.clip or fetch_clip(FOLDER)
    tables = {}
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory() as scratch:
            tables[str(size)] = rows = measure_size(size, truth, Path(scratch), arguments)
        print(f"\n{size}\n" + "\n".join(table_lines(rows)), flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(tables, indent=2))


def measure_size(size: Size, truth: Path, out: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """All methods on one size."""
    lr = out / "lr.mp4"
    has_truth = _write_lr(truth, lr, size, arguments.frames)
    rows: list[dict[str, Any]] = []
    for name, (command, flag) in commands(arguments.weights, lr, out, size.factor).items():
        if arguments.only and name not in arguments.only:
            continue
        count = arguments.slow_frames if name in SLOW else arguments.frames
        at = -1 if name == BICUBIC else len(command)

        def with_frames(n: int, command: list[str] = command, flag: list[str] = flag, at: int = at) -> list[str]:
            return [*command[:at], *flag, str(n), *command[at:]]

        start_up, _ = measure(with_frames(1))
        seconds, peak = measure(with_frames(count))
        row = {
            "method": name,
            "frames": count,
            "fps": (count - 1) / max(1e-3, seconds - start_up),
            "whole_seconds": seconds,
            "start_up_seconds": start_up,
            "peak_mb": peak,
            "psnr_y": None,
            "bicubic_psnr_y": None,
        }
        if has_truth:
            written = Path(command[command.index("-o") + 1] if "-o" in command else command[-1])
            row["bicubic_psnr_y"], row["psnr_y"] = _quality(lr, written, truth, count, out / "gt.mkv")
        rows.append(row)
        print(f"measured {size} {name}: {row['fps']:.2f} fps", flush=True)
    return rows


def table_lines(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The table of one size, for people."""
    reference = next((row["fps"] for row in rows if row["method"] == "animevideov3"), None)
    heads = ("frames", "fps", "x animevideov3", "peak MB", "PSNR-Y", "over bicubic")
    lines = [" ".join([f"{'method':20}", *(f"{head:>14}" for head in heads)])]
    for row in rows:
        ratio = f"{row['fps'] / reference:.2f}" if reference else "-"
        quality, gain = "-", "-"
        if row["psnr_y"] is not None:
            quality, gain = f"{row['psnr_y']:.2f}", f"{row['psnr_y'] - row['bicubic_psnr_y']:+.2f}"
        cells = (str(row["frames"]), f"{row['fps']:.2f}", ratio, f"{row['peak_mb']:.0f}", quality, gain)
        lines.append(" ".join([f"{row['method']:20}", *(f"{cell:>14}" for cell in cells)]))
    return lines


def _write_lr(truth: Path, target: Path, size: Size, frames: int) -> bool:
    """Write the LR clip, nearly lossless; whether the truth is just FACTOR times as large."""
    from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter
    from sparkvsr.video.pixels import resize_image

    shape, options = (size.height, size.width), EncodeOptions(codec="h264", crf=8)
    with VideoReader(truth, frames=frames) as reader:
        whole = (reader.info.height, reader.info.width)
        with VideoWriter(target, source=reader.info, size=shape, options=options, overwrite=True) as writer:
            for frame in reader:
                writer.write(resize_image(frame.pixels, shape), frame.pts, frame.duration)
    return whole == (size.height * size.factor, size.width * size.factor)


def _quality(lr: Path, written: Path, truth: Path, count: int, cut: Path) -> tuple[float, float]:
    """PSNR-Y over the first ``count`` frames of bicubic and of the written file."""
    from demo import compare

    from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter

    short = cut.with_name("lr_cut.mkv")
    for source, target in ((truth, cut), (lr, short)):
        with VideoReader(source, frames=count) as reader:
            size = (reader.info.height, reader.info.width)
            options = EncodeOptions(codec="ffv1")
            with VideoWriter(target, source=reader.info, size=size, options=options, overwrite=True) as writer:
                for frame in reader:
                    writer.write(frame.pixels, frame.pts, frame.duration)
    return compare(short, written, cut)


if __name__ == "__main__":
    main()
