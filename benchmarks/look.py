"""What a person sees on real footage: both looks of lite beside bicubic and Real-ESRGAN on every frame.

    python benchmarks/look.py --weights DIR --metric-weights DIR [--json look.json]   # .pth files; LPIPS, DISTS, NIQE
    python benchmarks/look.py --rows bicubic faithful vivid --clips a.mp4 b.mp4 --sheet look.png
    python benchmarks/look.py --as-is --clips data/public/lq/*.mp4 --crop 128x96 --sheet lq.png   # pictures, no scores

Each ground-truth clip is made into real footage: blur (sigma 1.0 to 2.4), resize, coloured noise (2 to 8 of 255), /4,
H.264 (crf 26 to 33, preset medium), one setting a clip, drawn from --seed and the clip's name. `faithful`, `vivid` and
`vivid, x4plus` are whole `sparkvsr.upscale` calls on that file, their frames read back from PNG; the networks of
Real-ESRGAN run on every frame, as sparkvsr runs them.

PSNR-Y, tOF and the warping error (x1000, by the motion of the ground truth) on all frames, LPIPS (AlexNet), DISTS and
NIQE on every fourth; fps of restoring and writing PNG, comparable only within one run on a quiet machine. `at 0, 4,
...`: LPIPS by frame, the mean over the clips. With --work the LR files and what Real-ESRGAN makes of their frames are
kept there, so that the next run measures the same clips (x264 does not give the same bits each time) and x4plus runs
once; there is no fps then.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from results_table import CachedMaker
from torch import Tensor

import sparkvsr
from sparkvsr.keyframes.makers.cache import content_key
from sparkvsr.keyframes.references import ReferenceMaker, SpandrelMaker
from sparkvsr.metrics.catalogue import select_metrics
from sparkvsr.metrics.clip_meter import ClipMeter, ClipScore
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore
from sparkvsr.video import EncodeOptions, VideoReader, VideoWriter

METRICS = "psnr_y,lpips_alex,dists,niqe,tof,ewarp_dis"
EVERY = 4
PEERS = {
    "animevideov3": "realesr-animevideov3",
    "general-x4v3": "realesr-general-x4v3",
    "x4plus": "RealESRGAN_x4plus",
}
LOOKS = {
    "faithful": {"look": "faithful"},
    "vivid": {"look": "vivid"},
}
KEYED_BY_X4PLUS = "vivid, x4plus"
"""x4plus makes the keyframes in place of the embedded network."""
ROWS = ("bicubic", *LOOKS, KEYED_BY_X4PLUS, *PEERS)


def load_truth(path: Path, frames: int, crop: tuple[int, int] | None) -> Tensor:
    """First frames, ``(F, 3, H, W)`` in [0, 1], the middle ``(H, W)`` of them, sides multiples of 8."""
    with VideoReader(path, frames=frames) as reader:
        clip = torch.stack([frame.pixels for frame in reader]).mul(255).round().div(255)
    height, width = clip.shape[-2:]
    h, w = (min(height, crop[0]), min(width, crop[1])) if crop else (height, width)
    h, w = h // 8 * 8, w // 8 * 8
    top, left = (height - h) // 2, (width - w) // 2
    return clip[..., top : top + h, left : left + w].contiguous()


def draw_setting(name: str, seed: int) -> dict[str, float | int]:
    """How a clip is made worse; the same for the same name and seed."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return {
        "blur_sigma": round(float(rng.uniform(1.0, 2.4)), 3),
        "resize": round(float(rng.uniform(0.5, 1.0)), 3),
        "noise": round(float(rng.uniform(2, 8)), 3),
        "crf": int(rng.integers(26, 34)),
        "seed": int(rng.integers(2**31)),
    }


def degrade(truth: Tensor, setting: dict[str, float | int]) -> Tensor:
    """LR frames before compression, ``(F, 3, H / 4, W / 4)``, 8 bit."""
    rng = np.random.default_rng(int(setting["seed"]))
    h, w = truth.shape[-2:]
    middle = (round(h * setting["resize"]), round(w * setting["resize"]))
    out = []
    for frame in truth:
        image = frame.permute(1, 2, 0).contiguous().numpy()
        blurred = torch.from_numpy(cv2.GaussianBlur(image, (0, 0), setting["blur_sigma"])).permute(2, 0, 1)[None]
        small = F.interpolate(blurred, size=middle, mode="bicubic", antialias=True, align_corners=False)
        noisy = small + torch.from_numpy(rng.normal(0, setting["noise"] / 255, small.shape).astype(np.float32))
        out.append(F.interpolate(noisy, size=(h // 4, w // 4), mode="bicubic", antialias=True, align_corners=False)[0])
    return torch.stack(out).clamp(0, 1).mul(255).round().div(255)


def footage(
    truth: Tensor, name: str, setting: dict[str, float | int], scratch: Path, work: Path | None, *, clean: bool
) -> Path:
    """The LR file of a clip: made in ``scratch``, or taken from ``work`` and kept there."""
    height, width = truth.shape[-2:]
    parts = (
        str(tuple(truth.shape)),
        "clean" if clean else str(setting),
        truth.mul(255).round().byte().numpy().tobytes(),
    )
    kept = None if work is None else work / "footage" / f"{name}-{content_key(*parts)[:16]}.mp4"
    if kept is not None and kept.is_file():
        return kept
    if clean:
        size = (height // 4, width // 4)
        lr = F.interpolate(truth, size=size, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    else:
        lr = degrade(truth, setting)
    file = write_footage(lr, 8 if clean else int(setting["crf"]), scratch / f"{name}.mp4")
    if kept is None:
        return file
    kept.parent.mkdir(parents=True, exist_ok=True)
    return Path(shutil.move(file, kept))


def write_footage(lr: Tensor, crf: int, target: Path) -> Path:
    """Compress LR frames as most files in the wild were."""
    options = EncodeOptions(codec="h264", crf=crf, preset="medium", pixel_format="yuv420p", copy_streams=False)
    with VideoWriter(target, source=None, size=(lr.shape[-2], lr.shape[-1]), options=options, overwrite=True) as writer:
        for frame in lr:
            writer.write(frame)
    return target


def read_all(path: Path) -> Tensor:
    """All frames, ``(F, 3, h, w)``."""
    with VideoReader(path) as reader:
        return torch.stack([frame.pixels for frame in reader])


def restorers(rows: list[str], weights: Path, work: Path | None) -> dict[str, Callable[[Path, Tensor, Path], Tensor]]:
    """What makes the frames of each row, from the LR file, its frames and a folder for scratch."""

    def upscaled(**more: object) -> Callable[[Path, Tensor, Path], Tensor]:
        def run(path: Path, lr: Tensor, scratch: Path) -> Tensor:  # noqa: ARG001
            folder = scratch / "frames"
            result = sparkvsr.upscale(path, folder / "%05d.png", overwrite=True, **more)
            return read_all(result.output)

        return run

    def every_frame(maker: ReferenceMaker) -> Callable[[Path, Tensor, Path], Tensor]:
        return lambda path, lr, scratch: torch.stack(  # noqa: ARG005
            [maker.make(frame, (4 * frame.shape[-2], 4 * frame.shape[-1])) for frame in lr]
        )

    found: dict[str, Callable[[Path, Tensor, Path], Tensor]] = {}
    for row in rows:
        if row == "bicubic":
            found[row] = lambda path, lr, scratch: F.interpolate(  # noqa: ARG005
                lr, scale_factor=4, mode="bicubic", align_corners=False
            ).clamp(0, 1)
        elif row in LOOKS:
            found[row] = upscaled(**LOOKS[row])
        else:
            stem = PEERS.get(row, PEERS["x4plus"])
            file = next(iter(sorted(weights.glob(f"{stem}*.pth"))), None)
            if file is None:
                print(f"({row}: no {stem}*.pth in {weights})")
                continue
            if row == KEYED_BY_X4PLUS:
                found[row] = upscaled(look="vivid", references=str(file))
            else:
                maker = SpandrelMaker(file)
                found[row] = every_frame(maker if work is None else CachedMaker(maker, work / "images" / stem))
    return found


def measure(restored: Tensor, truth: Tensor, tools: Toolbox) -> dict[str, ClipScore]:
    """All metrics of one clip."""
    meter = ClipMeter([spec for spec, _ in select_metrics(METRICS)], tools, every=EVERY)
    for sr, gt in zip(restored, truth, strict=True):
        pair = [x.mul(255).round().byte().permute(1, 2, 0).contiguous().numpy() for x in (sr.clamp(0, 1), gt)]
        meter.update(pair[0], pair[1])
    return meter.finish()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=Path, nargs="+", help="ground truth; default all of data/public/gt")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--crop", default="384x288", help="WxH of the middle that is used, 0 for whole frames")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--weights", type=Path, default=Path("data/weights/isr"), help="Real-ESRGAN's .pth files")
    parser.add_argument("--metric-weights", type=Path, default=Path("data/weights"))
    parser.add_argument("--clean", action="store_true", help="bicubic /4 and crf 8 instead of real footage")
    parser.add_argument("--as-is", action="store_true", help="--clips are low resolution already: only write --sheet")
    parser.add_argument("--work", type=Path, help="keep LR files and the images of Real-ESRGAN here")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path, help="PNG with the last measured frame of every clip and row")
    args = parser.parse_args()
    clips = args.clips or sorted(Path("data/public/gt").iterdir())
    width, _, height = args.crop.partition("x")
    crop = (int(height), int(width)) if height else None
    makers = restorers(args.rows, args.weights, args.work)
    if args.as_is:
        if not (args.clips and args.sheet):
            parser.error("--as-is needs --clips and --sheet")
        show_as_is(clips, makers, args.frames, crop, args.sheet)
        return
    tools = Toolbox(WeightStore(args.metric_weights))
    scores: dict[str, list[dict[str, ClipScore]]] = {row: [] for row in makers}
    seconds = dict.fromkeys(makers, 0.0)
    sheet: list[list[Tensor]] = []
    frames = 0
    for path in clips:
        truth = load_truth(path, args.frames, crop)
        setting = draw_setting(path.stem, args.seed)
        frames += len(truth)
        print(f"{path.stem}: {tuple(truth.shape)}, {'clean' if args.clean else setting}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            file = footage(truth, path.stem, setting, scratch, args.work, clean=args.clean)
            lr = read_all(file)
            shown = []
            for row, make in makers.items():
                started = time.monotonic()
                restored = make(file, lr, scratch)
                seconds[row] += time.monotonic() - started
                scores[row].append(measure(restored, truth, tools))
                shown.append(restored[(len(truth) - 1) // EVERY * EVERY])
                values = {name: score.mean for name, score in scores[row][-1].items()}
                print(f"  {row:15s}" + "".join(f" {name} {value:.3f}" for name, value in values.items()), flush=True)
            sheet.append([*shown, truth[(len(truth) - 1) // EVERY * EVERY]])
    table = summary(scores, seconds, frames)
    if args.work is not None:
        for one in table.values():
            one["fps"] = float("nan")
    print_table(table)
    if args.json:
        args.json.write_text(json.dumps(table, indent=1) + "\n")
    if args.sheet:
        write_sheet(sheet, [*makers, "truth"], args.sheet)


def show_as_is(
    clips: list[Path],
    makers: dict[str, Callable[[Path, Tensor, Path], Tensor]],
    frames: int,
    crop: tuple[int, int] | None,
    sheet: Path,
) -> None:
    """The sheet of low-resolution clips as they are; networks that run frame by frame only see the frame shown."""
    lines = []
    for path in clips:
        lr = load_truth(path, frames, crop)
        at = (len(lr) - 1) // EVERY * EVERY
        print(f"{path.stem}: frame {at} of {tuple(lr.shape)}", flush=True)
        cells = []
        with tempfile.TemporaryDirectory() as folder:
            scratch = Path(folder)
            options = EncodeOptions(codec="ffv1", copy_streams=False)
            file = scratch / f"{path.stem}.mkv"
            with VideoWriter(
                file, source=None, size=(lr.shape[-2], lr.shape[-1]), options=options, overwrite=True
            ) as out:
                for frame in lr:
                    out.write(frame)
            for row, make in makers.items():
                is_single = row == "bicubic" or row in PEERS
                made = make(file, lr[at : at + 1] if is_single else lr, scratch)
                cells.append(made[0 if is_single else at])
        lines.append(cells)
    write_sheet(lines, list(makers), sheet)


def summary(
    scores: dict[str, list[dict[str, ClipScore]]], seconds: dict[str, float], frames: int
) -> dict[str, dict[str, object]]:
    """Means over the clips."""
    table: dict[str, dict[str, object]] = {}
    for row, clips in scores.items():
        names = clips[0]
        one: dict[str, object] = {name: float(np.mean([clip[name].mean for clip in clips])) for name in names}
        steps = zip(*(clip["lpips_alex"].values[::EVERY] for clip in clips), strict=False)
        one["lpips_by_frame"] = [float(np.mean(step)) for step in steps]
        one["fps"] = frames / seconds[row]
        one["clips"] = [{name: clip[name].mean for name in names} for clip in clips]
        table[row] = one
    return table


def print_table(table: dict[str, dict[str, object]]) -> None:
    """The means, for people."""
    heads = ("PSNR-Y", "LPIPS", "DISTS", "NIQE", "tOF", "warping", "fps")
    print(f"\n{'':16}" + "".join(f"{head:>9}" for head in heads) + "   LPIPS at 0, 4, ... (last minus first)")
    for row, one in table.items():
        cells = [f"{one[name]:9.3f}" for name in (*METRICS.split(","), "fps")]
        steps = one["lpips_by_frame"]
        by_frame = ", ".join(f"{value:.3f}" for value in steps)
        print(f"{row:16}" + "".join(cells) + f"   {by_frame} ({steps[-1] - steps[0]:+.3f})")


def write_sheet(sheet: list[list[Tensor]], names: list[str], path: Path, side: int = 256) -> None:
    """Middles of frames: one line a clip, one column a row of the table."""
    lines = []
    for images in sheet:
        cells = []
        for name, image in zip(names, images, strict=True):
            top, left = (max(0, (n - side) // 2) for n in image.shape[-2:])
            part = image[:, top : top + side, left : left + side].clamp(0, 1).mul(255).round().byte()
            cell = cv2.cvtColor(np.ascontiguousarray(part.permute(1, 2, 0).numpy()), cv2.COLOR_RGB2BGR)
            for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
                cv2.putText(cell, name, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
            cells.append(cell)
        lines.append(np.hstack(cells))
    smallest = min(line.shape[1] for line in lines)
    cv2.imwrite(str(path), np.vstack([line[:, :smallest] for line in lines]))


if __name__ == "__main__":
    main()
