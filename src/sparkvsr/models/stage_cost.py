"""What each stage of a model costs on this machine: seconds, FLOPs, share of the measured matmul rate, memory.

Works for any ``RestorationModel``. A model whose ``pipeline`` has a stage hook (this package's) is measured stage by
stage; for any other the whole session is the one stage ``restore``. ``read`` and ``write`` are measured where given.
"""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from sparkvsr.models.interface import Keyframe, RestorationModel, ShotRequest
from sparkvsr.models.tracing import flop_counter

STAGES = ("read", "encode", "transformer", "restore", "decode", "write")


@dataclass
class StageCost:
    """One stage.

    Attributes:
        seconds: wall time, all chunks.
        flops: by flop counter; None where nothing is counted.
        peak_bytes: most device memory in use; None on the CPU.
        share: of the measured matmul rate; None without FLOPs.
    """

    seconds: float = 0.0
    flops: int | None = None
    peak_bytes: int | None = None
    share: float | None = None


@dataclass
class Profile:
    """A measurement; ``to_json`` and ``to_text`` print it."""

    model: str
    device: str
    dtype: str
    num_frames: int
    size: tuple[int, int]
    seconds: float
    fps: float
    matmul_tflops: float
    peak_process_bytes: int
    stages: dict[str, StageCost] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """All numbers, SI units, FLOPs and bytes as integers."""
        return json.dumps(asdict(self), indent=2)

    def to_text(self) -> str:
        """A table for people."""
        head = (
            f"{self.model} on {self.device} ({self.dtype}): {self.num_frames} frames of {self.size[1]}x{self.size[0]} "
            f"in {self.seconds:.2f} s = {self.fps:.2f} fps; matmul {self.matmul_tflops:.2f} TFLOP/s, "
            f"peak of the process {self.peak_process_bytes / 2**30:.2f} GiB"
        )
        lines = [head, f"{'stage':12} {'seconds':>9} {'TFLOP':>9} {'TFLOP/s':>9} {'of matmul':>9} {'peak GiB':>9}"]
        for name, cost in self.stages.items():
            tera = "-" if cost.flops is None else f"{cost.flops / 1e12:.4f}"
            rate = "-" if not cost.flops or not cost.seconds else f"{cost.flops / 1e12 / cost.seconds:.3f}"
            share = "-" if cost.share is None else f"{cost.share:.0%}"
            peak = "-" if cost.peak_bytes is None else f"{cost.peak_bytes / 2**30:.2f}"
            lines.append(f"{name:12} {cost.seconds:9.3f} {tera:>9} {rate:>9} {share:>9} {peak:>9}")
        return "\n".join(lines)


class StageMeter:
    """Stage hook: sums seconds (``timing``) or FLOPs per stage."""

    def __init__(self, device: torch.device, *, timing: bool) -> None:
        self.costs: dict[str, StageCost] = {}
        self._device, self._timing = device, timing

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Measure the body as part of stage ``name``."""
        cost = self.costs.setdefault(name, StageCost())
        if not self._timing:
            with flop_counter() as counter:
                yield
            cost.flops = (cost.flops or 0) + int(counter.get_total_flops())
            return
        cuda = self._device.type == "cuda"
        if cuda:
            torch.cuda.synchronize(self._device)
            torch.cuda.reset_peak_memory_stats(self._device)
        start = time.perf_counter()
        try:
            yield
            if cuda:
                torch.cuda.synchronize(self._device)
        finally:
            cost.seconds += time.perf_counter() - start
            if cuda:
                cost.peak_bytes = max(cost.peak_bytes or 0, torch.cuda.max_memory_allocated(self._device))


def measure_matmul_rate(device: torch.device, dtype: torch.dtype, seconds: float = 0.5) -> float:
    """TFLOP/s of a large square matrix product: best of the runs that fit into ``seconds``."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, spent = float("inf"), 0.0
    for attempt in range(50):
        start = time.perf_counter()
        product = left @ right
        product[0, 0].item()  # waits for the device
        elapsed = time.perf_counter() - start
        spent += elapsed
        if attempt:
            best = min(best, elapsed)
        if spent > seconds and attempt >= 2:
            break
    return 2 * side**3 / best / 1e12


def profile_model(
    model: RestorationModel,
    *,
    lr_size: tuple[int, int],
    size: tuple[int, int],
    num_frames: int,
    chunk_frames: int | None = None,
    tile: int | None = None,
    keyframe_index: int | None = 0,
    guidance_scale: float = 1.0,
    read: Callable[[], Tensor] | None = None,
    write: Callable[[Tensor], object] | None = None,
    count_flops: bool = True,
) -> Profile:
    """Restore a synthetic shot, or one that ``read`` gives, and measure it.

    The shot runs twice where FLOPs are counted: the first, counted run also warms up.

    Args:
        model: any restoration model.
        lr_size: ``(h, w)``.
        size: ``(H, W)`` asked for; the model's working size is used.
        num_frames: of the shot.
        chunk_frames: frames at once; None takes the whole shot as upper bound.
        tile: as in ``ShotRequest``.
        keyframe_index: frame with a keyframe; None restores blind.
        guidance_scale: as in ``ShotRequest``.
        read: returns ``(num_frames, 3, h, w)``; measured as stage ``read``.
        write: takes the restored frames; measured as stage ``write``.
        count_flops: False saves the first run.
    """
    working = model.working_size(lr_size, size)
    timed = StageMeter(model.device, timing=True)
    counted = StageMeter(model.device, timing=False)

    def lr_frames(meter: StageMeter | None) -> Tensor:
        if read is None:
            generator = torch.Generator().manual_seed(0)
            return torch.rand(num_frames, 3, *lr_size, generator=generator)
        with meter("read") if meter is not None else nullcontext():
            return read()

    def restore(lr: Tensor, meter: StageMeter) -> Tensor:
        hr = torch.rand(3, *working, generator=torch.Generator().manual_seed(1))
        keyframes = {} if keyframe_index is None else {keyframe_index: Keyframe(lr[keyframe_index], hr)}
        request = ShotRequest(
            num_frames,
            lr_size,
            working,
            keyframes,
            guidance_scale=guidance_scale,
            chunk_frames=chunk_frames or num_frames,
            tile=tile,
        )
        with _hooked(model, meter):
            session = model.open_session(request)
            return torch.cat([session.push(lr), session.finish()])

    if count_flops:
        restore(lr_frames(None), counted)
    start = time.perf_counter()
    sr = restore(lr_frames(timed), timed)
    if write is not None:
        with timed("write"):
            write(sr)
    elapsed = time.perf_counter() - start

    rate = measure_matmul_rate(model.device, model.dtype)
    for name, cost in timed.costs.items():
        cost.flops = counted.costs[name].flops if name in counted.costs else None
        if cost.flops and cost.seconds:
            cost.share = cost.flops / 1e12 / cost.seconds / rate
    return Profile(
        model=model.name,
        device=_device_name(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        num_frames=num_frames,
        size=working,
        seconds=elapsed,
        fps=num_frames / elapsed,
        matmul_tflops=rate,
        peak_process_bytes=_peak_process_bytes(),
        stages={name: timed.costs[name] for name in STAGES if name in timed.costs},
        versions={"torch": torch.__version__, "python": platform.python_version()},
    )


@contextmanager
def _hooked(model: Any, meter: StageMeter) -> Iterator[None]:
    pipeline: Any = getattr(model, "pipeline", None)
    if not hasattr(pipeline, "stage"):
        with meter("restore"):
            yield
        return
    before: Callable[[str], AbstractContextManager[object]] = pipeline.stage
    pipeline.stage = meter
    try:
        yield
    finally:
        pipeline.stage = before


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type}, {torch.get_num_threads()} threads"


def _peak_process_bytes() -> int:
    if sys.platform == "win32":
        import psutil

        return int(psutil.Process().memory_info().peak_wset)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
