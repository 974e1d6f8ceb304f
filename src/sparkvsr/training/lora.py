"""Low-rank adapters through peft: train a small addition to each chosen layer instead of all weights."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any

from sparkvsr.errors import ConfigError
from sparkvsr.training.adapters.interface import TrainingAdapter

_PREFIX = "lora"


def has_peft() -> bool:
    """Whether the package is installed."""
    return importlib.util.find_spec("peft") is not None


def add_lora(adapter: TrainingAdapter, *, rank: int, alpha: float, targets: Sequence[str]) -> None:
    """Freeze the network and put low-rank adapters beside the named layers, in place.

    Args:
        adapter: the model.
        rank: of the addition.
        alpha: its strength; the addition is scaled by ``alpha / rank``.
        targets: ends of layer names.

    Raises:
        ConfigError: peft is missing, or no layer has such a name.
    """
    if not has_peft():
        msg = f"optimizer.lora.rank={rank} needs the package peft: pip install 'sparkvsr[lora]', or set the rank to 0"
        raise ConfigError(msg)
    from peft import LoraConfig, inject_adapter_in_model

    network: Any = adapter.network
    network.requires_grad_(False)
    try:
        inject_adapter_in_model(
            LoraConfig(r=rank, lora_alpha=int(alpha), target_modules=adapter.lora_targets(targets), lora_dropout=0.0),
            network,
            adapter_name=_PREFIX,
        )
    except ValueError as exc:
        names = sorted({name.rpartition(".")[2] for name, _ in network.named_modules() if name})[:12]
        msg = (
            f"optimizer.lora.targets={list(targets)} match no layer of this model; its layers end in {', '.join(names)}"
        )
        raise ConfigError(msg) from exc


def merged_state(adapter: TrainingAdapter) -> dict[str, Any]:
    """The network's weights with the adapters added in, under the names of the plain network."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    network: Any = adapter.network
    layers = [module for module in network.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.merge()
    state = {
        key.replace(".base_layer", ""): value.detach().cpu().clone()
        for key, value in network.state_dict().items()
        if ".lora_" not in key
    }
    for layer in layers:
        layer.unmerge()
    return state
