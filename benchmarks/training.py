"""How fast training runs: the data pipeline alone, the step alone, both together, and the memory it takes.

    python benchmarks/training.py stage=1                        (any overrides of sparkvsr train)
    python benchmarks/training.py --precompute stage=1 degradation=corrected
    python benchmarks/training.py --workers 1 --rounds 5 stage=1 model=lite

Samples per second; `both` is a real run through Lightning. The goal is that `both` reaches 90% of the slower of `data`
and `step`. On a CPU that is only a fair question if both sides together have as many threads as there are cores: the
step is measured, and run, with the cores that the loader processes leave (`sparkvsr.data.datamodule.shared_cores`).
Rounds measure one after the other; the figures are medians, `both_of_slower` is the median of the rounds' ratios.
`--precompute` also measures the data pipeline reading precomputed samples, and the CPU seconds that each way takes.
`--parts` measures instead what a sample costs in CPU seconds, by parts: reading, degradation by the loader and what is
left of it with `degradation.device=cuda` (codecs), and how many cores so many GPUs need both ways:

    python benchmarks/training.py --parts --gpus 8 stage=1 model=cogvideox ... (as for a run)
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from sparkvsr.config import compose_config
from sparkvsr.data.datamodule import prepare_fork, shared_cores, use_one_thread
from sparkvsr.data.precomputed import PrecomputedPairs
from sparkvsr.data.raw_clips import as_float
from sparkvsr.data.sampler import StepSampler
from sparkvsr.data.samples import SampleRequest, collate
from sparkvsr.training.build import build, build_adapter, build_pairs, build_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=12, help="optimiser steps of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, help="loader processes, data.num_workers")
    parser.add_argument("--precompute", action="store_true")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--on-device", action="store_true", help="of --parts: also the steps by torch on this CPU")
    parser.add_argument("--samples", type=int, default=6, help="of --parts")
    parser.add_argument("--gpus", type=int, default=8, help="of --parts")
    parser.add_argument("--tflops", type=float, default=400, help="of --parts: what one GPU does in training, assumed")
    parser.add_argument("--sample-tflop", type=float, default=330, help="of --parts: work of a sample (stage 1: 330)")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    if args.parts:
        report_parts(args)
        return
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["logger=none", "data.validation=null", "export_at_end=false", f"trainer.max_steps={args.steps}"]
        workers = [] if args.workers is None else [f"data.num_workers={args.workers}"]
        config = compose_config([*args.overrides, *fixed, *workers, f"paths.output_dir={folder}/run"])
        device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
        result: dict[str, Any] = {"device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu"}
        on_cpu_workers = config.data.num_workers if device.type == "cpu" else 0
        with shared_cores(on_cpu_workers) as threads:
            result |= {"threads": threads, "workers": config.data.num_workers, "overrides": args.overrides}
            adapter = build_adapter(config)
            pairs = build_pairs(config, adapter, None)
            rounds = []
            for number in range(args.rounds):
                run = Path(folder) / f"run{number}"
                data, step = data_rate(pairs, config, args.steps), step_rate(adapter, pairs, config, args.steps, device)
                both = run_rate(config, run)
                rounds.append({"data": data, "step": step, "both": both, "both_of_slower": both / min(data, step)})
        result |= {key: statistics.median(one[key] for one in rounds) for key in rounds[0]}
        result["rounds"] = [round(one["both_of_slower"], 3) for one in rounds]
        if args.precompute:
            result |= precompute_rates(pairs, config, Path(folder) / "kept", args.steps)
        result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if device.type == "cuda":
            result["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    for key, value in result.items():
        print(f"{key:28} {value:.3f}" if isinstance(value, float) else f"{key:28} {value}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def report_parts(args: argparse.Namespace) -> None:
    """CPU seconds of a sample by parts, and cores for the given GPUs; needs no model."""
    from sparkvsr.degradation.on_device import run_steps_on_device
    from sparkvsr.degradation.steps import Codec, run_steps

    use_one_thread(0)
    prepare_fork(1)
    config = compose_config([*args.overrides, "paths.output_dir=unused", "data.validation=null"])
    pairs = build_pairs(config, None, None)
    pairs.made_on = "cpu"
    spent = {"read": 0.0, "codecs": 0.0, "other steps": 0.0}
    if args.on_device:
        spent["other steps, torch on this CPU"] = 0.0
    pairs[SampleRequest(0)]  # opens files
    for number in range(1, args.samples + 1):
        begin = time.process_time()
        raw = pairs[SampleRequest(number)].raw
        spent["read"] += time.process_time() - begin
        clip = as_float(raw.frames)
        for step in raw.steps:
            is_codec, before = isinstance(step, Codec), clip
            begin = time.process_time()
            clip = run_steps(before, [step])
            spent["codecs" if is_codec else "other steps"] += time.process_time() - begin
            if not is_codec and args.on_device:
                begin = time.process_time()
                run_steps_on_device(before, [step])
                spent["other steps, torch on this CPU"] += time.process_time() - begin
    each = {name: seconds / args.samples for name, seconds in spent.items()}
    loader, device = each["read"] + each["codecs"] + each["other steps"], each["read"] + each["codecs"]
    rate = args.gpus * args.tflops / args.sample_tflop
    for name, seconds in each.items():
        print(f"{name:34} {seconds:6.2f} CPU seconds a sample")
    print(
        f"{args.gpus} GPUs at {args.tflops:g} TFLOP/s: {rate:.1f} samples a second of {args.sample_tflop:g} TFLOP each"
    )
    print(f"{'degradation.device=loader':34} {loader:6.2f} CPU seconds a sample, {rate * loader:6.1f} cores")
    print(f"{'degradation.device=cuda':34} {device:6.2f} CPU seconds a sample, {rate * device:6.1f} cores")


def precompute_rates(pairs: Any, config: Any, folder: Path, steps: int) -> dict[str, float]:
    """Samples made on the fly against samples read from disk: per second of the loader, and in CPU seconds each."""
    store = PrecomputedPairs(pairs, folder, 2 * config.data.batch_size, seed=0)
    store.make(is_image=False)
    fly, kept = cpu_seconds(pairs, 2 * config.data.batch_size), cpu_seconds(store, 2 * config.data.batch_size)
    rate, rate_kept = data_rate(pairs, config, steps, images=False), data_rate(store, config, steps, images=False)
    return {
        "data_precomputed": rate_kept,
        "precomputed_speedup": rate_kept / rate,
        "cpu_seconds_on_the_fly": fly,
        "cpu_seconds_precomputed": kept,
        "precomputed_speedup_cpu": fly / kept,
    }


def cpu_seconds(dataset: Any, count: int) -> float:
    """CPU seconds of one clip, made in this process: this does not depend on what else the machine does."""
    before = torch.get_num_threads()
    use_one_thread(0)
    prepare_fork(1)
    dataset[SampleRequest(0)]
    begin = time.process_time()
    for number in range(1, count + 1):
        dataset[SampleRequest(number)]
    seconds = (time.process_time() - begin) / count
    torch.set_num_threads(before)
    return seconds


def data_rate(dataset: Any, config: Any, steps: int, *, images: bool = True) -> float:
    """Samples per second of the loader, what it has ready at the start left out."""
    workers, prefetch = config.data.num_workers, config.data.prefetch
    ready = workers * prefetch + 1
    sampler = StepSampler(
        config.data.batch_size, max_steps=steps + ready, image_ratio=config.data.image_ratio if images else 0.0
    )
    prepare_fork(workers)
    loader = DataLoader(
        dataset,
        batch_sampler=sampler,
        collate_fn=collate,
        num_workers=workers,
        prefetch_factor=prefetch if workers else None,
        worker_init_fn=use_one_thread,
    )
    batches = iter(loader)
    for _ in range(ready):
        next(batches)
    begin, count = time.perf_counter(), 0
    for batch in batches:
        count += batch.size
    return count / (time.perf_counter() - begin)


def step_rate(adapter: Any, pairs: Any, config: Any, steps: int, device: torch.device) -> float:
    """Samples per second of forward, loss, backward and optimiser step on batches that lie in memory."""
    from sparkvsr.training.module import RestorationTraining

    module = RestorationTraining(adapter, build(config.loss, "loss"), build(config.optimizer.build, "optimizer")).to(
        device
    )
    optimizer = module.configure_optimizers()
    sampler = StepSampler(config.data.batch_size, max_steps=4, image_ratio=config.data.image_ratio)
    batches = [collate([pairs[request] for request in requests]).to(device) for requests in sampler]
    precision = str(config.trainer.precision)
    begin, count = 0.0, 0
    for number in range(steps + 1):
        if number == 1:
            begin = time.perf_counter()
        batch = batches[number % len(batches)]
        with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
            loss = module.compute_terms(batch)["loss"]
        loss.backward()
        torch.nn.utils.clip_grad_norm_(adapter.network.parameters(), config.trainer.gradient_clip_val)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if number:
            count += batch.size
    if device.type == "cuda":
        torch.cuda.synchronize()
    return count / (time.perf_counter() - begin)


def run_rate(config: Any, folder: Path) -> float:
    """Samples per second of a real run, the steps served from what was ready at the start left out."""
    marks: dict[int, float] = {}

    def hook(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            marks[event["step"]] = time.perf_counter()

    folder.mkdir(parents=True)
    config = config.copy()
    first = config.data.num_workers * config.data.prefetch + 1
    config.trainer.max_steps += first
    # Room for the checkpoint lies behind the last step that counts.
    config.callbacks.checkpoint_every = config.trainer.max_steps + 1
    run = build_run(config, folder, hook, {})
    run.trainer.fit(run.module, datamodule=run.data)
    last = max(marks)
    samples = (last - first) * config.data.batch_size * config.trainer.accumulate_grad_batches
    return samples / (marks[last] - marks[first])


if __name__ == "__main__":
    main()
