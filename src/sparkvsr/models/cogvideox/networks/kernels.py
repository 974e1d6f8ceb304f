"""How the networks' arithmetic is run: compiled or not, by which attention, in which memory layout.

None of it changes what is computed beyond rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sparkvsr.errors import ConfigError

Attention = Literal["auto", "flash", "fa3", "cudnn", "efficient", "math"]
VaeLayout = Literal["contiguous", "channels_last"]
ATTENTIONS: tuple[str, ...] = get_args(Attention)
VAE_LAYOUTS: tuple[str, ...] = get_args(VaeLayout)

_BACKENDS = {
    "flash": SDPBackend.FLASH_ATTENTION,
    "fa3": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}


def compile_blocks(transformer: nn.Module, backend: str = "inductor") -> None:
    """``torch.compile`` each transformer block in place; parameters and their names stay.

    The blocks are alike, so one compilation serves all of them. (The library's ``compile_repeated_blocks`` knows no
    repeated blocks of this class.)

    Args:
        transformer: a ``CogVideoXTransformer3DModel``.
        backend: of ``torch.compile``.
    """
    blocks: Any = transformer.transformer_blocks
    for block in blocks:
        block.compile(backend=backend, fullgraph=True)


def check_attention(name: str, device: torch.device) -> None:
    """Refuse an attention that cannot work on a device, before weights are read; switch ``fa3`` on.

    Args:
        name: one of ``ATTENTIONS``.
        device: where it will run.

    Raises:
        ConfigError: unknown, not for this device, or its package is missing.
    """
    if name not in ATTENTIONS:
        msg = f"attention={name!r} is unknown; use {', '.join(ATTENTIONS)}"
        raise ConfigError(msg)
    if name in ("fa3", "cudnn", "efficient") and device.type != "cuda":
        msg = f"attention={name} needs a CUDA device, this is {device}; use auto, flash or math"
        raise ConfigError(msg)
    if name == "fa3":
        _activate_flash_attention_3()


def _activate_flash_attention_3() -> None:
    try:
        from torch.nn.attention import activate_flash_attention_impl

        activate_flash_attention_impl("FA3")
    except (ImportError, RuntimeError, ValueError) as exc:
        msg = (
            f"attention=fa3 cannot be used ({str(exc).splitlines()[0]}); it needs the package flash-attn-3, a Hopper "
            "GPU and torch 2.10 or newer; use auto"
        )
        raise ConfigError(msg) from exc


@contextmanager
def attention_by(name: str) -> Iterator[None]:
    """Attention inside runs by one implementation; ``auto`` leaves the choice to torch."""
    if name == "auto":
        yield
        return
    with sdpa_kernel(_BACKENDS[name]):
        yield


def check_layout(name: str) -> None:
    """Refuse an unknown layout of the autoencoder.

    Raises:
        ConfigError: unknown.
    """
    if name not in VAE_LAYOUTS:
        msg = f"vae_layout={name!r} is unknown; use {', '.join(VAE_LAYOUTS)}"
        raise ConfigError(msg)


def set_layout(vae: nn.Module, name: str) -> None:
    """Bring the autoencoder's weights into a layout.

    ``channels_last`` suits the convolutions of tensor cores. CUDA's group norm however works on contiguous tensors
    only, so each of its norms then copies the whole activation twice; the memory plan counts these copies.
    """
    if name == "channels_last":
        vae.to(memory_format=torch.channels_last_3d)
