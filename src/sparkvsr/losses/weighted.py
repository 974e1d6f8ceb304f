"""A sum of loss terms, each against the ground truth or a teacher's output."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparkvsr.errors import ConfigError
from sparkvsr.losses.terms import LossTerm


class WeightedLoss(nn.Module):
    """Terms by name.

    Args:
        terms: what is summed; None leaves one out, so that an experiment can take away what a group brings.
        weights: only what the configuration's terms refer to as their folder of perceptual weights.

    Raises:
        ConfigError: nothing is left to sum.
    """

    domain = "pixel"

    def __init__(self, terms: Mapping[str, LossTerm | None], weights: str | Path | None = None) -> None:
        super().__init__()
        del weights
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term is not None})
        self.step = 0
        """Set by the training step: which terms are due."""
        if not self.terms:
            msg = "loss.terms is empty; give at least one term, for example l1: {_target_: sparkvsr.losses.terms.L1}"
            raise ConfigError(msg)

    @property
    def taught(self) -> list[str]:
        """Names of the terms that measure against a teacher's output."""
        return [name for name, term in self.terms.items() if term.target == "teacher" and term.weight]

    def forward(self, restored: Tensor, target: Tensor, teacher: Tensor | None = None) -> dict[str, Tensor]:
        """Terms by name, unweighted; ``loss`` is their weighted sum.

        Args:
            restored: ``(B, F, 3, H, W)``, about [0, 1].
            target: same shape, the ground truth.
            teacher: same shape; must be there if any term is ``taught``.

        Raises:
            ConfigError: a term asks for the teacher's output and there is none.
        """
        sr, truth = restored.float().flatten(0, 1), target.float().flatten(0, 1)
        made = None if teacher is None else teacher.float().flatten(0, 1)
        values: dict[str, Tensor] = {}
        loss = torch.zeros((), device=sr.device)
        for name, term in self.terms.items():
            assert isinstance(term, LossTerm)
            if not term.is_due(self.step):
                continue
            against = truth if term.target == "truth" else made
            if against is None:
                raise ConfigError(without_teacher(name))
            term.step = self.step
            values[name] = term(sr, against)
            loss = loss + term.weight * term.every * values[name]
        return {**values, "loss": loss}


def without_teacher(term: str) -> str:
    """Message for a term whose target is not there."""
    return (
        f"loss.terms.{term}: target=teacher, but the samples carry no teacher's output; set "
        "data.precompute.enabled=true and data.precompute.teacher=FILE"
    )
