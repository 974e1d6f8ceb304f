"""Metrics over neighbouring frames: warping error, tOF, flicker.

None of them says whether a clip is good. A frozen or blurred clip has a lower warping error and less flicker than
the ground truth (measured: ewarp_dis 0.84 for a ground truth, 0.40 for its bicubic x4, 0.00 frozen), so the ground
truth's own value is always reported beside them and neither should ever decide alone.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from sparkvsr.metrics.colour import Image8

Flow = npt.NDArray[np.float32]

# Occlusion and motion-boundary constants of Sundaram et al. 2010, as EvalCrafter's warping error uses them.
_OCCLUSION_RELATIVE, _OCCLUSION_ABSOLUTE = 0.01, 0.5
_BOUNDARY_RELATIVE, _BOUNDARY_ABSOLUTE = 0.01, 0.002

MIN_FLOW_SIDE_PX = 16
"""Of frames that OpenCV's flow takes; smaller ones are continued by their border, and the flow is cut to them."""


def dis_flow(first: Image8, second: Image8) -> Flow:
    """Optical flow from ``first`` to ``second``, OpenCV DIS with the medium preset.

    Args:
        first, second: ``(H, W)`` uint8.

    Returns:
        ``(H, W, 2)`` float32, pixels: what is at x in ``first`` is at x + flow in ``second``.
    """
    # A fresh instance per call: the object keeps buffers and is not safe to share between threads.
    solver = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    height, width = first.shape
    down, right = max(0, MIN_FLOW_SIDE_PX - height), max(0, MIN_FLOW_SIDE_PX - width)
    if down or right:
        first = np.pad(first, ((0, down), (0, right)), mode="edge")
        second = np.pad(second, ((0, down), (0, right)), mode="edge")
    flow = np.asarray(solver.calc(first, second, None), dtype=np.float32)  # type: ignore[call-overload]
    return flow[:height, :width]


def farneback_flow(first: Image8, second: Image8) -> Flow:
    """Optical flow with OpenCV Farneback and TecoGAN's settings; shapes as in ``dis_flow``."""
    flow = cv2.calcOpticalFlowFarneback(first, second, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
    return np.asarray(flow, dtype=np.float32)


def flow_difference(sr_flow: Flow, hr_flow: Flow) -> float:
    """Mean end-point distance of two flows ``(H, W, 2)``, pixels (tOF of TecoGAN, Chu et al. 2020)."""
    difference = sr_flow - hr_flow
    return float(np.mean(cv2.magnitude(difference[..., 0], difference[..., 1]), dtype=np.float64))


def half_size(frame: Image8) -> Image8:
    """``(H, W, 3)`` uint8 at half width and height by 2 x 2 means, where the warping error is defined."""
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    return np.asarray(cv2.resize(frame, (max(width, 16), max(height, 16)), interpolation=cv2.INTER_AREA))


def warp(image: npt.NDArray[Any], flow: Flow) -> npt.NDArray[np.float32]:
    """Sample ``image`` at x + flow, bilinear, zero outside; ``(H, W)`` or ``(H, W, C)``, any range."""
    height, width = flow.shape[:2]
    columns, rows = _grid(height, width)
    return np.asarray(
        cv2.remap(image, columns + flow[..., 0], rows + flow[..., 1], cv2.INTER_LINEAR, borderValue=(0, 0, 0, 0)),
        dtype=np.float32,
    )


@lru_cache(maxsize=2)
def _grid(height: int, width: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Column and row of each pixel."""
    columns, rows = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return columns, rows


def visible(forward: Flow, backward: Flow) -> npt.NDArray[np.bool_]:
    """``(H, W)``: pixels whose forward and backward flow agree and that are not at a motion boundary."""
    returned = warp(backward, forward)
    speed = _squared_length(forward)
    mismatch = _squared_length(forward + returned)
    occluded = mismatch > _OCCLUSION_RELATIVE * (speed + _squared_length(returned)) + _OCCLUSION_ABSOLUTE
    gradient = np.zeros(forward.shape[:2], np.float32)
    gradient[:, :-1] += _squared_length(forward[:, 1:] - forward[:, :-1])
    gradient[:-1, :] += _squared_length(forward[1:] - forward[:-1])
    boundary = gradient > _BOUNDARY_RELATIVE * speed + _BOUNDARY_ABSOLUTE
    return np.asarray(~(occluded | boundary))


def _squared_length(field: Flow) -> npt.NDArray[np.float32]:
    """``(H, W, 2)`` to ``(H, W)``."""
    return np.asarray(cv2.transform(field * field, np.ones((1, 2), np.float32)), dtype=np.float32)


def masked_warping_error(first: Image8, second: Image8, flow: Flow, mask: npt.NDArray[np.bool_]) -> float | None:
    """Squared difference between ``first`` and ``second`` warped back, x1000.

    Args:
        first, second: ``(H, W, 3)`` uint8 RGB of two neighbouring frames.
        flow: ``(H, W, 2)``, from ``first`` to ``second``.
        mask: ``(H, W)``, pixels that count.

    Returns:
        Sum over RGB of squared differences in [0, 1], averaged over the counted pixels, times 1000 (EvalCrafter's
        protocol); None when no pixel counts.
    """
    count = int(np.count_nonzero(mask))
    if count == 0:
        return None
    difference = warp(second, flow) - first
    return float(np.sum((difference * difference)[mask], dtype=np.float64) / (255.0**2 * count) * 1000)


def flicker(first: Image8, second: Image8) -> float:
    """``(255 - mean absolute difference) / 255`` of two neighbouring frames (VBench "temporal flickering").

    Frames are ``(H, W, 3)`` uint8.

    1 means a still picture, so higher is not better: compare with the ground truth's own value.
    """
    mean = cv2.norm(first, second, cv2.NORM_L1) / first.size
    return float((255.0 - mean) / 255.0) if math.isfinite(mean) else math.nan
