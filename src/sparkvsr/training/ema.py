"""Exponential moving average of the trained weights, kept in every checkpoint and used for validation and export."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.training.module import CHECKPOINT_KEY, RestorationTraining
from sparkvsr.training.weight_views import WeightView, weight_view


class MovingAverage(Callback):
    """Averages the trained weights after every optimiser step, in float32.

    The decay grows from 0 with the step, ``min(decay, (1 + step) / (10 + step))``, so that short runs are not dominated
    by their random start. Where a strategy cuts the weights up, each process averages its part; a checkpoint holds the
    whole average under the network's names, in shards where everything else is.

    Args:
        decay: 0 to 1, exclusive.

    Raises:
        ConfigError: ``decay`` is out of range.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            msg = f"optimizer.ema_decay={decay} must lie between 0 (off) and 1, for example 0.999"
            raise ConfigError(msg)
        self._decay = decay
        self._loaded: dict[str, Tensor] = {}
        self._average: dict[str, Tensor] = {}
        self._weights: WeightView | None = None
        self._is_swapped = False
        self._seen_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the present weights, or from the checkpoint's average."""
        assert isinstance(pl_module, RestorationTraining)
        self._seen_step = trainer.global_step
        self._weights = weight_view(trainer, pl_module.adapter.network)
        if self._loaded:
            self._average = self._weights.parts(self._loaded)
            self._loaded = {}
        else:
            self._average = {name: value.clone() for name, value in self._weights.tensors().items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average once per optimiser step, not per micro-batch."""
        del pl_module, outputs, batch, batch_idx
        if trainer.global_step == self._seen_step or self._weights is None:
            return
        self._seen_step = trainer.global_step
        decay = min(self._decay, (1 + self._seen_step) / (10 + self._seen_step))
        with torch.no_grad():
            for name, value in self._weights.tensors().items():
                self._average[name].lerp_(value, 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the average."""
        del trainer, pl_module
        self._swap(to_average=True)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        del trainer, pl_module
        self._swap(to_average=False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Also when a validation is broken off: what is saved afterwards are the trained weights."""
        del trainer, pl_module, exception
        self._swap(to_average=False)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook, called on every process: each keeps its part, or the first one gets the whole average."""
        del pl_module
        if self._weights is None:
            return
        whole = self._weights.sharded(self._average) if getattr(trainer.strategy, "save_shards", False) else None
        if whole is None:
            whole = self._weights.whole(self._average)
        if whole:
            checkpoint.setdefault(CHECKPOINT_KEY, {})["ema"] = whole

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        del trainer, pl_module
        self._loaded = dict(checkpoint.get(CHECKPOINT_KEY, {}).get("ema") or {})

    @torch.no_grad()
    def _swap(self, *, to_average: bool) -> None:
        """Exchange the network's weights and the average in place."""
        if self._weights is None or self._is_swapped == to_average:
            return
        for name, value in self._weights.tensors().items():
            trained = value.clone()
            value.copy_(self._average[name])
            self._average[name].copy_(trained)
        self._weights.publish()
        self._is_swapped = to_average
