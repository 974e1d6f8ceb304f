"""Learning rate schedules: pure functions of the step, so that a resumed run meets the same rates."""

from __future__ import annotations

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from sparkvsr.errors import ConfigError


def warmup_schedule(
    optimizer: Optimizer,
    *,
    warmup_steps: int,
    max_steps: int,
    kind: str = "constant",
    final_ratio: float = 0.01,
) -> LambdaLR:
    """Linear warm-up, then constant (paper) or cosine.

    Args:
        optimizer: its learning rate is the peak.
        warmup_steps: steps until the peak is reached; 0 starts there.
        max_steps: where the cosine ends.
        kind: ``constant`` or ``cosine``.
        final_ratio: rate at the end of the cosine, relative to the peak.

    Raises:
        ConfigError: unknown ``kind``, or negative ``warmup_steps``.
    """
    if kind not in ("constant", "cosine"):
        msg = f"optimizer.schedule.kind={kind} is unknown; use constant or cosine"
        raise ConfigError(msg)
    if warmup_steps < 0:
        msg = f"optimizer.schedule.warmup_steps={warmup_steps} must not be negative"
        raise ConfigError(msg)

    def factor(step: int) -> float:
        # The first step already moves: a rate of exactly 0 would waste it.
        warmup = min(1.0, (step + 1) / warmup_steps) if warmup_steps else 1.0
        if kind == "constant":
            return warmup
        progress = min(1.0, max(0, step - warmup_steps) / max(1, max_steps - warmup_steps))
        return warmup * (final_ratio + (1 - final_ratio) * 0.5 * (1 + math.cos(math.pi * progress)))

    return LambdaLR(optimizer, factor)
