"""One metric over one clip: what was scored, what could not be."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class ClipScore:
    """One metric over one clip.

    Attributes:
        values: by frame; None where the metric has no value (first frame of a pair metric, frames left out by
            ``every``, frames it could not score).
        gt_values: the ground truth's own values, by frame, where the metric has them.
        unscored: frames that it should have scored and could not (flat, too small).
        capped: frames with a capped PSNR (identical to the ground truth).
        clip_value: for metrics with one value a clip.
        reason: why frames went unscored, the first reason met.
    """

    values: list[float | None] = field(default_factory=list)
    gt_values: list[float | None] = field(default_factory=list)
    unscored: int = 0
    capped: int = 0
    clip_value: float | None = None
    reason: str = ""

    @property
    def mean(self) -> float | None:
        """Mean over the scored frames, or the clip's value."""
        return self.clip_value if self.clip_value is not None else mean(self.values)

    @property
    def gt_mean(self) -> float | None:
        """Mean of the ground truth's own values."""
        return mean(self.gt_values)


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are there, or None."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None
