"""Runs the convolutions of the propagator where and how they are fastest: device, precision, tiles."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from sparkvsr.models.lite.network import Fusion, PropagatorNet


class NetworkRunner:
    """The learned part of a propagator for one frame at a time.

    Only convolutions run on the device and in low precision. Pictures, warps and sums stay float32 on the CPU, which
    keeps bf16 within a hundredth of a dB of float32.

    Args:
        net: float32 network; not changed.
        device: where convolutions run.
        dtype: their precision.
        tile: side of a tile in LR pixels, None for whole frames. Tiles get as much surrounding as the network can see,
            so that they give what the whole frame gives.
    """

    def __init__(self, net: PropagatorNet, device: torch.device, dtype: torch.dtype, tile: int | None = None) -> None:
        self.net, self.device, self.dtype, self.tile = net, device, dtype, tile

    def fuse(self, features: Tensor) -> Fusion:
        """``PropagatorNet.fuse``, tiled."""

        def run(x: Tensor) -> tuple[Tensor, ...]:
            out = self.net.fuse(x)
            return out.residual, out.key_logit, out.previous_logit, out.plain_logit, out.hidden

        return Fusion(*self._tiled(run, features, self.net.fuse_margin))

    def _tiled(self, run: Callable[[Tensor], tuple[Tensor, ...]], features: Tensor, margin: int) -> tuple[Tensor, ...]:
        h, w = features.shape[-2:]
        if self.tile is None or max(h, w) <= self.tile:
            return self._on_device(run, features)
        whole: list[Tensor] = []
        for top, bottom in _spans(h, self.tile):
            for left, right in _spans(w, self.tile):
                y0, x0 = max(0, top - margin), max(0, left - margin)
                parts = self._on_device(run, features[:, :, y0 : min(h, bottom + margin), x0 : min(w, right + margin)])
                if not whole:
                    whole = [_empty(part, h, w) for part in parts]
                for target, part in zip(whole, parts, strict=True):
                    target[:, :, top:bottom, left:right] = part[:, :, top - y0 : bottom - y0, left - x0 : right - x0]
        return tuple(whole)

    def _on_device(self, run: Callable[[Tensor], tuple[Tensor, ...]], features: Tensor) -> tuple[Tensor, ...]:
        x = features.to(self.device, self.dtype).contiguous(memory_format=torch.channels_last)
        return tuple(part.float().cpu() for part in run(x))


def _spans(length: int, tile: int) -> list[tuple[int, int]]:
    """Cut a length into equal parts no longer than ``tile``."""
    count = -(-length // tile)
    edges = [round(i * length / count) for i in range(count + 1)]
    return list(pairwise(edges))


def _empty(like: Tensor, h: int, w: int) -> Tensor:
    return torch.empty(like.shape[0], like.shape[1], h, w, dtype=like.dtype).contiguous(
        memory_format=torch.channels_last
    )
