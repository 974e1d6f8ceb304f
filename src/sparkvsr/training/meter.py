"""How well a run uses its device: arithmetic a second, share of what the device can do, waiting for data, memory."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.utils._python_dispatch import TorchDispatchMode

from sparkvsr.data.samples import TrainBatch
from sparkvsr.models.tracing import flop_counter

PEAK_TFLOPS = {
    "GB200": 2500.0,
    "B200": 2250.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100": 989.0,
    "A100": 312.0,
    "L40S": 362.0,
    "RTX 5090": 209.5,
    "RTX 4090": 165.2,
    "RTX 3090": 71.0,
}
"""Dense bf16 products with float32 sums, in TFLOP/s, from the makers' data sheets; the first name that fits counts."""


class _Arithmetic(TorchDispatchMode):
    """Counts operations and lets each run as it is.

    PyTorch's own counter takes apart what it does not know, ``silu_backward`` for one, which rounds otherwise: the step
    that is counted would not be the step of a run in which it is not, and a resumed run counts others.
    """

    def __init__(self) -> None:
        super().__init__()
        self._known = flop_counter().flop_registry
        self.flops = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        count = self._known.get(getattr(func, "_overloadpacket", None))
        if count is not None:
            self.flops += int(count(*args, **(kwargs or {}), out_val=result))
        return result


class StepMeter(Callback):
    """Figures of the steps since it was last asked.

    The arithmetic of a micro-batch is counted once for each size of batch, on the first one. It is all that the device
    does, what gradient checkpointing computes again included; without that it would be the model's own (MFU).

    Args:
        peak_tflops: of one device; None knows some GPUs by name.
    """

    def __init__(self, peak_tflops: float | None = None) -> None:
        self._peak = peak_tflops
        self._counted: dict[tuple[int, ...], int] = {}
        self._counter: _Arithmetic | None = None
        self._forget()
        self._idle_since: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        del pl_module
        if self._peak is None:
            self._peak = known_peak(trainer.strategy.root_device)
        self._forget()
        self._idle_since = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Here waiting for data ends."""
        del trainer, pl_module, batch_idx
        if self._idle_since is not None:
            self._waited += time.monotonic() - self._idle_since
        if isinstance(batch, TrainBatch) and tuple(batch.hr.shape) not in self._counted:
            self._counter = _Arithmetic()
            self._counter.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Here it begins."""
        del trainer, pl_module, outputs, batch_idx
        shape = tuple(batch.hr.shape) if isinstance(batch, TrainBatch) else ()
        self._close(shape)
        self._flops += self._counted.get(shape, 0)
        self._idle_since = time.monotonic()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Count no more."""
        del trainer, pl_module, exception
        self._close(None)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation is no step."""
        del trainer, pl_module
        self._idle_since = None

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew after it."""
        del trainer, pl_module
        self._forget()
        self._idle_since = time.monotonic()

    def take(self, device: torch.device) -> dict[str, float]:
        """Figures since the last time, by name; then begin anew.

        Args:
            device: that the steps ran on.

        Returns:
            ``tflops`` (10^12 a second), ``utilisation`` (share of the device's peak, where that is known),
            ``data_wait`` (share of the time), ``gpu_memory_gib`` and ``gpu_memory_reserved_gib`` (most so far, CUDA).
        """
        seconds = time.monotonic() - self._since
        if seconds <= 0:
            return {}
        figures = {"tflops": self._flops / seconds / 1e12, "data_wait": min(1.0, self._waited / seconds)}
        if self._peak:
            figures["utilisation"] = figures["tflops"] / self._peak
        if device.type == "cuda":
            figures["gpu_memory_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
            figures["gpu_memory_reserved_gib"] = torch.cuda.max_memory_reserved(device) / 2**30
        self._forget()
        return figures

    def _close(self, shape: tuple[int, ...] | None) -> None:
        if self._counter is None:
            return
        self._counter.__exit__(None, None, None)
        if shape:
            self._counted[shape] = self._counter.flops
        self._counter = None

    def _forget(self) -> None:
        self._since = time.monotonic()
        self._flops, self._waited = 0, 0.0


def known_peak(device: torch.device) -> float | None:
    """TFLOP/s of a GPU in bf16 by its name; None for others."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in PEAK_TFLOPS.items() if all(word in name for word in part.split())), None)
