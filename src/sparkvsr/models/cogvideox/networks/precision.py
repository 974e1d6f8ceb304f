"""Number types of the weights: full precision, or weight-only 8 bit for the transformer.

Most of the time goes into the autoencoder (71 % of the work at 720p, docs/method.md 7.1), so 8-bit weights are for
memory, not for speed: they halve the 10.4 GiB of the transformer. The autoencoder stays in the compute type.
"""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sparkvsr.errors import ConfigError

PRECISIONS: dict[str, torch.dtype] = {
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
    "fp32": torch.float32,
    "fp8": torch.bfloat16,
    "int8": torch.bfloat16,
    "fp8-matmul": torch.bfloat16,
    "int8-matmul": torch.bfloat16,
}
_EIGHT_BIT = ("fp8", "int8", "fp8-matmul", "int8-matmul")


@dataclass(frozen=True)
class Precision:
    """A checked choice.

    Attributes:
        name: as the user gave it.
        dtype: compute type.
        storage: how the transformer's linear weights are kept.
        in_8_bit: whether the products run in 8 bit, too (package torchao).
    """

    name: str
    dtype: torch.dtype
    storage: Literal["full", "fp8", "int8"]
    in_8_bit: bool = False

    @property
    def weight_bytes(self) -> int:
        """Bytes of one linear weight of the transformer."""
        return 1 if self.storage != "full" else self.dtype.itemsize


def choose_precision(name: str | None, dtype: torch.dtype | None, device: torch.device) -> Precision:
    """Settle on a precision.

    Args:
        name: one of ``PRECISIONS`` or None.
        dtype: compute type that the caller wants, or None. With ``fp8`` and ``int8`` it may be any of the three.
        device: where it will run.

    Raises:
        ConfigError: unknown name, contradiction, or a type that the device lacks.
    """
    if name is not None and name not in PRECISIONS:
        msg = f"precision={name!r} is unknown; use {', '.join(PRECISIONS)}"
        raise ConfigError(msg)
    if name is None:
        if dtype is None:
            dtype = _preferred(device)
        names = {value: key for key, value in PRECISIONS.items() if key not in _EIGHT_BIT}
        if dtype not in names:
            msg = f"dtype={dtype} is not supported; use bf16, fp16 or fp32"
            raise ConfigError(msg)
        name = names[dtype]
    quantised, in_8_bit = name in _EIGHT_BIT, name.endswith("-matmul")
    compute = dtype or (_preferred(device) if quantised else PRECISIONS[name])
    if not quantised and compute != PRECISIONS[name]:
        msg = f"precision={name!r} contradicts dtype={compute}; give one of them"
        raise ConfigError(msg)
    if not _supported(compute, device):
        msg = f"{device} has no {str(compute).removeprefix('torch.')}; use precision fp16 or fp32 there"
        raise ConfigError(msg)
    if in_8_bit:
        _check_matmul(name, device)
    if name == "fp8" and (device.type == "mps" or not hasattr(torch, "float8_e4m3fn")):
        msg = f"{device} cannot hold fp8 weights; use precision int8, fp16 or fp32 there"
        raise ConfigError(msg)
    storage: Any = name.removesuffix("-matmul") if quantised else "full"
    return Precision(name, compute, storage, in_8_bit)


def _check_matmul(name: str, device: torch.device) -> None:
    if importlib.util.find_spec("torchao") is None:
        msg = f"precision {name} needs the package torchao: pip install 'sparkvsr[torchao]', or use precision int8"
        raise ConfigError(msg)
    capability = torch.cuda.get_device_capability(device) if device.type == "cuda" else (0, 0)
    if name == "fp8-matmul" and capability < (8, 9):
        msg = f"{device} has no fp8 tensor cores (Ada, Hopper or newer); use precision int8-matmul or fp8"
        raise ConfigError(msg)


def _preferred(device: torch.device) -> torch.dtype:
    if device.type == "cpu":
        return torch.float32
    return torch.bfloat16 if _supported(torch.bfloat16, device) else torch.float16


def _supported(dtype: torch.dtype, device: torch.device) -> bool:
    if dtype is torch.bfloat16 and device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return not (dtype is torch.bfloat16 and device.type == "mps" and not _mps_has_bf16())


def _mps_has_bf16() -> bool:
    try:
        torch.zeros(1, dtype=torch.bfloat16, device="mps")
    except (TypeError, RuntimeError):
        return False
    return True


class Int8Linear(nn.Module):
    """Linear layer with int8 weights, one scale per output channel; the product runs in the input's type.

    Args:
        linear: the layer to replace.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        weight = linear.weight.detach().float()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12) / 127
        self.weight: Tensor
        self.scale: Tensor
        self.register_buffer("weight", (weight / scale).round().clamp_(-127, 127).to(torch.int8))
        self.register_buffer("scale", scale[:, 0].to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, values: Tensor) -> Tensor:
        """``(..., in_features)`` to ``(..., out_features)``, in the type of ``values``."""
        # Scaling the product instead of the weight keeps one pass over the large matrix.
        product = F.linear(values, self.weight.to(values.dtype)) * self.scale
        return product if self.bias is None else product + self.bias


def apply_precision(transformer: nn.Module, precision: Precision) -> nn.Module:
    """Quantise the large linear weights of the transformer blocks in place; everything else stays full."""
    if precision.in_8_bit:
        _quantise_products(transformer, precision)
    elif precision.storage == "int8":
        for name, layer in list(transformer.named_modules()):
            if is_quantised_layer(name, layer):
                parent, _, child = name.rpartition(".")
                setattr(transformer.get_submodule(parent), child, Int8Linear(layer))
    elif precision.storage == "fp8":
        from diffusers.hooks import apply_layerwise_casting

        skip = tuple(
            f"^{re.escape(name)}$"
            for name, layer in transformer.named_modules()
            if next(layer.parameters(recurse=False), None) is not None and not is_quantised_layer(name, layer)
        )
        apply_layerwise_casting(
            transformer,
            storage_dtype=torch.float8_e4m3fn,
            compute_dtype=precision.dtype,
            skip_modules_pattern=skip,
        )
    return transformer


def _quantise_products(transformer: nn.Module, precision: Precision) -> None:
    """Weights and, as they come, activations in 8 bit, multiplied as such: one scale per output channel and token."""
    from torchao.quantization import (
        Float8DynamicActivationFloat8WeightConfig,
        Int8DynamicActivationInt8WeightConfig,
        PerRow,
        quantize_,
    )

    config: Any = (
        Int8DynamicActivationInt8WeightConfig()
        if precision.storage == "int8"
        else Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    )
    quantize_(transformer, config, filter_fn=lambda layer, name: is_quantised_layer(name, layer))


_QUANTISED = re.compile(r"transformer_blocks\.\d+\.(attn1\.to_[qkv]|attn1\.to_out\.0|ff\.net\.(0\.proj|2))")


def is_quantised_layer(name: str, layer: nn.Module) -> bool:
    """Attention and feed-forward matrices: 85 % of the weights. An error in the adaLN layers shifts whole channels."""
    return isinstance(layer, nn.Linear) and _QUANTISED.fullmatch(name) is not None
