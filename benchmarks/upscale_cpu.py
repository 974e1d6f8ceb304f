"""Speed, memory and quality of whole upscaling commands on the CPU, side by side in one run.

    python benchmarks/upscale_cpu.py --weights DIR [--clip GT.mp4] [--frames 60] [--json out.json]

Each method reads the same 320x180 (or GT/4) H.264 clip and writes a 4x H.264 file, in a process of its own:

* `sparkvsr upscale` in the vivid look (the default), in the faithful look with I-frames, and with `--no-keyframes`
* Real-ESRGAN animevideov3, general-x4v3, x4plus: every frame, float32, as spandrel runs them by default
  (same decoder and encoder as sparkvsr, one after the other); with --fast-peers in bf16 and channels_last, as sparkvsr
  runs them
* ffmpeg bicubic (if ffmpeg is installed)

Frames per second are those of the whole command without start-up (second run over N frames minus a run over
1 frame); x4plus gets few frames. Memory is the peak resident set of the process. PSNR-Y (BT.601 studio range,
no border) is against the ground truth, read back from the written file. Ratios are against animevideov3.
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
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

PEERS = {
    "animevideov3": "realesr-animevideov3",
    "general-x4v3": "realesr-general-x4v3",
    "x4plus": "RealESRGAN_x4plus",
}
SLOW = {"x4plus"}


def run_peer(weights: str, source: str, target: str, frames: int, *, fast: bool = False) -> None:
    """Upscale every frame with a spandrel model: decode, network, encode in turn."""
    import spandrel
    import torch

    from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter

    model = spandrel.ModelLoader(device="cpu").load_from_file(weights)
    dtype = torch.bfloat16 if fast else torch.float32
    layout = torch.channels_last if fast else torch.contiguous_format
    model.model.eval().to(dtype=dtype, memory_format=layout)
    with torch.inference_mode(), VideoReader(Path(source), frames=frames) as reader:
        size = (reader.info.height * 4, reader.info.width * 4)
        with VideoWriter(
            Path(target), source=reader.info, size=size, options=EncodeOptions(), overwrite=True
        ) as writer:
            for frame in reader:
                made = model(frame.pixels[None].to(dtype).contiguous(memory_format=layout))
                writer.write(made[0].float().clamp(0, 1), frame.pts, frame.duration)


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


def commands(weights: Path, lr: Path, out: Path, *, fast: bool) -> dict[str, tuple[list[str], list[str]]]:
    """Per method: the command without its frame count, and how the count is given."""
    tool = str(Path(sys.executable).with_name("sparkvsr"))
    base = [tool, "upscale", str(lr), "--overwrite", "-o"]
    found = {
        "lite, vivid": ([*base, str(out / "lite_vivid.mp4")], ["--frames"]),
        "lite, faithful": ([*base, str(out / "lite_iframes.mp4"), "--iframes", "--look", "faithful"], ["--frames"]),
        "faithful, blind": ([*base, str(out / "lite_blind.mp4"), "--no-keyframes", "--look", "faithful"], ["--frames"]),
    }
    for name, stem in PEERS.items():
        path = next(iter(sorted(weights.glob(f"{stem}*.pth"))), None)
        if path is None:
            print(f"({name}: no weights in {weights})")
            continue
        peer = [sys.executable, __file__, "--peer", str(path), "--clip", str(lr), "--out", str(out / f"{name}.mp4")]
        peer += ["--fast-peers"] if fast else []
        found[name] = (peer, ["--frames"])
    if shutil.which("ffmpeg"):
        bicubic = ["ffmpeg", "-y", "-loglevel", "error", "-i", str(lr), "-vf", "scale=iw*4:ih*4:flags=bicubic"]
        found["ffmpeg bicubic"] = ([*bicubic, "-c:v", "libx264", "-crf", "16", str(out / "bicubic.mp4")], ["-frames:v"])
    return found


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of Real-ESRGAN weight files")
    parser.add_argument("--clip", type=Path, help="ground truth; default Big Buck Bunny 720p, see demo.py")
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--slow-frames", type=int, default=3, help="frames for x4plus")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--fast-peers", action="store_true", help="Real-ESRGAN in bf16")
    parser.add_argument("--peer", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.peer:
        run_peer(arguments.peer, str(arguments.clip), arguments.out, arguments.frames, fast=arguments.fast_peers)
        return

    from demo import FOLDER, compare, fetch_clip, reduce_clip

    FOLDER.mkdir(exist_ok=True)
    truth = arguments.clip or fetch_clip(FOLDER)
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        lr = reduce_clip(truth, out / "lr.mp4")
        for name, (command, flag) in commands(arguments.weights, lr, out, fast=arguments.fast_peers).items():
            count = arguments.slow_frames if name in SLOW else arguments.frames
            at = -1 if name == "ffmpeg bicubic" else len(command)

            def with_frames(n: int, command: list[str] = command, flag: list[str] = flag, at: int = at) -> list[str]:
                return [*command[:at], *flag, str(n), *command[at:]]

            start_up, _ = measure(with_frames(1))
            seconds, peak = measure(with_frames(count))
            written = Path(command[command.index("-o") + 1] if "-o" in command else command[-1])
            cut = out / "gt.mkv"
            bicubic, quality = _quality(lr, written, truth, count, cut, compare)
            fps = (count - 1) / max(1e-3, seconds - start_up)
            rows.append(
                {
                    "method": name,
                    "frames": count,
                    "fps": fps,
                    "whole_seconds": seconds,
                    "start_up_seconds": start_up,
                    "peak_mb": peak,
                    "psnr_y": quality,
                    "bicubic_psnr_y": bicubic,
                }
            )
            print(f"measured {name}: {fps:.2f} fps", flush=True)
    reference = next((row["fps"] for row in rows if row["method"] == "animevideov3"), None)
    heads = ("frames", "fps", "x animevideov3", "peak MB", "PSNR-Y", "over bicubic")
    print("\n" + " ".join([f"{'method':18}", *(f"{head:>14}" for head in heads)]))
    for row in rows:
        ratio = f"{row['fps'] / reference:.2f}" if reference else "-"
        gain = f"{row['psnr_y'] - row['bicubic_psnr_y']:+.2f}"
        quality = f"{row['psnr_y']:.2f}"
        cells = (str(row["frames"]), f"{row['fps']:.2f}", ratio, f"{row['peak_mb']:.0f}", quality, gain)
        print(" ".join([f"{row['method']:18}", *(f"{cell:>14}" for cell in cells)]))
    by_name = {row["method"]: row["fps"] for row in rows}
    if "x4plus" in by_name:
        ratio = f"{by_name['lite, vivid'] / by_name['x4plus']:.0f}"
        print(f"\nlite in the vivid look is {ratio} times as fast as x4plus on every frame")
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2))


def _quality(lr: Path, written: Path, truth: Path, count: int, cut: Path, compare: object) -> tuple[float, float]:
    """PSNR-Y over the first ``count`` frames of bicubic and of the written file."""
    from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter

    short = cut.with_name("lr_cut.mkv")
    for source, target in ((truth, cut), (lr, short)):
        with VideoReader(source, frames=count) as reader:
            size = (reader.info.height, reader.info.width)
            options = EncodeOptions(codec="ffv1")
            with VideoWriter(target, source=reader.info, size=size, options=options, overwrite=True) as writer:
                for frame in reader:
                    writer.write(frame.pixels, frame.pts, frame.duration)
    return compare(short, written, cut)  # type: ignore[operator]


if __name__ == "__main__":
    main()
