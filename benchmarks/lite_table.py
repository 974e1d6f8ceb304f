"""The table of the model card: lite's faithful look on the public ground-truth clips.

    python benchmarks/lite_table.py [--weights FOLDER] [--rows bicubic blind keyed ...] [--json out.json]

PSNR-Y (BT.601 studio range, no border), mean over frames 1.. up to 32 (frame 0 carries the keyframe), sides cropped to
multiples of 16, LR by antialiased bicubic /4 rounded to 8 bit. `*_crf23` rows: the LR clip went through x264 crf 23.
The lines `guidance`: mean absolute distance to the keyframe at frame 0, in grey levels, for guidance 0, 0.5, 1, 1.5.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.degradation.codec import compress_crf
from sparkvsr.metrics import psnr_y as psnr_y_of_frame
from sparkvsr.models.lite.model import LiteModel, load_lite
from sparkvsr.models.lite.motion import grey_of
from sparkvsr.models.lite.upscaler import load_keyframe_upscaler
from sparkvsr.video import VideoReader

ROWS = ("bicubic", "blind", "flow_and_blend", "keyed", "lite_keyframe", "upscaler_every_frame")
WRONG_ROWS = ("wrong_scene", "wrong_black", "wrong_shift32", "wrong_before_cut")
CRF_ROWS = ("bicubic_crf23", "blind_crf23", "keyed_crf23")
FRAMES = 33
# For docs/lite.md, by name of the picture: clip, left, top (HR pixels).
CROPS = {
    "good_city": ("vid4_city", 300, 200),
    "good_calendar": ("vid4_calendar", 60, 300),
    "hard_walk": ("vid4_walk", 330, 150),
    "hard_butterfly": ("butterfly", 230, 100),
    "hard_foliage": ("vid4_foliage", 300, 200),
}
CROP_SIDE = 200
CROP_ROWS = ("lr", "bicubic", "blind", "keyed", "truth")


def load_clip(path: Path) -> Tensor:
    """First frames, ``(F, 3, H, W)`` in [0, 1], sides cropped to multiples of 16."""
    with VideoReader(path, frames=FRAMES) as reader:
        clip = torch.stack([frame.pixels for frame in reader]).mul(255).round().div(255)
    return clip[..., : clip.shape[-2] // 16 * 16, : clip.shape[-1] // 16 * 16].contiguous()


def shrink_by_four(clip: Tensor) -> Tensor:
    """Antialiased bicubic /4, 8 bit."""
    return BicubicDegradation()(clip, np.random.default_rng(0))


def as_numpy(clip: Tensor) -> NDArray:
    """``(F, 3, H, W)`` in [0, 1] to uint8 ``(F, H, W, 3)``."""
    return clip.mul(255).round().byte().permute(0, 2, 3, 1).contiguous().numpy()


def psnr_y(restored: Tensor, truth: Tensor) -> float:
    """Mean over frames; the result is rounded to 8 bit first."""
    rounded = restored.clamp(0, 1).mul(255).round().div(255)
    return float(np.mean([psnr_y_of_frame(a, b) for a, b in zip(rounded, truth, strict=True)]))


def flow_and_blend(lr: NDArray, key_hr: NDArray) -> Tensor:
    """A classical baseline without any network: one direct flow to frame 0."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    dis.setFinestScale(0)
    h, w = lr.shape[1:3]
    height, width = 4 * h, 4 * w
    greys = [grey_of(image) for image in lr]
    doubled = [cv2.resize(g, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC) for g in greys]

    def remap(image: NDArray, flow: NDArray, how: int) -> NDArray:
        ys, xs = np.mgrid[0 : flow.shape[0], 0 : flow.shape[1]].astype(np.float32)
        return cv2.remap(image, xs + flow[..., 0], ys + flow[..., 1], how, borderMode=cv2.BORDER_REPLICATE)

    out = []
    for t in range(len(lr)):
        to_key, from_key = dis.calc(doubled[t], doubled[0], None), dis.calc(doubled[0], doubled[t], None)
        full = cv2.resize(to_key, (width, height)) * 2
        warped = remap(key_hr.astype(np.float32), full, cv2.INTER_CUBIC)
        trip = to_key + remap(from_key, to_key, cv2.INTER_LINEAR)
        miss = cv2.resize(np.sqrt((trip**2).sum(-1)) * 2, (width, height))
        there = remap(greys[0].astype(np.float32), cv2.resize(to_key, (w, h)) / 2, cv2.INTER_CUBIC)
        photo = cv2.GaussianBlur(np.abs(greys[t].astype(np.float32) - there), (0, 0), 2)
        confidence = np.exp(-((miss / 2) ** 2)) * np.exp(-((cv2.resize(photo, (width, height)) / 6) ** 2))
        low = cv2.resize(warped, (w, h), interpolation=cv2.INTER_AREA)
        detail = warped - cv2.resize(low, (width, height), interpolation=cv2.INTER_CUBIC)
        base = cv2.resize(lr[t].astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        out.append((base + confidence[..., None] * detail) / 255)
    return torch.from_numpy(np.stack(out)).permute(0, 3, 1, 2).float()


def measure(
    model: LiteModel, upscaler, rows: list[str], clips: dict[str, Tensor]
) -> tuple[dict[str, dict[str, float]], dict[str, dict[str, Tensor]]]:
    """PSNR-Y by row and clip, and the middle frame of every row."""
    names = list(clips)
    table: dict[str, dict[str, float]] = {row: {} for row in rows}
    middle: dict[str, dict[str, Tensor]] = {name: {} for name in names}
    for number, name in enumerate(names):
        truth = clips[name]
        lr = shrink_by_four(truth)
        lr_crf = compress_crf(lr, 23, "medium") if any(row.endswith("crf23") for row in rows) else lr
        other = clips[names[(number + 1) % len(names)]][:1]
        foreign = F.interpolate(other, truth.shape[2:], mode="bicubic", antialias=True).clamp(0, 1)
        for row in rows:
            target, drop = truth, 1
            source = lr_crf if row.endswith("crf23") else lr
            if row.startswith("bicubic"):
                out = F.interpolate(source, scale_factor=4, mode="bicubic", align_corners=False)
            elif row.startswith("blind"):
                out = model.restore(source)
            elif row.startswith("keyed"):
                out = model.restore(source, truth[:1], [0])
            elif row == "flow_and_blend":
                out = flow_and_blend(as_numpy(lr), as_numpy(truth[:1])[0])
            elif row == "lite_keyframe":
                out = model.restore(lr, upscaler.upscale(lr[0])[None], [0])
            elif row == "upscaler_every_frame":
                out = torch.stack([upscaler.upscale(frame) for frame in lr])
            elif row in ("wrong_before_cut", "blind_before_cut"):
                joined = torch.cat([shrink_by_four(foreign), lr])
                if row == "wrong_before_cut":
                    out = model.restore(joined, foreign, [0])[1:]
                else:
                    out = model.restore(joined)[1:]
            else:
                key = truth[:1]
                if row == "wrong_black":
                    key = torch.zeros_like(key)
                elif row == "wrong_shift32":
                    key = torch.roll(key, 32, -1)
                else:
                    key = foreign
                out = model.restore(lr, key, [0])
            table[row][name] = psnr_y(out[drop:], target[drop:])
            middle[name][row] = out[len(out) // 2]
            if row == "bicubic":
                middle[name]["truth"] = truth[len(truth) // 2]
                middle[name]["lr"] = lr[len(lr) // 2].repeat_interleave(4, 1).repeat_interleave(4, 2)
    return table, middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, default=Path("data/public"), help="ground truth, a file a clip")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--rows", nargs="+", default=[*ROWS, *WRONG_ROWS, "blind_before_cut", *CRF_ROWS])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--pictures", type=Path, help="folder for crops of the middle frames; needs all rows")
    parser.add_argument("--dtype", choices=["auto", "fp32"], default="auto")
    args = parser.parse_args()
    clips = {path.stem: load_clip(path) for path in sorted(args.clips.iterdir()) if path.suffix in (".mp4", ".mkv")}
    model = load_lite(args.weights, dtype=torch.float32 if args.dtype == "fp32" else "auto", look="faithful")
    upscaler = load_keyframe_upscaler(args.weights)
    start = time.monotonic()
    table, middle = measure(model, upscaler, args.rows, clips)
    print(f"{'':22s}" + "".join(f"{name[-9:]:>10s}" for name in clips) + f"{'mean':>10s}")
    for row, values in table.items():
        cells = [values[name] for name in clips]
        print(f"{row:22s}" + "".join(f"{v:10.2f}" for v in cells) + f"{np.mean(cells):10.3f}")
    if "keyed" in args.rows:
        for name, truth in clips.items():
            lr = shrink_by_four(truth[:6])
            made = [model.restore(lr, truth[:1], [0], guidance_scale=g)[0] for g in (0, 0.5, 1, 1.5)]
            distances = [float((out - truth[0]).abs().mean() * 255) for out in made]
            print(f"{'guidance ' + name:22s}" + "".join(f"{value:10.3f}" for value in distances))
    print(f"{time.monotonic() - start:.0f} s")
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    if args.pictures:
        write_pictures(middle, args.pictures)


def write_pictures(middle: dict[str, dict[str, Tensor]], folder: Path) -> None:
    """Crops of the middle frames side by side, ``lite_NAME.jpg``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (clip, left, top) in CROPS.items():
        cells = []
        for row in CROP_ROWS:
            image = as_numpy(middle[clip][row].clamp(0, 1)[None])[0]
            cell = cv2.cvtColor(image[top : top + CROP_SIDE, left : left + CROP_SIDE], cv2.COLOR_RGB2BGR)
            for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(cell, row, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, width, cv2.LINE_AA)
            cells.append(cell)
        cv2.imwrite(str(folder / f"lite_{name}.jpg"), np.hstack(cells), [cv2.IMWRITE_JPEG_QUALITY, 90])


if __name__ == "__main__":
    main()
