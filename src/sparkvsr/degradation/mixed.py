"""A different degradation for every clip, drawn by weight."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from sparkvsr.degradation.interface import Degradation, can_draw
from sparkvsr.degradation.steps import Step
from sparkvsr.errors import ConfigError


class MixedDegradation:
    """Draws one of several degradations per clip.

    Args:
        parts: degradations by name.
        weights: by the same names, not negative; they need not sum to 1.

    Raises:
        ConfigError: the names differ or no weight is above 0.
    """

    def __init__(self, parts: Mapping[str, Degradation], weights: Mapping[str, float]) -> None:
        if set(parts) != set(weights):
            msg = (
                f"degradation.weights has {sorted(weights)}, degradation.parts has {sorted(parts)}; use the same names"
            )
            raise ConfigError(msg)
        if min(weights.values()) < 0 or sum(weights.values()) <= 0:
            msg = f"degradation.weights={dict(weights)} must not be negative and at least one must be above 0"
            raise ConfigError(msg)
        self._names = [name for name in parts if weights[name] > 0]
        self._parts = dict(parts)
        shares = np.array([weights[name] for name in self._names], dtype=np.float64)
        self._shares = shares / shares.sum()
        self.margin = max(self._parts[name].margin for name in self._names)
        self.extra_frames = max(self._parts[name].extra_frames for name in self._names)

    def __call__(self, hr: Tensor, rng: np.random.Generator, *, scale: int = 4, is_image: bool = False) -> Tensor:
        """See ``Degradation``."""
        return self._part(rng)(hr, rng, scale=scale, is_image=is_image)

    @property
    def is_drawn(self) -> bool:
        """Whether every part can draw its steps beforehand."""
        return all(can_draw(self._parts[name]) for name in self._names)

    def draw(
        self,
        num_frames: int,
        size: tuple[int, ...],
        rng: np.random.Generator,
        *,
        scale: int = 4,
        is_image: bool = False,
    ) -> list[Step]:
        """See ``DrawnDegradation``; only where ``is_drawn``."""
        part: Any = self._part(rng)
        steps: list[Step] = part.draw(num_frames, size, rng, scale=scale, is_image=is_image)
        return steps

    def _part(self, rng: np.random.Generator) -> Degradation:
        return self._parts[self._names[int(rng.choice(len(self._names), p=self._shares))]]
