"""FLOPs and peak memory of a piece of work, found on the meta device: nothing is computed, any size takes a second.

Counts what PyTorch allocates for tensors. What it cannot see: workspaces of kernels, the allocator's fragments.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Trace:
    """What a piece of work costs.

    Attributes:
        flops: multiplications and additions of matrix products, convolutions and attention.
        peak_bytes: most bytes that tensors made by the work had at one moment.
    """

    flops: int
    peak_bytes: int


class _LiveBytes(TorchDispatchMode):
    """Sum the storages of all tensors that operators return and that are still referenced."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = self._now = 0
        self._references: dict[int, int] = {}
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._follow(leaf, known)
        self.peak = max(self.peak, self._now)
        return result

    def _follow(self, tensor: Tensor, known: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._references:
            if key in known:
                return  # a view of something that was there before: a parameter or the work's own input
            self._references[key], self._sizes[key] = 0, storage.nbytes()
            self._now += self._sizes[key]
        self._references[key] += 1
        weakref.finalize(tensor, self._forget, key)

    def _forget(self, key: int) -> None:
        self._references[key] -= 1
        if not self._references[key]:
            del self._references[key]
            self._now -= self._sizes.pop(key)


def _fused_attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
    """Stand-in with the memory of fused attention: the meta device would make the whole score matrix."""
    del key, value, options
    return torch.empty_like(query)


@contextmanager
def _without_scores() -> Iterator[None]:
    with mock.patch.object(F, "scaled_dot_product_attention", _fused_attention):
        yield


@torch.inference_mode()
def peak_bytes(work: Callable[[], object]) -> int:
    """Most bytes that ``work``, which must run on the meta device, holds at one moment beyond its inputs."""
    live = _LiveBytes()
    with _without_scores(), live:
        result = work()
    del result
    return live.peak


@torch.inference_mode()
def flops(work: Callable[[], object]) -> int:
    """FLOPs (2 per multiply-add) of ``work`` on the meta device."""
    counter = FlopCounterMode(display=False)
    with counter:
        work()
    return int(counter.get_total_flops())
