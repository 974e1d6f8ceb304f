"""Lite's networks for x2 beside those for x4 made smaller: the faithful look on the public ground-truth clips.

    python benchmarks/lite_x2.py FOLDER_OF_LITE [--clips data/public] [--frames 13] [--json out.json]

The folder is one that ``sparkvsr export`` wrote from a run of ``lite_x2_1`` or ``lite_x2_2``. PSNR-Y (BT.601 studio
range, no border), mean over the frames after the first, which carries the keyframe; the middle 512x384 of every clip,
sides multiples of 16; LR by antialiased bicubic /2 rounded to 8 bit. `*_crf23`: the LR clip went through x264 crf 23.
The rows `seconds` are for all of a model's rows.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch.nn.functional as F
from lite_table import load_clip, psnr_y
from torch import Tensor

from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.degradation.codec import compress_crf
from sparkvsr.models.lite.model import LiteModel, load_lite

SIDES = (384, 512)
FACTOR = 2


def middle_of(path: Path, frames: int) -> Tensor:
    """First frames, ``(F, 3, H, W)`` in [0, 1], the middle of the picture."""
    clip = load_clip(path)[:frames]
    height, width = (min(limit, side) for limit, side in zip(SIDES, clip.shape[-2:], strict=True))
    top, left = (clip.shape[-2] - height) // 2, (clip.shape[-1] - width) // 2
    return clip[..., top : top + height, left : left + width].contiguous()


def measure(models: dict[str, LiteModel], clips: dict[str, Tensor]) -> dict[str, dict[str, float]]:
    """PSNR-Y by row and clip, and the seconds of each model."""
    table: dict[str, dict[str, float]] = {}
    for name, truth in clips.items():
        lr = BicubicDegradation()(truth, np.random.default_rng(0), scale=FACTOR)
        for suffix, source in (("", lr), ("_crf23", compress_crf(lr, 23, "medium"))):
            plain = F.interpolate(source, scale_factor=FACTOR, mode="bicubic", align_corners=False)
            table.setdefault(f"bicubic{suffix}", {})[name] = psnr_y(plain[1:], truth[1:])
            for label, model in models.items():
                started = time.monotonic()
                blind = model.restore(source, scale=FACTOR)
                table.setdefault(f"blind {label}{suffix}", {})[name] = psnr_y(blind[1:], truth[1:])
                keyed = model.restore(source, truth[:1], [0], scale=FACTOR)
                table.setdefault(f"keyed {label}{suffix}", {})[name] = psnr_y(keyed[1:], truth[1:])
                seconds = table.setdefault(f"seconds {label}", {})
                seconds[name] = seconds.get(name, 0.0) + time.monotonic() - started
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=Path, default=Path("data/public"), help="ground truth, a file a clip")
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    paths = [path for path in sorted(args.clips.iterdir()) if path.suffix in (".mp4", ".mkv")]
    clips = {path.stem: middle_of(path, args.frames) for path in paths}
    native, smaller = load_lite(args.folder, look="faithful"), load_lite(look="faithful")
    smaller = without_x2(smaller)
    if FACTOR not in native.scales:
        parser.error(f"{args.folder} has no networks for x{FACTOR}")
    table = measure({"x4 made smaller": smaller, "x2": native}, clips)
    print(f"{'':28s}" + "".join(f"{name[-9:]:>10s}" for name in clips) + f"{'mean':>10s}")
    for row, values in table.items():
        cells = list(values.values())
        print(f"{row:28s}" + "".join(f"{value:10.2f}" for value in cells) + f"{np.mean(cells):10.3f}")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")


def without_x2(model: LiteModel) -> LiteModel:
    """The same model with its networks for x4 only."""
    native = model._natives[4]
    return LiteModel(native.net, native.upscaler, model.device, model.dtype)


if __name__ == "__main__":
    main()
