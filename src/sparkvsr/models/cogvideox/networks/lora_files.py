"""LoRA files in diffusers or peft naming, merged into the weights (no peft at run time)."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparkvsr.errors import WeightsError
from sparkvsr.plain_json import read_object

PEFT_CONFIG = "adapter_config.json"
"""What peft writes beside its weights."""

_PREFIX = re.compile(
    r"^(base_model\.model\.|transformer\.(?=transformer_blocks|patch_embed|proj_out|norm_out|time_|ofs_))"
)
_PART = re.compile(r"^(?P<layer>.+?)\.(lora_(?P<side>A|B|down|up)(\.default)?\.weight|(?P<alpha>alpha))$")


def merge_lora(transformer: nn.Module, path: Path, strength: float = 1.0) -> int:
    """Add ``strength * alpha / rank * B A`` to the layers a file names.

    ``alpha`` comes from the file's ``.alpha`` tensors, else from an ``adapter_config.json`` beside it (peft), else
    equals the rank.

    Args:
        transformer: with full-precision weights.
        path: a ``.safetensors`` file.
        strength: factor on the change.

    Returns:
        Number of layers changed.

    Raises:
        WeightsError: the file cannot be read, is no LoRA, or is for another model.
    """
    parts, alphas = _read(path)
    if not parts:
        msg = f"{path} holds no LoRA (no lora_A/lora_B or lora_down/lora_up tensors); pass a LoRA of the transformer"
        raise WeightsError(msg)
    layers = dict(transformer.named_modules())
    unknown = [name for name in parts if not isinstance(layers.get(name), nn.Linear)]
    if unknown:
        more = ", ..." * (len(unknown) > 5)
        msg = (
            f"{path} changes {len(unknown)} layers this transformer lacks ({', '.join(sorted(unknown)[:5])}{more}); "
            "it was made for another model"
        )
        raise WeightsError(msg)
    config_alpha = _peft_alpha(path)
    for name, pair in parts.items():
        layer = layers[name]
        down, up = pair.get("down"), pair.get("up")
        if down is None or up is None:
            msg = f"{path}: {name} has only one of its two LoRA matrices; the file is incomplete, copy it again"
            raise WeightsError(msg)
        weight: Tensor = layer.weight
        if up.shape[0] != weight.shape[0] or down.shape[1] != weight.shape[1] or up.shape[1] != down.shape[0]:
            msg = (
                f"{path}: {name} has LoRA shapes {tuple(up.shape)} x {tuple(down.shape)}, the layer is "
                f"{tuple(weight.shape)}; it was made for another model"
            )
            raise WeightsError(msg)
        rank = down.shape[0]
        alpha = alphas.get(name, rank if config_alpha is None else config_alpha)
        change = (up.float() @ down.float()) * (strength * alpha / rank)
        with torch.no_grad():
            weight.copy_(weight.float() + change.to(weight.device))
    return len(parts)


def _read(path: Path) -> tuple[dict[str, dict[str, Tensor]], dict[str, float]]:
    parts: dict[str, dict[str, Tensor]] = {}
    alphas: dict[str, float] = {}
    if not path.is_file():
        msg = f"LoRA file {path} does not exist"
        raise WeightsError(msg)
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118  (safe_open is not a mapping)
                found = _PART.match(_PREFIX.sub("", key))
                if found is None:
                    continue
                if found["alpha"]:
                    alphas[found["layer"]] = float(file.get_tensor(key))
                else:
                    side = "down" if found["side"] in ("A", "down") else "up"
                    parts.setdefault(found["layer"], {})[side] = file.get_tensor(key)
    except (OSError, SafetensorError) as exc:
        msg = f"{path} cannot be read as safetensors ({exc}); copy it again"
        raise WeightsError(msg) from exc
    return parts, alphas


def _peft_alpha(path: Path) -> float | None:
    config = path.with_name(PEFT_CONFIG)
    try:
        return float(read_object(config)["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, OverflowError):
        return None
