"""Which frames are no good to start from: empty, blurred against their neighbours, or unlike all around them."""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sparkvsr.keyframes.cuts import FLAT_SPREAD, THUMB_LONG_SIDE, reduced
from sparkvsr.keyframes.quality import FLAT_SCORE, frame_sharpness
from sparkvsr.keyframes.shots import Shot

NEIGHBOURS = 6
"""Frames on both sides that say what a frame of its moment looks like."""

BLUR_MARGIN = 0.9
"""How far below the median sharpness of its neighbours (`quality.frame_sharpness`, a logarithm) a frame counts as
blurred: one over 15 pixels in one direction costs 1.1 to 1.6 (benchmarks/cuts.py), frames of public clips lie at most
0.8 below."""

ODD_DISTANCE = 0.04
ODD_FACTOR = 3.0
"""A frame is odd when it is this many times as far from the picture of its moment as its neighbours, and that far at
least (mean difference, 0 to 1)."""


class FrameWatch:
    """Looks at each frame of a clip once; about thirty bytes a frame are kept.

    Attributes:
        sharpness: of each frame, see ``frame_sharpness``.
    """

    def __init__(self) -> None:
        self.sharpness = array("d")
        self._spread = array("d")
        self._thumbs: deque[np.ndarray] = deque(maxlen=2 * NEIGHBOURS + 1)
        self._away = array("d")
        self._usual = array("d")
        self._first = 0

    @property
    def known(self) -> int:
        """Frames ahead of this one, counted from the first seen, can be judged where their shot is known."""
        return self._first + len(self._away)

    def see(self, pixels: Tensor) -> None:
        """Take the next frame, ``(3, h, w)`` float in [0, 1]."""
        thumb = reduced(pixels, THUMB_LONG_SIDE)
        self.sharpness.append(frame_sharpness(pixels))
        self._spread.append(float(thumb.mean(0).std()) if thumb[0].numel() > 1 else 0.0)
        self._thumbs.append(thumb.numpy().astype(np.float16))
        if len(self._thumbs) == self._thumbs.maxlen:
            self._judge(range(NEIGHBOURS + 1) if self.known == 0 else [NEIGHBOURS])

    def bad(self, start: int, shots: Sequence[Shot]) -> frozenset[int]:
        """Frames that no keyframe should lie on.

        Args:
            start: index of the first frame that was seen.
            shots: of the clip; a frame is judged by those of its shot.
        """
        self.finish()
        count = len(self.sharpness)
        found: set[int] = set()
        for shot in shots:
            inside = range(max(shot.start - start, 0), min(shot.stop - start, count))
            found.update(start + k for k in inside if self.is_bad(k, inside))
            if found.issuperset(start + k for k in inside):
                found.difference_update(start + k for k in inside)  # nothing better is there
        return frozenset(found)

    def finish(self) -> None:
        """No frame comes any more: the last ones can be judged."""
        count = len(self.sharpness)
        if len(self._away) < count and self._thumbs:
            have = len(self._thumbs)
            self._judge(range(have - (count - len(self._away)), have))

    def is_bad(self, k: int, inside: range) -> bool:
        """Whether no keyframe should lie on a frame.

        Args:
            k: its number, counted from the first frame that was seen; below ``known``, and not forgotten.
            inside: the numbers of the frames of its shot, as far as they are known: up to `NEIGHBOURS` behind it.
        """
        near = [j - self._first for j in range(k - NEIGHBOURS, k + NEIGHBOURS + 1) if j in inside and j != k]
        k -= self._first
        return self._spread[k] < FLAT_SPREAD or self._is_odd(k) or self._is_blurred(k, near)

    def forget(self, before: int) -> None:
        """Let go of what is known of frames that nobody asks for any more; ``scores`` cannot be asked then."""
        count = min(before - self._first, len(self._away))
        if count > 0:
            for values in (self.sharpness, self._spread, self._away, self._usual):
                del values[:count]
            self._first += count

    def scores(self, start: int, bad: frozenset[int]) -> Sequence[float]:
        """Sharpness for choosing the best frames: bad ones come last."""
        return [FLAT_SCORE if start + k in bad else value for k, value in enumerate(self.sharpness)]

    def _judge(self, places: Sequence[int]) -> None:
        """How far frames are from the median picture around them, and how far their neighbours usually are."""
        stack = np.stack(list(self._thumbs)).astype(np.float32)
        moment = np.median(stack, axis=0)
        distances = np.abs(stack - moment).mean((1, 2, 3))
        for place in places:
            self._away.append(float(distances[place]))
            self._usual.append(float(np.median(distances)))

    def _is_odd(self, k: int) -> bool:
        return self._away[k] > max(ODD_DISTANCE, ODD_FACTOR * self._usual[k])

    def _is_blurred(self, k: int, near: Sequence[int]) -> bool:
        if len(near) < NEIGHBOURS:
            return False  # too few to say what is usual
        median = float(torch.tensor([self.sharpness[j] for j in near]).median())
        return self.sharpness[k] < median - BLUR_MARGIN
