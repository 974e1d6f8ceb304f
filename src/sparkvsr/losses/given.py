"""What a training step hands to the terms of a loss.

Shapes: B batch, F frames, K keyframes, f latent frames, C latent channels, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class LossInputs:
    """One micro-batch after the network. What no term of the loss asks for is None.

    Attributes:
        restored: ``(B, F, 3, H, W)`` pixels, about [0, 1], with gradient.
        truth: same shape, [0, 1].
        teacher: same shape; output of a larger upscaler, where the samples carry it.
        restored_latents: ``(B, f, C, h', w')`` with gradient, as the model's codec scales them.
        truth_latents: same shape.
        lr: ``(B, F, 3, h, w)`` in [0, 1].
        keyframes: ``(B, K, 3, H, W)`` in [0, 1], as the network got them (augmented).
        keyframe_indices: ``(B, K)`` frame numbers, -1 where a sample has fewer.
        step: optimiser steps done before this one.
        names: B clips, for messages.
    """

    restored: Tensor | None = None
    truth: Tensor | None = None
    teacher: Tensor | None = None
    restored_latents: Tensor | None = None
    truth_latents: Tensor | None = None
    lr: Tensor | None = None
    keyframes: Tensor | None = None
    keyframe_indices: Tensor | None = None
    step: int = 0
    names: Sequence[str] = field(default=())
