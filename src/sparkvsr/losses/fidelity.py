"""Pixel- and latent-wise distances and the change from frame to frame."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError

CHARBONNIER_EPSILON = 1e-3


def mse(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean squared difference of two tensors of one shape, a scalar."""
    return torch.mean((sr - hr) ** 2)


def charbonnier(sr: Tensor, hr: Tensor) -> Tensor:
    """Smooth absolute difference, ``mean(sqrt(d^2 + eps^2))``, a scalar."""
    return torch.mean(torch.sqrt((sr - hr) ** 2 + CHARBONNIER_EPSILON**2))


def fidelity(kind: str) -> Callable[[Tensor, Tensor], Tensor]:
    """Distance by name: two tensors of one shape to a scalar.

    Raises:
        ConfigError: it is neither ``mse`` nor ``charbonnier``.
    """
    known = {"mse": mse, "charbonnier": charbonnier}
    if kind not in known:
        msg = f"loss.kind={kind} is unknown; use {' or '.join(known)}"
        raise ConfigError(msg)
    return known[kind]


def frame_difference(sr: Tensor, hr: Tensor) -> Tensor:
    """Mean absolute error of the change from frame to frame (docs/method.md 4.7); 0 for a single frame.

    Args:
        sr: ``(B, F, 3, H, W)``.
        hr: same shape.
    """
    if sr.shape[1] < 2:
        return sr.new_zeros(())
    return ((sr[:, 1:] - sr[:, :-1]) - (hr[:, 1:] - hr[:, :-1])).abs().mean()
