"""Where HR clips come from. A source gives crops of one size and length; it knows nothing about degradation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from torch import Tensor


@dataclass
class SourceClip:
    """A piece of a clip.

    Attributes:
        frames: ``(F, 3, H, W)`` float32 in [0, 1].
        iframe_indices: intra frames of the file within the piece; None if the source has no such thing.
        name: for messages.
    """

    frames: Tensor
    iframe_indices: list[int] | None = None
    name: str = ""


class ClipSource(Protocol):
    """A numbered set of HR clips."""

    def __len__(self) -> int:
        """How many clips there are."""

    def sample(self, index: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> SourceClip:
        """Cut a random piece out of clip ``index``.

        Args:
            index: 0 to ``len - 1``.
            num_frames: wanted length; shorter clips repeat their last frame.
            size: ``(H, W)`` wanted; a smaller clip gives its full side, rounded down to a multiple of 4.
            rng: decides where.

        Raises:
            DatasetError, VideoError: this clip cannot be used.
        """
