"""A sum of loss terms, in pixels, in latents or in both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparkvsr.errors import ConfigError
from sparkvsr.losses.given import LossInputs
from sparkvsr.losses.terms import LossTerm

FRAMES = ("alone", "clip")


class WeightedLoss(nn.Module):
    """Terms by name.

    Args:
        terms: what is summed; None leaves one out, so that an experiment can take away what a group brings.
        frames: ``alone`` (stage 2): each frame is encoded and decoded by itself; ``clip`` (stage 1): as a clip. None
            takes ``alone`` if there is a term in pixels.
        weights: only what the configuration's terms refer to as their folder of perceptual weights.

    Raises:
        ConfigError: nothing is left to sum, or an entry is no term.
    """

    domain = "pixel"

    def __init__(
        self,
        terms: Mapping[str, LossTerm | None],
        frames: str | None = None,
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        del weights
        if frames is not None and frames not in FRAMES:
            msg = f"loss.frames={frames} is unknown; use {', '.join(FRAMES)} or null"
            raise ConfigError(msg)
        for name, term in terms.items():
            if term is not None and not isinstance(term, LossTerm):
                msg = (
                    f"loss.terms.{name} is a {type(term).__name__}; a term derives from sparkvsr.losses.terms.LossTerm "
                    "(FromModule takes any module that compares two images)"
                )
                raise ConfigError(msg)
        self.terms = nn.ModuleDict({name: term for name, term in terms.items() if term is not None})
        if not self.terms:
            msg = "loss.terms is empty; give at least one term, for example l1: {_target_: sparkvsr.losses.terms.L1}"
            raise ConfigError(msg)
        self.domain = "pixel" if (self.needs_pixels if frames is None else frames == "alone") else "latent"

    @property
    def needs_pixels(self) -> bool:
        """Whether any term looks at pixels, so that the result has to be decoded."""
        return any(term.domain == "pixel" for term in self._all())

    @property
    def needs_latents(self) -> bool:
        """Whether any term looks at latents, so that the ground truth has to be encoded."""
        return any(term.domain == "latent" for term in self._all())

    @property
    def taught(self) -> list[str]:
        """Names of the terms that measure against a teacher's output."""
        return [name for name, term in self.terms.items() if term.target == "teacher" and term.weight]

    def forward(self, given: LossInputs) -> dict[str, Tensor]:
        """Terms by name, unweighted; ``loss`` is their weighted sum.

        Args:
            given: the micro-batch; ``teacher`` must be there if any term is ``taught``.

        Raises:
            ConfigError: a term asks for the teacher's output and there is none.
        """
        some = given.restored if given.restored is not None else given.restored_latents
        assert some is not None  # one of the two domains is asked for
        values: dict[str, Tensor] = {}
        loss = torch.zeros((), device=some.device)
        for name, term in self.terms.items():
            assert isinstance(term, LossTerm)
            if not term.is_due(given.step):
                continue
            if term.target == "teacher" and given.teacher is None:
                raise ConfigError(without_teacher(name))
            term.step = given.step
            values[name] = term.measure(given)
            loss = loss + term.weight * term.every * values[name]
        return {**values, "loss": loss}

    def _all(self) -> list[LossTerm]:
        return [term for term in self.terms.values() if isinstance(term, LossTerm)]


def without_teacher(term: str) -> str:
    """Message for a term whose target is not there."""
    return (
        f"loss.terms.{term}: target=teacher, but the samples carry no teacher's output; set "
        "data.precompute.enabled=true and data.precompute.teacher=FILE"
    )
