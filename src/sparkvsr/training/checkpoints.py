"""Finding and reading the checkpoints of a run, whichever strategy wrote them."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.module import CHECKPOINT_KEY

NETWORK_PREFIX = "adapter.network."
_WRAPPERS = ("_forward_module.", "module.", "_orig_mod.")


def find_checkpoint(path: Path) -> Path:
    """The checkpoint a path means: itself, or ``last.ckpt`` (else the newest ``step-*.ckpt``) of a run folder.

    Raises:
        ConfigError: there is none.
    """
    if path.is_file() or _is_sharded(path):
        return path.resolve()
    if path.is_dir():
        last = path / "last.ckpt"
        if last.exists():
            return last.resolve()
        steps = sorted(path.glob("step-*.ckpt"))
        if steps:
            return steps[-1].resolve()
        msg = f"{path} holds no *.ckpt; give the folder of a run (sparkvsr train writes runs/...) or a .ckpt"
        raise ConfigError(msg)
    msg = f"{path} does not exist; give the folder of a run or a .ckpt"
    raise ConfigError(msg)


def newest_run(folder: Path, stage: int) -> Path | None:
    """The run folder of a stage with the newest ``last.ckpt``."""
    runs = [
        checkpoint.parent
        for checkpoint in folder.glob("*/last.ckpt")
        if checkpoint.parent.name.endswith(f"stage{stage}")
    ]
    return max(runs, key=lambda run: (run / "last.ckpt").stat().st_mtime).resolve() if runs else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file or folder into one dictionary on the CPU.

    Files are read without executing anything in them (``weights_only``). A folder is DeepSpeed's or FSDP's; of
    DeepSpeed's ZeRO-1 and -2 the whole 16-bit module is taken, or the float32 weights where the package is installed.

    Raises:
        WeightsError: it is damaged or of an unknown kind.
    """
    try:
        if path.is_dir():
            return _read_sharded(path)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError, SafetensorError) as exc:
        msg = f"{path} cannot be read as a checkpoint of sparkvsr train ({str(exc).splitlines()[0][:200]})"
        raise WeightsError(msg) from exc
    if not isinstance(loaded, dict) or "state_dict" not in loaded:
        msg = f"{path} is no checkpoint of sparkvsr train: it has no state_dict"
        raise WeightsError(msg)
    return loaded


def network_state(checkpoint: dict[str, Any], *, ema: bool | None = None) -> dict[str, Tensor]:
    """The trained network's weights out of a checkpoint.

    Args:
        checkpoint: of ``read_checkpoint``.
        ema: take the moving average; None takes it if there is one.

    Raises:
        ConfigError: ``ema`` is true and the run kept no average.
        WeightsError: there are no weights of a network.
    """
    average = checkpoint.get(CHECKPOINT_KEY, {}).get("ema")
    if ema and not average:
        msg = "--ema: this run kept no moving average (optimizer.ema_decay was 0); leave the option out"
        raise ConfigError(msg)
    if average and ema is not False:
        return dict(average)
    state = {}
    for key, value in checkpoint["state_dict"].items():
        for wrapper in _WRAPPERS:
            key = key.removeprefix(wrapper)
        if key.startswith(NETWORK_PREFIX):
            state[key.removeprefix(NETWORK_PREFIX)] = value
    if not state:
        msg = f"the checkpoint holds no weights under {NETWORK_PREFIX}; was it written by sparkvsr train?"
        raise WeightsError(msg)
    return state


def load_network_state(path: Path, adapter: TrainingAdapter) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights to start from: of a run folder, a checkpoint, or a model folder.

    Returns:
        The network's weights and, for a run, its configuration.

    Raises:
        ConfigError, WeightsError: nothing usable there.
    """
    if path.is_dir() and not _is_sharded(path) and not any(path.glob("*.ckpt")):
        return adapter.read_folder(path), {}
    checkpoint = read_checkpoint(find_checkpoint(path))
    config = checkpoint.get(CHECKPOINT_KEY, {}).get("config", {})
    state = network_state(checkpoint)
    if any(".lora_" in key for key in state):
        msg = f"{path} was trained with LoRA; make a model folder of it to start from: sparkvsr export {path} -o DIR"
        raise ConfigError(msg)
    return state, config


def _is_sharded(path: Path) -> bool:
    return path.is_dir() and (
        (path / "latest").is_file() or (path / ".metadata").is_file() or (path / "checkpoint").is_dir()
    )


def _read_sharded(path: Path) -> dict[str, Any]:
    if (path / ".metadata").is_file():
        from lightning.fabric.utilities.load import _load_distributed_checkpoint

        consolidated: dict[str, Any] = _load_distributed_checkpoint(path)
        if "state_dict" not in consolidated and "model" in consolidated:
            consolidated["state_dict"] = consolidated.pop("model")
        return consolidated
    tag = (path / "latest").read_text().strip() if (path / "latest").is_file() else "checkpoint"
    files = sorted((path / tag).glob("*model_states.pt"))
    if not files:
        msg = f"{path} has neither FSDP's .metadata nor DeepSpeed's {tag}/mp_rank_00_model_states.pt"
        raise WeightsError(msg)
    # DeepSpeed pickles its own objects beside the tensors; this needs the package when they are there.
    states: dict[str, Any] = torch.load(files[0], map_location="cpu", weights_only=True)
    states["state_dict"] = states.pop("module")
    full = _deepspeed_float32(path)
    if full is not None:
        states["state_dict"] = full
    return states


def _deepspeed_float32(path: Path) -> dict[str, Tensor] | None:
    try:
        from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint
    except ImportError:
        return None
    return dict(get_fp32_state_dict_from_zero_checkpoint(str(path)))
