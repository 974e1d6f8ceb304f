"""Train the propagator of `lite` on precomputed samples. Resumes from --out/last.pt by itself.

python benchmarks/lite_training/train_propagator.py --samples /work/scratch/lite/samples --out /work/scratch/lite/prop
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from samples import SampleStore, corrupt_keyframes
from torch import Tensor

from sparkvsr.models.lite.network import (
    ROUND_TRIP_LR_PX,
    KeyframeUpscalerNet,
    Previous,
    PropagatorConfig,
    PropagatorNet,
    Reference,
    UpscalerConfig,
    agreement_of,
    propagate_step,
    trust,
)


def sequence_loss(
    net: PropagatorNet, batch: dict[str, Tensor], keep: Tensor, still_frames: int = 0
) -> tuple[Tensor, Tensor]:
    """Charbonnier loss over a window, and the squared error for the log.

    Args:
        net: being trained.
        batch: as ``SampleStore.draw`` gives it.
        keep: 0 where the keyframe is taken away.
        still_frames: the first frame is repeated that often before the window, without gradients: what a short window
            learns must not drift when it is applied over and over.
    """
    lr, hr = batch["lr"], batch["hr"]
    agreement = agreement_of(batch["key_hr"], batch["key_lr"])
    previous, losses, errors, history = None, [], [], []
    for t in [0] * still_frames + list(range(lr.shape[1])):
        frame = lr[:, t].contiguous(memory_format=torch.channels_last)
        reference = Reference(
            batch["key_lr"],
            batch["key_hr"],
            agreement,
            batch["to_key"][:, t],
            trust(batch["round_trip"][:, t], ROUND_TRIP_LR_PX) * keep,
        )
        burning_in = len(history) < still_frames
        if previous is not None:
            # While the first frame is repeated, and once more when the window starts, nothing moves.
            previous.flow = batch["step"][:, t] * float(len(history) > still_frames)
        with torch.set_grad_enabled(not burning_in):
            result = propagate_step(net, frame, previous, reference)
        history.append(t)
        previous = Previous(frame, result.output, result.hidden, batch["step"][:, t], torch.ones(len(frame), 1, 1, 1))
        if burning_in:
            continue
        difference = result.output - hr[:, t]
        losses.append(torch.sqrt(difference.square() + 1e-6).mean())
        errors.append(difference.detach().square().mean(dim=(1, 2, 3)))
    return torch.stack(losses).mean(), torch.stack(errors).mean(0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=Path, nargs="+", required=True)
    parser.add_argument("--sample-weights", type=float, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--upscaler", type=Path, help="last.pt of train_upscaler.py, for keyframes of its making")
    parser.add_argument("--minutes", type=float, default=90)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=5e-4)
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peer", type=Path, help="last.pt of a second training: weights are averaged as both go on")
    parser.add_argument("--limit-steps", type=int, default=10**9)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(args.seed + int(time.time()))
    store = SampleStore(args.samples, args.sample_weights)
    net = PropagatorNet(PropagatorConfig()).to(memory_format=torch.channels_last)
    average = copy.deepcopy(net)
    optimizer = torch.optim.Adam(net.parameters(), lr=args.learning_rate, betas=(0.9, 0.99))
    upscale = None
    if args.upscaler is not None:
        maker = KeyframeUpscalerNet(UpscalerConfig()).to(memory_format=torch.channels_last).eval()
        maker.load_state_dict(torch.load(args.upscaler, weights_only=True)["average"])

        @torch.no_grad()
        def upscale(lr: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return maker(lr.contiguous(memory_format=torch.channels_last)).float()

    step, spent = 0, 0.0
    last = args.out / "last.pt"
    if last.exists():
        state = torch.load(last, weights_only=True)
        net.load_state_dict(state["net"])
        average.load_state_dict(state["average"])
        optimizer.load_state_dict(state["optimizer"])
        step, spent = state["step"], state["spent"]
    begin = mark = time.monotonic()
    seen: list[tuple[float, float]] = []
    first_step = step
    met = 0.0
    while step - first_step < args.limit_steps:
        elapsed = spent + time.monotonic() - begin
        progress = min(1.0, elapsed / (args.minutes * 60))
        warmup = min(1.0, (step + 1) / 100)
        for group in optimizer.param_groups:
            group["lr"] = args.learning_rate * warmup * (0.5 * (1 + math.cos(math.pi * progress)) * 0.98 + 0.02)
        batch = store.draw(args.batch, rng, args.frames)
        keep = corrupt_keyframes(batch, rng, upscale)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            still = int(rng.integers(2, 11)) if rng.random() < 0.35 else 0
            loss, errors = sequence_loss(net, batch, keep, still)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 0.2)
        optimizer.step()
        step += 1
        with torch.no_grad():
            decay = min(args.ema, (step + 1) / (step + 10))
            for target, source in zip(average.parameters(), net.parameters(), strict=True):
                target.lerp_(source, 1 - decay)
        kept = keep.flatten() > 0
        seen.append((float(loss.detach()), float(errors[~kept].mean()) if (~kept).any() else math.nan))
        if step % 50 == 0:
            values = np.array(seen[-50:])
            rate = 50 / (time.monotonic() - mark)
            mark = time.monotonic()
            psnr = -10 * math.log10(np.nanmean(values[:, 1]))
            print(
                f"{step} loss {values[:, 0].mean():.5f} blind {psnr:.2f} dB {rate:.2f} steps/s {progress:.3f}",
                flush=True,
            )
        if step % 50 == 0 or progress >= 1:
            if step % 400 == 0:
                store.refresh()
            state = {
                "net": net.state_dict(),
                "average": average.state_dict(),
                "optimizer": optimizer.state_dict(),
                "step": step,
                "spent": spent + time.monotonic() - begin,
            }
            torch.save(state, args.out / "next.pt")
            (args.out / "next.pt").replace(last)
            if args.peer is not None and args.peer.exists() and args.peer.stat().st_mtime > met:
                met = args.peer.stat().st_mtime
                other = torch.load(args.peer, weights_only=True)["net"]
                with torch.no_grad():
                    for name, parameter in net.named_parameters():
                        parameter.lerp_(other[name], 0.5)
        if progress >= 1:
            break


if __name__ == "__main__":
    main()
