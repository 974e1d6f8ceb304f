"""Whole-frame guards: is this the same scene at all? What they reject leaves exactly the blind result.

The confidences per pixel fade a keyframe out where it does not fit. Where nothing fits, some flat area always does by
chance, and a keyframe of another scene would still leak in there. Resemblance is the correlation of band-passed
brightness: blind to exposure and noise, sensitive to structure and to misplacement.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.models.lite.cpu_kernels import to_numpy
from sparkvsr.models.lite.motion import Flow, Grey, sample
from sparkvsr.models.lite.network import luma, shrink_area

# Below the first value a keyframe is not used, above the second it is trusted fully. Measured on the 17 training clips:
# a keyframe against its own LR frame 0.93 to 1 even after x264 crf 30, misplaced by 2 LR pixels 0.48 to 0.78, by 4
# pixels 0.02 to 0.48, of another scene -0.1 to 0.12; after alignment, the same scene 0.67 to 1 up to 24 frames away
# (0.26 once, where nothing of it is left), another scene up to 0.5; the next frame 0.95 to 1.
_KEYFRAME_RANGE = (0.6, 0.85)
_SCENE_RANGE = (0.5, 0.65)
_CUT_BELOW = 0.5
# Standard deviation, in grey levels, below which a frame has no structure that could be compared.
_FLAT_LEVELS = 0.7


def resemblance(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Correlation of two grey images ``(h, w)`` in 0 to 255 after a band-pass, -1 to 1; 1 if both are flat."""
    x, y = _band(a), _band(b)
    deviation_x, deviation_y = float(x.std()), float(y.std())
    if max(deviation_x, deviation_y) < _FLAT_LEVELS:
        return 1.0
    noise = 0.1  # keeps a flat image from resembling anything
    return float((x * y).mean()) / ((deviation_x + noise) * (deviation_y + noise))


def keyframe_weight(key_hr: Tensor, key_lr: Tensor) -> float:
    """Whether a keyframe ``(1, 3, 4h, 4w)`` shows its own LR frame ``(1, 3, h, w)``, both in [0, 1]; 0 to 1."""
    shrunk = to_numpy(luma(shrink_area(key_hr))) * 255
    return _ramp(resemblance(shrunk, to_numpy(luma(key_lr)) * 255), _KEYFRAME_RANGE)


def scene_weight(frame: Grey, aligned_key: NDArray[np.float32]) -> float:
    """Whether a frame and a keyframe's aligned LR frame show the same scene, 0 to 1."""
    return _ramp(resemblance(frame.astype(np.float32), aligned_key), _SCENE_RANGE)


def is_cut(frame: Grey, before: Grey, flow: Flow) -> bool:
    """Whether nothing of the frame before can be found in this one."""
    return resemblance(frame.astype(np.float32), sample(before.astype(np.float32), flow)) < _CUT_BELOW


def _band(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return cv2.blur(image, (3, 3)) - cv2.blur(image, (17, 17))


def _ramp(value: float, limits: tuple[float, float]) -> float:
    return float(np.clip((value - limits[0]) / (limits[1] - limits[0]), 0, 1))
