"""Where keyframes of the model's own kind are needed: decided from cheap motion between LR frames.

Followed through the clip is how much of the last keyframe can still be found: a pixel is lost where the frame differs
from the one before after motion, brightness aside. A keyframe is placed where little is left, and at the latest after
``FARTHEST`` frames. The model uses keyframes on both sides of a frame, so none lies far from the middle between two.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from itertools import pairwise

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP, Selection
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.lite.motion import Grey, flow_between, grey_of, sample

NEAREST = 8
"""Frames between two keyframes where motion is lost at once: the budget, one frame in eight."""

FARTHEST = 16
"""Frames between two keyframes of a calm clip."""

NEAR_STEPS = (0, 1, -1, 2, -2, 3, -3)
"""How far off a keyframe may be put to miss a bad frame, in the order in which it is tried."""

_LEFT = 0.4
_SIDE = 192
_LEVELS = 10.0
_LIGHT_SIGMA = 6.0
_DARK_LEVELS = 8.0
_MOST_GAIN = 2.5
_CUT_BELOW = 0.1


class Coverage:
    """Takes the frames of a clip in order and says where keyframes should lie; 2 to 4 ms a frame.

    Attributes:
        wanted: frame indices, counted from the first frame taken.
    """

    def __init__(self) -> None:
        self.wanted: list[int] = []
        self._before: Grey | None = None
        self._left: NDArray[np.float32] | None = None
        self._index = 0

    def take(self, frame: torch.Tensor) -> None:
        """The next frame, ``(3, h, w)`` in [0, 1]."""
        grey = _small_grey(frame)
        if self._before is None or self._left is None:
            self._place(grey)
        else:
            flow = flow_between(grey, self._before, precise=False)
            now, there = grey.astype(np.float32), sample(self._before.astype(np.float32), flow)
            gain = (_light(now) + _DARK_LEVELS) / (_light(there) + _DARK_LEVELS)
            missed = now - there * np.clip(gain, 1 / _MOST_GAIN, _MOST_GAIN)
            missed -= _light(missed)
            fits = np.exp(-((cv2.blur(np.abs(missed), (5, 5)) / _LEVELS) ** 2)).astype(np.float32)
            self._left = sample(self._left, flow) * fits
            since = self._index - self.wanted[-1]
            is_cut = float(fits.mean()) < _CUT_BELOW
            if since >= FARTHEST or (since >= NEAREST and float(self._left.mean()) < _LEFT) or is_cut:
                self._place(grey)
        self._before = grey
        self._index += 1

    def _place(self, grey: Grey) -> None:
        self.wanted.append(self._index)
        self._left = np.ones(grey.shape, np.float32)


def with_own_keyframes(
    selection: Selection,
    shots: Sequence[Shot],
    wanted: Sequence[int],
    bad: Collection[int] = (),
    weak: Collection[int] = (),
) -> tuple[Selection, int]:
    """Add keyframes of the model's own kind to those that were chosen.

    Args:
        selection: chosen keyframes, which stay.
        shots: of the clip.
        wanted: where ``Coverage`` wants keyframes, frame indices of the clip.
        bad: empty, blurred and damaged frames: a good neighbour is taken instead, if there is one close by.
        weak: chosen keyframes of less than full weight: what they leave to others has to come from somewhere, so
            keyframes are added as if they were not there, but for their very frames.

    Returns:
        All keyframes, and how many were added. The first frame of every shot is one, no gap is longer than
        ``FARTHEST``, and an added one lies at least ``MIN_KEYFRAME_GAP`` frames from any other that is not weak.
    """
    chosen = set(selection.indices)
    weak = chosen.intersection(weak)
    added: set[int] = set()
    for shot in shots:
        marks = sorted(index for index in chosen - weak if index in shot)

        def place(index: int, marks: list[int] = marks, shot: Shot = shot) -> None:
            near = [other for step in NEAR_STEPS if (other := index + step) in shot and other not in weak]
            good = [other for other in near if other not in bad] or near
            if good and all(abs(good[0] - mark) >= MIN_KEYFRAME_GAP for mark in marks):
                marks.append(good[0])
                added.add(good[0])

        place(shot.start)
        for index in wanted:
            # Not where a chosen keyframe lies about as well.
            if index in shot and all(abs(index - mark) >= NEAREST // 2 for mark in marks):
                place(index)
        last = shot.stop - 1
        if marks and last - max(marks) > FARTHEST // 2:
            place(last)
        for left, right in pairwise(sorted(marks)):
            parts = -(-(right - left) // FARTHEST)
            for part in range(1, parts):
                place(left + round((right - left) * part / parts))
    if not added:
        return selection, 0
    method = f"{selection.method}, and {len(added)} between them by the look of the motion"
    if not selection.indices or selection.method == "auto":
        method = "auto, by the look of the motion"
    return replace(selection, indices=tuple(sorted(chosen | added)), method=method), len(added)


def _light(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.GaussianBlur(image, (0, 0), _LIGHT_SIGMA), np.float32)


def _small_grey(frame: torch.Tensor) -> Grey:
    rgb = np.ascontiguousarray((frame.permute(1, 2, 0) * 255).round().clamp(0, 255).byte().numpy())
    grey = grey_of(rgb)
    scale = _SIDE / max(grey.shape)
    if scale >= 1:
        return grey
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.uint8)
