"""Which network is on the device when.

``none``: both stay. ``model``: only the one at work (the plan switches this on by itself when both do not fit beside
the activations). ``sequential``: layer by layer through accelerate's hooks, slowest, for the smallest memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Literal

import torch
from torch import nn

from sparkvsr.errors import ConfigError

OffloadMode = Literal["auto", "none", "model", "sequential"]
OFFLOAD_MODES: tuple[str, ...] = ("auto", "none", "model", "sequential")


def offload_by_layer(network: nn.Module, device: torch.device) -> None:
    """Keep a network's weights in main memory; each layer brings its own to the device while it works.

    Args:
        network: changed in place: between calls its tensors lie on the meta device.
        device: where it computes.

    Raises:
        ConfigError: the package accelerate is missing.
    """
    try:
        from accelerate import cpu_offload
    except ImportError as exc:
        msg = "offload sequential needs the package accelerate; pip install 'sparkvsr[cogvideox]'"
        raise ConfigError(msg) from exc
    # Buffers too: the 8-bit weights of `Int8Linear` are buffers and would stay on the device all together.
    cpu_offload(network, execution_device=device, offload_buffers=True)


class Residency:
    """Moves networks to and off the device.

    Args:
        networks: by name.
        device: where they compute.
        mode: one of ``OFFLOAD_MODES``; on the CPU there is nothing to offload and everything stays.

    Raises:
        ConfigError: unknown mode, or ``sequential`` without the package accelerate.
    """

    def __init__(self, networks: Mapping[str, nn.Module], device: torch.device, mode: str = "auto") -> None:
        if mode not in OFFLOAD_MODES:
            msg = f"offload={mode!r} is unknown; use {', '.join(OFFLOAD_MODES)}"
            raise ConfigError(msg)
        self.mode = mode
        self.notes: tuple[str, ...] = ()
        self._networks = dict(networks)
        self._device = device
        self._away = torch.device("cpu")
        if device.type == "cpu":
            if mode in ("model", "sequential"):
                self.notes = (f"offload {mode}: nothing to do on the CPU",)
        elif mode == "sequential":
            for network in self._networks.values():
                offload_by_layer(network, device)

    @property
    def can_swap(self) -> bool:
        """Whether networks may be moved: not on the CPU, not when the user asked for another way."""
        return self._device.type != "cpu" and self.mode in ("auto", "model")

    @contextmanager
    def __call__(self, name: str, swap: bool) -> Iterator[None]:
        """Have the network ``name`` on the device; with ``swap``, the others off it."""
        if self._device.type != "cpu" and self.mode != "sequential":
            for other, network in self._networks.items():
                if swap and other != name:
                    network.to(self._away)
            self._networks[name].to(self._device)
        yield
