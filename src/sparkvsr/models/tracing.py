"""FLOPs and peak memory of a piece of work, found on the meta device: nothing is computed, any size takes a second.

Counts what PyTorch allocates for tensors. What it cannot see: workspaces of kernels, the allocator's fragments.
"""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count


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
def peak_bytes(work: Callable[[], object], *, autocast: bool = False) -> int:
    """Most bytes that ``work`` holds at one moment beyond its inputs.

    Args:
        work: runs on the meta device, without gradient.
        autocast: norms in float32, as autocast computes them.
    """
    live = _LiveBytes()
    with _without_scores(), _as_autocast() if autocast else nullcontext(), live:
        result = work()
    del result
    return live.peak


@contextmanager
def copied_layouts() -> Iterator[None]:
    """What CUDA does to a network whose 3-D convolutions have channels-last weights.

    The convolution brings its input into that layout; group norm, which knows contiguous tensors only (ATen's
    ``group_norm.cpp`` asks for them on every device but the CPU), brings it back. On the meta device neither happens by
    itself.
    """
    convolve, normalise = F.conv3d, F.group_norm

    def conv3d(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        channels_last = input.contiguous(memory_format=torch.channels_last_3d)
        result: Tensor = convolve(channels_last, *args, **kwargs)
        return result.contiguous(memory_format=torch.channels_last_3d)

    def group_norm(input: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        result: Tensor = normalise(input.contiguous(), *args, **kwargs)
        return result

    with mock.patch.object(F, "conv3d", conv3d), mock.patch.object(F, "group_norm", group_norm):
        yield


class _AttentionWithGradient(torch.autograd.Function):
    """What fused attention keeps for its backward pass: its inputs, its output and a number per row."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """An output of the right shape."""
        out = torch.empty_like(query)
        ctx.save_for_backward(query, key, value, out, query.new_empty(query.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of the right shapes."""
        del grad
        query, key, value, *_ = ctx.saved_tensors
        return torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)


@contextmanager
def _as_autocast() -> Iterator[None]:
    """What autocast does: norms in float32, matrix products and convolutions in the type of their weights.

    Patched and not a mode: checkpointing computes again inside the backward pass, where a mode is off.
    """

    def in_float32(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            args, kwargs = _cast_all((args, kwargs), torch.float32)
            return function(*args, **kwargs)

        return call

    def as_weights(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def call(*args: Any, **kwargs: Any) -> Tensor:
            args, kwargs = _cast_all((args, kwargs), (args[1] if len(args) > 1 else kwargs["weight"]).dtype)
            return function(*args, **kwargs)

        return call

    with ExitStack() as patches:
        for name in ("layer_norm", "group_norm"):
            patches.enter_context(mock.patch.object(F, name, in_float32(getattr(F, name))))
        for name in ("linear", "conv2d", "conv3d"):
            patches.enter_context(mock.patch.object(F, name, as_weights(getattr(F, name))))
        yield


def _cast_all(tree: Any, dtype: torch.dtype) -> Any:
    return tree_map(
        lambda leaf: leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf, tree
    )


def training_peak_bytes(work: Callable[[], Tensor], parameters: Iterable[nn.Parameter], *, autocast: bool) -> int:
    """Most bytes that a forward and backward pass on the meta device holds beyond its inputs and the gradients.

    Args:
        work: gives a scalar to differentiate.
        parameters: whose gradients are dropped as soon as they are whole; they are counted elsewhere.
        autocast: norms in float32, as autocast computes them.
    """

    def drop(parameter: Tensor) -> None:
        parameter.grad = None

    # Cycles are collected at moments that depend on what the process did before: none of them during the trace.
    gc.collect()
    collecting = gc.isenabled()
    gc.disable()
    hooks = [p.register_post_accumulate_grad_hook(drop) for p in parameters if p.requires_grad]
    live = _LiveBytes()

    def attention(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        del options
        result: Tensor = _AttentionWithGradient.apply(query, key, value)
        return result

    try:
        types = _as_autocast() if autocast else nullcontext()
        with mock.patch.object(F, "scaled_dot_product_attention", attention), types, live:
            loss = work()
            loss.backward()
            del loss
    finally:
        if collecting:
            gc.enable()
        for hook in hooks:
            hook.remove()
    return live.peak


def _attention_flops(query: Any, key: Any, value: Any, *args: Any, out_shape: Any = None, **options: Any) -> int:
    del args, out_shape, options
    return int(sdpa_flop_count(query, key, value))


def flop_counter() -> FlopCounterMode:
    """A counter that knows the CPU's fused attention, which PyTorch's own leaves out (seen with 2.14)."""
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return FlopCounterMode(display=False, custom_mapping={fused: _attention_flops})


@torch.inference_mode()
def flops(work: Callable[[], object]) -> int:
    """FLOPs (2 per multiply-add) of ``work`` on the meta device."""
    counter = flop_counter()
    with counter:
        work()
    return int(counter.get_total_flops())
