"""How fast training runs: the data pipeline alone, the step alone, both together, and the memory it takes.

    python benchmarks/training.py stage=1                        (any overrides of sparkvsr train)
    python benchmarks/training.py --precompute stage=1 degradation=corrected

Samples per second; `both` is a real run through Lightning. With loader processes the goal is that `both` reaches 90% of
the slower of `data` and `step`. `--precompute` also measures the data pipeline reading precomputed samples.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader

from sparkvsr.config import compose_config
from sparkvsr.data.precomputed import PrecomputedPairs
from sparkvsr.data.sampler import StepSampler
from sparkvsr.data.samples import collate
from sparkvsr.training.build import build, build_adapter, build_pairs, build_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("overrides", nargs="*")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--precompute", action="store_true")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["logger=none", "data.validation=null", "export_at_end=false", f"trainer.max_steps={args.steps}"]
        config = compose_config([*args.overrides, *fixed, f"paths.output_dir={folder}/run"])
        device = torch.device("cuda" if config.trainer.accelerator == "gpu" else "cpu")
        result: dict[str, Any] = {"device": torch.cuda.get_device_name(0) if device.type == "cuda" else "cpu"}
        result |= {"threads": torch.get_num_threads(), "workers": config.data.num_workers, "overrides": args.overrides}
        adapter = build_adapter(config)
        pairs = build_pairs(config, adapter, None)
        result["data"] = data_rate(pairs, config, args.steps)
        if args.precompute:
            store = PrecomputedPairs(pairs, Path(folder) / "kept", 2 * config.data.batch_size, seed=0)
            for is_image in (False, True):
                store.make(is_image=is_image)
            result["data_precomputed"] = data_rate(store, config, args.steps)
            result["precomputed_speedup"] = result["data_precomputed"] / result["data"]
        result["step"] = step_rate(adapter, pairs, config, args.steps, device)
        result["both"] = run_rate(config, Path(folder) / "run")
        result["both_of_slower"] = result["both"] / min(result["data"], result["step"])
        result["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if device.type == "cuda":
            result["peak_gpu_memory_mb"] = torch.cuda.max_memory_allocated() / 2**20
    for key, value in result.items():
        print(f"{key:22} {value:.3f}" if isinstance(value, float) else f"{key:22} {value}")
    if args.json:
        args.json.write_text(json.dumps(result, indent=2) + "\n")


def data_rate(dataset: Any, config: Any, steps: int) -> float:
    """Samples per second of the loader, the first batch left out."""
    sampler = StepSampler(config.data.batch_size, max_steps=steps, image_ratio=config.data.image_ratio)
    workers = config.data.num_workers
    loader = DataLoader(dataset, batch_sampler=sampler, collate_fn=collate, num_workers=workers)
    batches = iter(loader)
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
    """Samples per second of a real run, the first two steps left out."""
    marks: dict[int, float] = {}

    def hook(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            marks[event["step"]] = time.perf_counter()

    folder.mkdir(parents=True)
    run = build_run(config, folder, hook, {})
    run.trainer.fit(run.module, datamodule=run.data)
    steps = sorted(marks)
    seconds = marks[steps[-1]] - marks[steps[1]]
    return (steps[-1] - steps[1]) * config.data.batch_size * config.trainer.accumulate_grad_batches / seconds


if __name__ == "__main__":
    main()
