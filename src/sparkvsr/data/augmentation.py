"""Mirroring, turning and recolouring finished samples, with the motion that belongs to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

_PERMUTED = 0.3
_DIMMED = 0.3
_DARKEST = 0.75


def turned(
    lr: Tensor, hr: Tensor, maps: dict[str, Tensor], rng: np.random.Generator
) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """A sample mirrored, turned and in other colours.

    Args:
        lr: ``(F, 3, h, w)`` in [0, 1].
        hr: ``(F, 3, H, W)`` in [0, 1].
        maps: by name, ``(F, C, h, w)`` or ``(F,)``; a name that ends in ``flow`` holds (x, y) vectors.
        rng: decides.

    Returns:
        The same three, contiguous.
    """
    for axis, component in ((-1, 0), (-2, 1)):
        if rng.random() < 0.5:
            lr, hr = lr.flip(axis), hr.flip(axis)
            maps = {name: _mirrored(name, values, axis, component) for name, values in maps.items()}
    if rng.random() < 0.5 and lr.shape[-1] == lr.shape[-2]:
        lr, hr = lr.transpose(-1, -2), hr.transpose(-1, -2)
        maps = {name: _transposed(name, values) for name, values in maps.items()}
    if rng.random() < _PERMUTED:
        order = torch.from_numpy(rng.permutation(3))
        lr, hr = lr.index_select(-3, order), hr.index_select(-3, order)
    if rng.random() < _DIMMED:
        gain = torch.from_numpy(rng.uniform(_DARKEST, 1.0, (3, 1, 1))).float()
        lr, hr = lr * gain, hr * gain
    return lr.contiguous(), hr.contiguous(), {name: values.contiguous() for name, values in maps.items()}


def _mirrored(name: str, values: Tensor, axis: int, component: int) -> Tensor:
    if values.ndim < 3:
        return values
    values = values.flip(axis)
    if name.endswith("flow"):
        sign = torch.ones(2, 1, 1)
        sign[component] = -1
        values = values * sign
    return values


def _transposed(name: str, values: Tensor) -> Tensor:
    if values.ndim < 3:
        return values
    values = values.transpose(-1, -2)
    return values.flip(-3) if name.endswith("flow") else values
