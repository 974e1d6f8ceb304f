"""Milliseconds a 720p frame for each default metric, beside pyiqa and torchmetrics where they are installed.

    python benchmarks/metrics.py [--threads 1] [--frames 6] [--json FILE]

Frames are the ``demo`` bench's page, enlarged to 1280x720, and its bicubic x4; values of different libraries are
printed too, because a fast wrong number is worth nothing.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import torch

from sparkvsr.evaluation.degrade import make_lr
from sparkvsr.evaluation.demo_clips import demo_clip
from sparkvsr.metrics import colour, fidelity
from sparkvsr.metrics.catalogue import METRICS, select_metrics
from sparkvsr.metrics.clip_meter import ClipMeter
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained.weights import WeightStore

GOAL_SECONDS = 0.35
GOAL_RATIO = 50


def clips(frames: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Restored and ground-truth frames, 1280x720."""
    size = (1280, 720)
    hr = [np.asarray(cv2.resize(f, size, interpolation=cv2.INTER_LANCZOS4)) for f in demo_clip("pan", frames).frames()]
    rng = np.random.default_rng(0)
    hr = [np.clip(f + rng.normal(0, 3, f.shape), 0, 255).astype(np.uint8) for f in hr]
    sr = [np.asarray(cv2.resize(make_lr(f, "bicubic", 4), size, interpolation=cv2.INTER_CUBIC)) for f in hr]
    return sr, hr


def seconds_per_frame(names: str, sr: list[np.ndarray], hr: list[np.ndarray], threads: int) -> tuple[float, float]:
    """Wall and CPU time of a frame: the quickest after the first, which has no pair metrics and warms caches."""
    specs = [spec for spec, _ in select_metrics(names)]
    times = []
    with ThreadPoolExecutor(threads) as pool:
        meter = ClipMeter(specs, Toolbox(WeightStore()), pool=pool if threads > 1 else None)
        for a, b in zip(sr, hr, strict=True):
            started = time.perf_counter(), time.process_time()
            meter.update(a, b)
            times.append((time.perf_counter() - started[0], time.process_time() - started[1]))
    return min(wall for wall, _ in times[1:]), min(cpu for _, cpu in times[1:])


def mean_of(name: str, sr: list[np.ndarray], hr: list[np.ndarray]) -> float:
    """Our value of one pair metric."""
    meter = ClipMeter([METRICS[name]], Toolbox(WeightStore()))
    for a, b in zip(sr, hr, strict=True):
        meter.update(a, b)
    return meter.finish()[name].mean or 0.0


def timed(call: Callable[[], object], repeats: int = 2) -> tuple[float, float, float]:
    """Best wall and CPU time of a call, and its value."""
    wall, cpu, value = float("inf"), float("inf"), 0.0
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        value = float(call())  # type: ignore[arg-type]
        wall = min(wall, time.perf_counter() - started[0])
        cpu = min(cpu, time.process_time() - started[1])
    return wall, cpu, value


def outside(sr: np.ndarray, hr: np.ndarray) -> dict[str, dict[str, tuple[float, float, float]]]:
    """The same metrics by other libraries: name -> library -> (wall seconds, CPU seconds, value)."""
    x, y = (torch.from_numpy(f.transpose(2, 0, 1)[None].copy()).float() / 255 for f in (sr, hr))
    found: dict[str, dict[str, tuple[float, float, float]]] = {
        name: {} for name in ("psnr", "psnr_y", "ssim", "ssim_yiq")
    }
    from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

    found["psnr"]["torchmetrics"] = timed(lambda: peak_signal_noise_ratio(x, y, data_range=1.0))
    found["ssim"]["torchmetrics"] = timed(lambda: structural_similarity_index_measure(x, y, data_range=1.0))
    if importlib.util.find_spec("pyiqa"):
        import pyiqa

        device = torch.device("cpu")
        for ours, theirs, options in (
            ("psnr", "psnr", {}), ("psnr_y", "psnry", {"color_space": "ycbcr"}), ("ssim", "ssimc", {}),
            ("ssim_yiq", "ssim", {}),
        ):  # fmt: skip
            metric = pyiqa.create_metric(theirs, device=device, **options)
            found[ours]["pyiqa"] = timed(lambda metric=metric: metric(x, y))  # type: ignore[misc]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--frames", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sr, hr = clips(options.frames)
    cv2.setNumThreads(options.threads)
    load = os.getloadavg()[0]
    print(f"{platform.machine()}, {options.threads} thread(s), load {load:.1f}, 1280x720, best of {options.frames - 1}")
    results: dict[str, object] = {"threads": options.threads}
    theirs = outside(sr[0], hr[0])
    print(f"{'metric':<12}{'ms':>9}{'CPU ms':>9}{'value':>12}   other libraries: ms, CPU ms, value, times slower (CPU)")
    ratios = {}
    for name in [*(spec.name for spec in METRICS.values() if spec.group == "default"), "ssim_yiq"]:
        wall, cpu = seconds_per_frame(name, sr, hr, options.threads)
        text = []
        for library, (their_wall, their_cpu, their_value) in theirs.get(name, {}).items():
            # The ratio is of CPU time, which a busy machine changes least.
            ratios[f"{name} {library}"] = their_cpu / cpu
            text.append(
                f"{library} {their_wall * 1e3:.0f} {their_cpu * 1e3:.0f}, {their_value:.5f}, {their_cpu / cpu:.0f}x"
            )
        value = first_frame(name, sr[0], hr[0]) if name in theirs else mean_of(name, sr[:2], hr[:2])
        print(f"{name:<12}{wall * 1e3:>9.1f}{cpu * 1e3:>9.1f}{value:>12.5f}   {'; '.join(text)}")
        results[name] = {"ms": wall * 1e3, "cpu_ms": cpu * 1e3, "value": value}
    wall, cpu = seconds_per_frame("default", sr, hr, options.threads)
    state = "met" if wall < GOAL_SECONDS else "MISSED"
    print(f"default set {wall:.3f} s a frame ({cpu:.3f} s of CPU), goal {GOAL_SECONDS}: {state}")
    for library in ("ssim pyiqa", "ssim_yiq pyiqa"):
        if library in ratios:
            state = "met" if ratios[library] >= GOAL_RATIO else "MISSED"
            print(f"{library}: {ratios[library]:.0f} times slower than ours, goal {GOAL_RATIO}: {state}")
    if load > options.threads + 1:
        print(f"load {load:.1f} on {os.cpu_count()} cores: wall times are stretched by other jobs, judge by CPU times")
    if not importlib.util.find_spec("pyiqa"):
        print("pyiqa is not installed: no comparison with it")
    if options.json:
        options.json.write_text(
            json.dumps({**results, "default_seconds": wall, "default_cpu_seconds": cpu, "ratios": ratios}, indent=1)
        )


def first_frame(name: str, sr: np.ndarray, hr: np.ndarray) -> float:
    """Our value of the frame that the other libraries get."""
    if name in {"psnr", "ssim"}:
        return fidelity.psnr(sr, hr)[0] if name == "psnr" else fidelity.ssim(sr, hr)
    if name == "psnr_y":
        return fidelity.psnr(colour.luma_bt601(sr), colour.luma_bt601(hr))[0]
    return fidelity.ssim(colour.luma_yiq_rounded(sr), colour.luma_yiq_rounded(hr), clamp_structure=True)


if __name__ == "__main__":
    main()
