"""Where the disk estimate of `sparkvsr upscale` comes from: bits for each output pixel, by codec, on real clips.

    python benchmarks/disk.py CLIP... [--frames 24] [--model lite]

Every clip is restored once and encoded with each codec at its default quality, and as images. Prints bits per pixel of
each clip, the mean, and what src/sparkvsr/inference/clip/disk.py assumes.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from itertools import islice
from pathlib import Path

import torch

import sparkvsr
from sparkvsr.inference.clip.disk import bits_per_pixel
from sparkvsr.models.interface import ShotRequest
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter

TARGETS = {
    "h264": "out.mp4", "hevc": "out.mp4", "av1": "out.mp4", "ffv1": "out.mkv", "prores": "out.mov",
    "png": "%05d.png", "jpg": "%05d.jpg", "webp": "%05d.webp", "tif": "%05d.tif",
}  # fmt: skip


def restored(path: Path, frames: int, model_name: str) -> torch.Tensor:
    """``(F, 3, H, W)``, the first frames of a clip."""
    with VideoReader(path) as reader:
        lr = torch.stack([frame.pixels for frame in islice(reader, frames)]).float()
    model = sparkvsr.load_model(model_name)
    h, w = lr.shape[-2:]
    size = model.working_size((h, w), (4 * h, 4 * w))
    session = model.open_session(ShotRequest(num_frames=len(lr), lr_size=(h, w), size=size))
    with torch.inference_mode():
        return torch.cat([session.push(lr), session.finish()])


def measured(frames: torch.Tensor, path: Path, name: str) -> float:
    """Bits for each pixel of an encoding."""
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / TARGETS[name]
        options = None if target.name.startswith("%") else EncodeOptions(codec=name)
        size = (frames.shape[-2], frames.shape[-1])
        with VideoReader(path) as reader, VideoWriter(target, source=reader.info, size=size, options=options) as out:
            for pixels in frames:
                out.write(pixels)
        total = sum(file.stat().st_size for file in Path(folder).iterdir())
    return 8 * total / (len(frames) * size[0] * size[1])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, nargs="+")
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--model", default="lite")
    arguments = parser.parse_args()
    rows: dict[str, list[float]] = {name: [] for name in TARGETS}
    for clip in arguments.clips:
        frames = restored(clip, arguments.frames, arguments.model)
        for name, values in rows.items():
            values.append(measured(frames, clip, name))
        print(clip.name, *(f"{name} {values[-1]:.3f}" for name, values in rows.items()), flush=True)
    for name, values in rows.items():
        options = EncodeOptions(codec=name) if not TARGETS[name].startswith("%") else EncodeOptions()
        assumed = bits_per_pixel(Path(TARGETS[name]), options, 8)
        print(
            f"{name:7} mean {statistics.mean(values):.3f} ({min(values):.3f} to {max(values):.3f}), assumed {assumed}"
        )


if __name__ == "__main__":
    main()
