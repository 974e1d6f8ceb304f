"""Which frames are the best to start from: sharp, not blurred by motion, and spread over the clip."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes.select import MIN_KEYFRAME_GAP, Selection
from sparkvsr.keyframes.shots import Shot

ANALYSIS_LONG_SIDE = 640
"""Blur that is invisible at this size costs a keyframe little, and 4K frames stay cheap."""

FLAT_SCORE = -30.0
"""Score of a frame without any structure (black, fade)."""


def frame_sharpness(frame: Tensor) -> float:
    """How sharp a frame is in every direction; comparable between frames of one shot.

    The logarithm of the determinant of the gradients' structure tensor, with contrast taken out: blur from defocus
    lowers both of its eigenvalues, blur from motion the one along the motion, and a fade changes neither much.

    Args:
        frame: ``(3, h, w)`` float in [0, 1].
    """
    grey = frame.float().mean(0, keepdim=True)[None]
    h, w = grey.shape[-2:]
    factor = max(h, w) / ANALYSIS_LONG_SIDE
    if factor > 1:
        grey = F.interpolate(grey, scale_factor=1 / factor, mode="area")
    if min(grey.shape[-2:]) < 3:
        return FLAT_SCORE
    contrast = float(grey.std())
    if contrast < 1e-3:
        return FLAT_SCORE
    # Central differences over the whole picture: single-pixel noise counts for little.
    dx = (grey[..., 1:-1, 2:] - grey[..., 1:-1, :-2]) / contrast
    dy = (grey[..., 2:, 1:-1] - grey[..., :-2, 1:-1]) / contrast
    xx, yy, xy = float((dx * dx).mean()), float((dy * dy).mean()), float((dx * dy).mean())
    determinant = xx * yy - xy * xy
    return max(FLAT_SCORE, math.log(determinant)) if determinant > 0 else FLAT_SCORE


def share_out(count: int, shots: Sequence[Shot]) -> list[int]:
    """How many of ``count`` keyframes each shot gets: one each, longest first, the rest by length.

    No shot gets more than fit into it at the smallest distance.
    """
    room = [(shot.num_frames - 1) // MIN_KEYFRAME_GAP + 1 for shot in shots]
    given = [0] * len(shots)
    for _ in range(min(count, sum(room))):
        # Frames per keyframe after the next one was given; a shot without any comes first.
        best = max(
            (k for k in range(len(shots)) if given[k] < room[k]),
            key=lambda k: (given[k] == 0, shots[k].num_frames / (given[k] + 1), -k),
        )
        given[best] += 1
    return given


def best_frames(count: int, shots: Sequence[Shot], sharpness: Sequence[float]) -> Selection:
    """``count`` sharp frames, spread over the shots and inside each of them.

    A shot that gets k keyframes is cut into k equal parts, and the sharpest frame of each is taken.

    Args:
        shots: contiguous; ``sharpness[0]`` belongs to the first frame of the first one.
        sharpness: see ``frame_sharpness``, one for each frame of the shots.

    Raises:
        ConfigError: ``count`` is below 1 or more than fit into the clip.
        ValueError: not one sharpness for each frame.
    """
    start, stop = shots[0].start, shots[-1].stop
    if len(sharpness) != stop - start:
        msg = f"{len(sharpness)} sharpness values for {stop - start} frames"
        raise ValueError(msg)
    room = sum((shot.num_frames - 1) // MIN_KEYFRAME_GAP + 1 for shot in shots)
    if not 1 <= count <= room:
        msg = (
            f"--best {count} does not fit: {stop - start} frames in {len(shots)} shot{'s' if len(shots) > 1 else ''} "
            f"take 1 to {room} keyframes at a distance of at least {MIN_KEYFRAME_GAP}"
        )
        raise ConfigError(msg)
    chosen: list[int] = []
    for shot, number in zip(shots, share_out(count, shots), strict=True):
        previous = shot.start - MIN_KEYFRAME_GAP
        for part in range(number):
            low = shot.start + part * shot.num_frames // number
            high = shot.start + (part + 1) * shot.num_frames // number - 1
            # Leave room for those that follow, and keep away from the one before.
            last = shot.stop - 1 - MIN_KEYFRAME_GAP * (number - 1 - part)
            high = min(high, last)
            low = min(max(low, previous + MIN_KEYFRAME_GAP), last)
            candidates = range(low, max(low, high) + 1)
            previous = max(candidates, key=lambda index: (sharpness[index - start], -index))
            chosen.append(previous)
    return Selection(tuple(chosen), (), f"{count} sharpest, spread over {len(shots)} shot{'s' * (len(shots) > 1)}")
