"""Train the keyframe upscaler of `lite` on random crops of the training photos. Resumes from --out/last.pt by itself.

python benchmarks/lite_training/train_upscaler.py --out /work/scratch/lite/upscaler --minutes 60
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from degradation import shrink_by_four
from make_samples import load_photos
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.models.lite.network import KeyframeUpscalerNet, UpscalerConfig


def draw(photos: list[NDArray], batch: int, crop: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
    """A batch ``(lr, hr)``: 60% clean, 25% JPEG, 15% blurred or noisy; flips, transposition, shrunk photos."""
    lows, highs = [], []
    side = 4 * crop
    for _ in range(batch):
        photo = photos[int(rng.integers(len(photos)))]
        factor = float(rng.choice([1.0, 1.0, rng.uniform(0.5, 1.0)]))
        need = int(np.ceil(side / factor))
        if need > min(photo.shape[:2]):
            factor, need = 1.0, side
        tries = []
        for _ in range(2):
            y, x = (int(rng.integers(0, n - need + 1)) for n in photo.shape[:2])
            tries.append(photo[y : y + need, x : x + need])
        image = max(tries, key=lambda p: float(p[::4, ::4].std()))
        if factor < 1:
            image = cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA)
        if rng.random() < 0.5:
            image = image[:, ::-1]
        if rng.random() < 0.5:
            image = image.transpose(1, 0, 2)
        image = np.ascontiguousarray(image if rng.random() < 0.5 else image[::-1])
        kind, source = rng.random(), image
        if kind > 0.92:
            source = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.6))
        low = shrink_by_four(source[None])[0]
        if kind > 0.92 or kind > 0.85:
            low = np.clip(low + rng.normal(0, rng.uniform(0.5, 5), low.shape) + 0.5, 0, 255).astype(np.uint8)
        elif kind > 0.6:
            quality = int(rng.integers(35, 96))
            low = cv2.imdecode(cv2.imencode(".jpg", low, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
        lows.append(low)
        highs.append(image)
    to_tensor = lambda images: torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div_(255)  # noqa: E731
    return to_tensor(lows), to_tensor(highs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("/work/shared/data/train"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--batch", type=int, default=12)
    parser.add_argument("--crop", type=int, default=40)
    parser.add_argument("--learning-rate", type=float, default=6e-4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed + int(time.time()))
    photos = load_photos(args.data)
    net = KeyframeUpscalerNet(UpscalerConfig()).to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.learning_rate, betas=(0.9, 0.99))
    step, spent, last = 0, 0.0, args.out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    begin = mark = time.monotonic()
    losses = []
    while True:
        progress = min(1.0, (spent + time.monotonic() - begin) / (args.minutes * 60))
        for group in optimizer.param_groups:
            warmup = min(1.0, (step + 1) / 100)
            group["lr"] = args.learning_rate * warmup * (0.5 * (1 + math.cos(math.pi * progress)) * 0.98 + 0.02)
        lr, hr = draw(photos, args.batch, args.crop, rng)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = net(lr.contiguous(memory_format=torch.channels_last))
        loss = torch.sqrt((out.float() - hr).square() + 1e-6).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.2)
        optimizer.step()
        step += 1
        losses.append(float((out.detach().float() - hr).square().mean()))
        with torch.no_grad():
            decay = min(0.998, (step + 1) / (step + 10))
            for target, source in zip(average.parameters(), net.parameters(), strict=True):
                target.lerp_(source, 1 - decay)
        if step % 100 == 0:
            rate, mark = 100 / (time.monotonic() - mark), time.monotonic()
            psnr = -10 * math.log10(np.mean(losses[-100:]))
            print(f"{step} {psnr:.3f} dB {rate:.2f} steps/s {progress:.3f}", flush=True)
        if step % 400 == 0 or progress >= 1:
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "spent": spent + time.monotonic() - begin,
            }
            torch.save(state, args.out / "next.pt")
            (args.out / "next.pt").replace(last)
        if progress >= 1:
            break


if __name__ == "__main__":
    main()
