"""Colours to grey: the one place for its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of R, G, B in grey (ITU-R BT.601); they sum to 1."""


def grey(image: Tensor) -> Tensor:
    """``(..., 3, H, W)`` RGB float to ``(..., 1, H, W)`` of the same range and dtype."""
    return (image * image.new_tensor(GREY_WEIGHTS).view(3, 1, 1)).sum(-3, keepdim=True)
