"""The keyframe network of lite beside its teacher, on single frames made into real footage.

    python benchmarks/detail_keyframe.py CLIPS [--folder LITE_FOLDER] [--teacher FILE] [--weights METRIC_WEIGHTS]
        [--sheet FILE.png] [--frames 2]

Each clip (its first 13 frames) is blurred (sigma 1.0 to 2.4), reduced by 4, gets coloured noise (sigma 2 to 8 grey
levels) and goes through H.264 (crf 26 to 33). Of frames 0, 4, 8, 12 the first `--frames` are upscaled by bicubic, the
network and the teacher, and measured against the clip: PSNR-Y, LPIPS (alex), DISTS, NIQE.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from sparkvsr.data.samples import TrainSample
from sparkvsr.degradation.recorded import RecordedDegradation
from sparkvsr.metrics import Toolbox, WeightStore, colour, psnr_y
from sparkvsr.models.lite.detail import DetailUpscalerNet, load_detail_upscaler
from sparkvsr.training.teacher import Teacher
from sparkvsr.video import VideoReader

FRAMES, LENGTH = (0, 4, 8, 12), 13

Upscaler = Callable[[Tensor], Tensor]


def bicubic(lr: Tensor) -> Tensor:
    """``(3, h, w)`` to ``(3, 4h, 4w)``."""
    return torch.nn.functional.interpolate(lr[None], scale_factor=4, mode="bicubic", align_corners=False)[0].clamp(0, 1)


def by_network(network: DetailUpscalerNet) -> Upscaler:
    """bf16, as it runs on CPUs that have it."""
    fast = network.bfloat16().to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def upscale(lr: Tensor) -> Tensor:
        return fast(lr[None].bfloat16().contiguous(memory_format=torch.channels_last))[0].float().clamp(0, 1)

    return upscale


def footage(path: Path, number: int, count: int) -> tuple[Tensor, Tensor]:
    """LR and HR frames of a clip; the settings are spread over the clips."""
    with VideoReader(path, frames=LENGTH) as reader:
        hr = torch.stack([frame.pixels for frame in reader])
    hr = hr[..., : hr.shape[-2] // 4 * 4, : hr.shape[-1] // 4 * 4]
    share = number / max(1, count - 1)
    blur, noise, crf = 1.0 + 1.4 * share, 8.0 - 6.0 * share, round(26 + 7 * ((number * 3) % count) / max(1, count - 1))
    degrade = RecordedDegradation(
        blur_sigma=(blur, blur), noise_sigma=(noise, noise), noise_probability=1.0, crf=(crf, crf), extra_frames=0
    )
    return degrade(hr, np.random.default_rng(number)), hr


def main() -> None:
    """Print a table, write a sheet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clips", type=Path)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--teacher")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--sheet", type=Path)
    parser.add_argument("--frames", type=int, default=2, choices=range(1, 5))
    given = parser.parse_args()
    network = load_detail_upscaler(given.folder)
    makers: dict[str, Upscaler] = {"bicubic": bicubic}
    if network is not None:
        makers["detail"] = by_network(network)
    if given.teacher:
        teacher = Teacher(given.teacher)
        makers["teacher"] = lambda lr: teacher(TrainSample(lr[None], lr[None], lr[:0], []))[0]
    tools = Toolbox(WeightStore(given.weights))
    scores: dict[str, list[list[float]]] = {name: [] for name in makers}
    seconds = dict.fromkeys(makers, 0.0)
    rows = []
    paths = sorted(path for path in given.clips.iterdir() if path.suffix in {".mkv", ".mp4"})
    for number, path in enumerate(paths):
        lr, hr = footage(path, number, len(paths))
        for frame in FRAMES[: given.frames]:
            row = []
            for name, upscale in makers.items():
                begin = time.perf_counter()
                sr = upscale(lr[frame])
                seconds[name] += time.perf_counter() - begin
                scores[name].append(measured(sr, hr[frame], tools))
                row.append(sr)
            print(path.stem, frame, {name: np.round(scores[name][-1], 3).tolist() for name in makers}, flush=True)
            if frame == FRAMES[0]:
                rows.append(torch.cat([piece(image) for image in (*row, hr[frame])], dim=-1))
    print("| | PSNR-Y | LPIPS | DISTS | NIQE | s a frame |\n|---|---|---|---|---|---|")
    for name, values in scores.items():
        psnr, lpips, dists, niqe = np.mean(values, axis=0)
        print(f"| {name} | {psnr:.2f} | {lpips:.3f} | {dists:.3f} | {niqe:.2f} | {seconds[name] / len(values):.2f} |")
    if given.sheet:
        levels = (torch.cat(rows, dim=-2) * 255).round().byte().permute(1, 2, 0).numpy()
        cv2.imwrite(str(given.sheet), levels[..., ::-1])


def piece(image: Tensor, side: int = 320) -> Tensor:
    """The middle."""
    top, left = ((full - side) // 2 for full in image.shape[-2:])
    return image[:, top : top + side, left : left + side]


def measured(sr: Tensor, hr: Tensor, tools: Toolbox) -> list[float]:
    """PSNR-Y, LPIPS, DISTS, NIQE."""
    rounded = sr.mul(255).round().div(255)
    niqe = tools.niqe(colour.luma_yiq_rounded(colour.to_uint8(sr)))
    distances = [network(rounded[None], hr[None]) for network in (tools.lpips_alex, tools.dists)]
    return [psnr_y(sr, hr), *distances, float("nan") if niqe is None else niqe]


if __name__ == "__main__":
    main()
