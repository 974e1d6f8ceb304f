"""From what the user typed to a model: built-in names, folders, hub ids."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.home import expanded, is_there
from sparkvsr.models.device import resolve_device, resolve_dtype
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.looks import LOOKS

BUILT_IN_MODELS = ("lite", "bicubic")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
PROPAGATOR_FILE = "propagator.safetensors"
"""What tells a folder of lite (``models.lite.weights``)."""

DOUBLING_FOLDER = "x2"
"""Where its networks for x2 lie, if it has any."""


def own_references(look: str) -> str:
    """What ``--references auto`` stands for in a look, with the embedded model.

    Raises:
        ConfigError: unknown look.
    """
    _check_look(look)
    return "lite" if look == "faithful" else "detail"


def has_looks(name_or_path: str) -> bool:
    """Whether ``load_model`` would give a model that knows several looks; loads nothing."""
    path = expanded(name_or_path)
    if name_or_path == "lite" or not path.is_dir():
        return name_or_path == "lite"
    return any((folder / PROPAGATOR_FILE).is_file() for folder in (path, path / "model"))


def _check_look(look: str) -> None:
    if look not in LOOKS:
        msg = f"--look {look!r} is unknown; use {' or '.join(LOOKS)}"
        raise ConfigError(msg)


def load_model(
    name_or_path: str | Path = "lite",
    *,
    device: str | torch.device = "auto",
    dtype: str | torch.dtype | None = "auto",
    look: str | None = None,
    **options: Any,
) -> RestorationModel:
    """Load a restoration model.

    Args:
        name_or_path: ``lite`` (embedded), ``bicubic`` (baseline without weights), a model folder, or a hub id.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
        dtype: ``auto``, ``fp32``, ``bf16``, ``fp16`` or a torch dtype.
        look: of lite: ``vivid`` (default: sharp, invents detail) or ``faithful`` (closest to the source).
        options: for cogvideox folders, see ``sparkvsr.models.cogvideox.load_cogvideox``.

    Raises:
        WeightsError: no such model, or the folder cannot be used.
        ConfigError: unknown device, dtype or look, or a look for a model that has none.
    """
    resolved_device, resolved_dtype = resolve_device(device), resolve_dtype(dtype)
    if look is not None:
        _check_look(look)
    model = _load(str(name_or_path), resolved_device, resolved_dtype, look, options)
    if look is not None and model.look is None:
        msg = f"--look {look} is for lite models, {model.name} has one look only; leave it out"
        raise ConfigError(msg)
    return model


def check_name(name: str) -> None:
    """Refuse what can be no model, without loading anything.

    Raises:
        WeightsError: it is neither built in, nor there, nor a hub id.
    """
    # No name, of a script whose variable is not set, would be the path of this folder.
    if name in BUILT_IN_MODELS or (name and is_there(expanded(name))) or _HUB_ID.fullmatch(name):
        return
    msg = (
        f"--model {name!r} is unknown; use {', '.join(BUILT_IN_MODELS)}, the path of a model folder, "
        f"or a hub id like owner/name"
    )
    raise WeightsError(msg)


def _load(
    name: str,
    resolved_device: torch.device,
    resolved_dtype: torch.dtype | None,
    look: str | None,
    options: dict[str, Any],
) -> RestorationModel:
    check_name(name)
    if name in BUILT_IN_MODELS:
        _refuse_options(name, options)
    if name == "bicubic":
        from sparkvsr.models.bicubic import BicubicModel

        return BicubicModel(resolved_device)
    if name == "lite":
        from sparkvsr.models.lite.model import load_lite

        return load_lite(None, device=resolved_device, dtype=resolved_dtype, look=look)
    path = expanded(name)
    if is_there(path):
        return _load_path(path, resolved_device, resolved_dtype, look, options)
    from sparkvsr.models.cogvideox import load_cogvideox

    return load_cogvideox(name, device=resolved_device, dtype=resolved_dtype, **options)


def _load_path(
    path: Path, device: torch.device, dtype: torch.dtype | None, look: str | None, options: dict[str, Any]
) -> RestorationModel:
    if path.is_file() and path.suffix == ".ckpt":
        msg = f"{path} is a training checkpoint; make a model folder of it first: sparkvsr export {path} -o DIR"
        raise WeightsError(msg)
    if (path / "model").is_dir() and any(path.glob("*.ckpt")):
        return _load_path(path / "model", device, dtype, look, options)  # a training run that exported at its end
    if not path.is_dir():
        kind = "a file" if path.is_file() else "no folder (a pipe, socket or device)"
        msg = f"{path} is {kind}; --model takes lite, bicubic, a model folder or a hub id"
        raise WeightsError(msg)
    if (path / "model_index.json").is_file() or (path / "transformer").is_dir():
        from sparkvsr.models.cogvideox import load_cogvideox

        return load_cogvideox(path, device=device, dtype=dtype, **options)
    if any(path.glob("*.ckpt")):
        msg = f"{path} is a training run without an exported model; make one first: sparkvsr export {path} -o DIR"
        raise WeightsError(msg)
    if any(path.glob("*.safetensors")):
        _refuse_options(str(path), options)
        from sparkvsr.models.lite.model import load_lite

        return load_lite(path, device=device, dtype=dtype, look=look)
    found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
    msg = (
        f"{path} is not a model folder (found {found}); it needs model_index.json with transformer/ and vae/ "
        f"(cogvideox), or the weights of lite as sparkvsr export writes them"
    )
    raise WeightsError(msg)


def _refuse_options(name: str, options: dict[str, Any]) -> None:
    if options:
        names = ", ".join("--" + option.replace("_", "-") for option in options)
        msg = f"{names}: only for cogvideox models, not for {name}; leave it out (--dtype sets the precision of lite)"
        raise ConfigError(msg)
