"""Exponential moving average of the trained weights, kept in every checkpoint and used for validation and export."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.training.module import CHECKPOINT_KEY, RestorationTraining


class MovingAverage(Callback):
    """Averages the weights after every optimiser step.

    The decay grows from 0 with the step, ``min(decay, (1 + step) / (10 + step))``, so that short runs are not dominated
    by their random start. On sharded strategies (FSDP) each process averages its own shard, which does not make a
    consolidated file: it is refused there.

    Args:
        decay: 0 to 1, exclusive.

    Raises:
        ConfigError: ``decay`` is out of range, or the strategy shards the weights.
    """

    def __init__(self, decay: float) -> None:
        if not 0 < decay < 1:
            msg = f"optimizer.ema_decay={decay} must lie between 0 (off) and 1, for example 0.999"
            raise ConfigError(msg)
        self._decay = decay
        self._average: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        self._seen_step = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuse what cannot work before any step is done."""
        del pl_module, stage
        if "FSDP" in type(trainer.strategy).__name__:
            msg = "optimizer.ema_decay does not work with trainer=fsdp, which shards the weights; set it to 0"
            raise ConfigError(msg)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start from the present weights, or from the checkpoint's average."""
        self._seen_step = trainer.global_step
        if not self._average:
            self._average = {k: v.detach().clone() for k, v in _weights(pl_module).items()}
        else:
            self._average = {k: v.to(pl_module.device) for k, v in self._average.items()}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Average once per optimiser step, not per micro-batch."""
        del outputs, batch, batch_idx
        if trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        decay = min(self._decay, (1 + self._seen_step) / (10 + self._seen_step))
        with torch.no_grad():
            for name, value in _weights(pl_module).items():
                if value.is_floating_point():
                    self._average[name].lerp_(value.detach(), 1 - decay)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure the average."""
        del trainer
        if self._average:
            self._kept = {k: v.detach().clone() for k, v in _weights(pl_module).items()}
            _load(pl_module, self._average)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Put the trained weights back."""
        del trainer
        if self._kept:
            _load(pl_module, self._kept)
            self._kept = {}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        del trainer, pl_module
        if self._average:
            checkpoint.setdefault(CHECKPOINT_KEY, {})["ema"] = {k: v.cpu() for k, v in self._average.items()}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        del trainer, pl_module
        self._average = dict(checkpoint.get(CHECKPOINT_KEY, {}).get("ema") or {})


def _weights(module: LightningModule) -> dict[str, Tensor]:
    assert isinstance(module, RestorationTraining)
    return module.adapter.network.state_dict()


def _load(module: LightningModule, state: dict[str, Tensor]) -> None:
    assert isinstance(module, RestorationTraining)
    module.adapter.network.load_state_dict(state)
