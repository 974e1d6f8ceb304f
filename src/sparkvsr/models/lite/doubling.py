"""Networks for x2 that start from those for x4: the same layers, other borders.

Both work per pixel of 4x4 HR pixels as before (``PropagatorConfig.unshuffle``) or on the same true LR grid (keyframe
upscaler), so all inner weights keep their meaning. What changes is spread or averaged over sub-pixels such that the new
network does at first what the old one does with what it is shown. Real-ESRGAN's x2 networks unshuffle their input too
(github.com/xinntao/Real-ESRGAN at a4abfb2, README and model list).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from sparkvsr.models.lite.network import BLOCK, SCALE, KeyframeUpscalerNet, PropagatorNet

UNSHUFFLE = 2
NEAR = 32


def doubling_propagator(source: PropagatorNet, seed: int = 0) -> PropagatorNet:
    """A propagator for x2 that takes the mean of four LR pixels for the one that ``source`` was shown.

    Of the residual only what a mean of 2x2 HR pixels cannot show is kept: the rest is in the true LR frame.

    Args:
        source: for x4; not changed.
        seed: of the layers that x4 has none of; what they add is nothing at first.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = PropagatorNet(replace(source.config, unshuffle=UNSHUFFLE, near=NEAR))
    state = {name: value.detach().clone() for name, value in source.state_dict().items()}
    state |= {name: value for name, value in network.state_dict().items() if name.startswith("near.")}
    head = state["head.weight"]
    state["head.weight"] = torch.cat([head[:, :3].repeat(1, 4, 1, 1) / 4, head[:, 3:]], dim=1)
    for part in ("tail.weight", "tail.bias"):
        picture = state[part][: 3 * BLOCK]
        state[part] = torch.cat([picture - _spread(_mean_of_four(picture)), state[part][3 * BLOCK :]])
    network.load_state_dict(state)
    return network


def doubling_upscaler(source: KeyframeUpscalerNet) -> KeyframeUpscalerNet:
    """A keyframe upscaler for x2 that adds the mean of each 2x2 pixels of the residual of ``source``.

    Args:
        source: for x4; not changed.
    """
    network = KeyframeUpscalerNet(replace(source.config, scale=SCALE // UNSHUFFLE))
    state = {name: value.detach().clone() for name, value in source.state_dict().items()}
    state |= {part: _mean_of_four(state[part]) for part in ("tail.weight", "tail.bias")}
    network.load_state_dict(state)
    return network


def _mean_of_four(rows: Tensor) -> Tensor:
    """Outputs for 4x4 sub-pixels ``(48, ...)`` to those for 2x2 ``(12, ...)``."""
    half = SCALE // UNSHUFFLE
    return rows.unflatten(0, (half, UNSHUFFLE, half, UNSHUFFLE, 3)).mean(dim=(1, 3)).flatten(0, 2)


def _spread(rows: Tensor) -> Tensor:
    """The inverse direction: each of 2x2 sub-pixels for the 2x2 that lie in it."""
    half = SCALE // UNSHUFFLE
    wide = rows.unflatten(0, (half, 1, half, 1, 3))
    return wide.expand(half, UNSHUFFLE, half, UNSHUFFLE, 3, *rows.shape[1:]).flatten(0, 4)


def fits_together(propagator: PropagatorNet, upscaler: KeyframeUpscalerNet) -> bool:
    """Whether both are for the same factor."""
    return propagator.config.scale == upscaler.config.scale


__all__ = ["UNSHUFFLE", "doubling_propagator", "doubling_upscaler", "fits_together"]
