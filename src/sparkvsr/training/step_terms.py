"""Loss terms of an optimiser step: the mean over its micro-batches and over all processes.

The terms of one micro-batch say little where a step has several: with accumulation the last one is half the story, and
in stage 2 a micro-batch of stills has other terms than one of clips. So they are summed here until the step is done.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor

from sparkvsr.data.samples import TrainBatch


class StepTerms:
    """Sums up.

    Args:
        by_kind: also keep the loss of micro-batches of clips and of stills apart (``loss_clips``, ``loss_stills``).
    """

    def __init__(self, *, by_kind: bool = False) -> None:
        self._by_kind = by_kind
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}
        self.clips: list[str] = []
        """Names of the clips of the step so far."""
        self.learning_rate = 0.0
        """That the step is done with."""
        self.gradient_norm: float | None = None
        """Of the whole gradient before clipping; None where it is not known."""

    def clear(self) -> None:
        """Start a step."""
        self._sums, self._counts, self.clips, self.gradient_norm = {}, {}, [], None

    def add(self, terms: dict[str, Tensor], batch: TrainBatch, learning_rate: float) -> None:
        """Note a micro-batch.

        Args:
            terms: scalars by name.
            batch: that they are of.
            learning_rate: at this moment.
        """
        self.learning_rate = learning_rate
        self.clips += batch.names
        named = {name: value.detach() for name, value in terms.items()}
        if self._by_kind:
            named[f"loss_{'stills' if batch.lr.shape[1] == 1 else 'clips'}"] = terms["loss"].detach()
        for name, value in named.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value.float()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, trainer: Trainer) -> dict[str, float]:
        """Means by name, ``loss`` last, of the step that was just done, the same on every process; starts a new one.

        All processes have to call it, and have micro-batches of the same kinds.
        """
        if not self._sums:
            self.clear()
            return {}
        names = sorted(self._sums, key=lambda name: (name == "loss", list(self._sums).index(name)))
        means: Any = torch.stack([self._sums[name] / self._counts[name] for name in names])
        if trainer.world_size > 1:
            means = trainer.strategy.reduce(means, reduce_op="mean")
        self.clear()
        return dict(zip(names, means.tolist(), strict=True))
