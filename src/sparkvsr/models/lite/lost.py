"""How much of a frame cannot be found where motion says: as a whole, and place by place.

Trust by the difference in grey levels (``network.propagate_step``) takes a flame that is missed by a few levels for
found, and detail carried there costs more than it brings: what counts is the miss against what there is to see.
Tensors are NCHW with pixels in [0, 1]; h, w are LR sizes. For inference only.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

from sparkvsr.models.lite.cpu_kernels import CPU_KERNELS, to_numpy
from sparkvsr.models.lite.network import PHOTOMETRIC_LEVELS
from sparkvsr.models.lite.resampling import trust
from sparkvsr.models.lite.vivid import box

PREVIOUS_LOST, KEYFRAME_LOST = 0.25, 0.35
"""Shares above which the previous output, and a keyframe, are no help at all."""

# Shares by place up to which all is trusted, and from which on nothing is. Clips of training (herons, leaves, a walk, a
# waterfall, an explosion; clean LR) gain up to 0.05 dB and hardly tell such ranges apart; this one was taken for two
# clips of fire, where carrying had cost up to 2.5 dB against bicubic and no blind frame is below it any more. It costs
# up to 0.04 dB blind where motion is plain (Vid4, butterfly). Somebody's picture is given up later.
OWN_RANGE, GIVEN_RANGE = (0.02, 0.1), (0.1, 0.4)

_AROUND = 17
_NOISE_LEVELS = 2.5 / 255
_NOISE_QUANTILE, _MOST_NOISE = 0.3, 8.0 / 255
_FLAT = 1e-5


def missed(lr: Tensor, there: Tensor, flow: Tensor) -> Tensor:
    """Difference after motion, changes of light taken out, ``(1, 1, h, w)``.

    Args:
        lr: the frame, ``(1, 3, h, w)``.
        there: the LR frame that it is looked for in.
        flow: ``(1, 2, h, w)``, to that.
    """
    return CPU_KERNELS.difference(CPU_KERNELS.warp(there, flow), lr)


def lost_share(visible: Tensor, error: Tensor) -> float:
    """How much of what a frame shows is missed, 0 for nothing.

    Energy of the difference after motion over that of the frame's own contrast. Over the public clips 0 to 0.2 where
    carrying helps, 0.2 to 8 on beating wings, fire, a fast pan.

    Args:
        visible: ``(1, 1, h, w)``, see ``LrFrame.contrast``.
        error: ``(1, 1, h, w)``, see ``missed``.
    """
    return float((error - _NOISE_LEVELS).clamp(min=0).square().mean() / (visible.mean() + _FLAT))


def found_again(visible: Tensor, error: Tensor, limits: tuple[float, float]) -> Tensor:
    """How far what a frame shows is found again, by place, ``(1, 1, h, w)`` in [0, 1]; noise everywhere is no miss.

    Args:
        visible: see ``LrFrame.contrast``.
        error: see ``missed``.
        limits: the share of 17x17 LR pixels up to which it is all found, and from which on none of it is.
    """
    noise = min(max(_NOISE_LEVELS, float(np.quantile(to_numpy(error), _NOISE_QUANTILE))), _MOST_NOISE)
    share = box((error - noise).clamp(min=0).square(), _AROUND) / (box(visible, _AROUND) + _FLAT)
    return ((limits[1] - share) / (limits[1] - limits[0])).clamp(0, 1)


def mean_trust(geometric: Tensor, error: Tensor) -> float:
    """How far a keyframe covers a frame, 0 to 1, from the trust in its motion and ``missed``, ``(1, 1, h, w)`` both."""
    return float((geometric * trust(error, PHOTOMETRIC_LEVELS)).mean())
