"""Finding and reading the checkpoints of a run, whichever strategy wrote them."""

from __future__ import annotations

import importlib.util
import io
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.module import CHECKPOINT_KEY
from sparkvsr.training.shard_writer import AVERAGE, put_average
from sparkvsr.training.sharded_files import METADATA_FILE, list_deepspeed_classes, read_sharded, reason
from sparkvsr.unpickling import weights_only

NETWORK_PREFIX = "adapter.network."
MAX_NAME_BYTES = 255
_FSDP_META = "meta.pt"
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
    what = "is a pipe, socket or device" if path.exists() else "does not exist"
    msg = f"{path} {what}; give the folder of a run or a .ckpt"
    raise ConfigError(msg)


def has_checkpoint(folder: Path) -> bool:
    """Whether a run folder holds a checkpoint to go on with."""
    return (folder / "last.ckpt").exists() or any(folder.glob("step-*.ckpt"))


def newest_run(folder: Path, stage: int | None) -> Path | None:
    """The run folder with the newest ``last.ckpt``, of a stage or of any."""
    runs = [
        checkpoint.parent
        for checkpoint in folder.glob("*/last.ckpt")
        if stage is None or checkpoint.parent.name.endswith(f"stage{stage}")
    ]
    return max(runs, key=lambda run: (run / "last.ckpt").stat().st_mtime).resolve() if runs else None


def read_header(path: Path) -> dict[str, Any]:
    """Everything of a checkpoint but its large tensors: ``global_step``, what ``sparkvsr`` keeps, and so on.

    Raises:
        WeightsError: see ``read_checkpoint``.
    """
    if not path.is_dir():
        return read_checkpoint(path)  # mapped into memory: tensors that nobody touches are not read
    return _load(_deepspeed_states(path) if _is_deepspeed(path) else path / _FSDP_META)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file or folder into one dictionary on the CPU.

    Nothing in it is ever executed (``weights_only``, and a list of names for what FSDP and DeepSpeed write beside
    weights). A folder is FSDP's or DeepSpeed's; of the latter the float32 weights are taken, which needs the package
    where the network itself is kept in 16 bit.

    Raises:
        WeightsError: it is damaged or of an unknown kind, or the package is missing.
    """
    loaded = _read_folder(path) if path.is_dir() else _load(path)
    if not isinstance(loaded.get("state_dict"), dict):
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
    state = {}
    for key, value in checkpoint["state_dict"].items():
        for wrapper in _WRAPPERS:
            key = key.removeprefix(wrapper)
        if key.startswith(NETWORK_PREFIX):
            state[key.removeprefix(NETWORK_PREFIX)] = value
    if not state:
        msg = f"the checkpoint holds no weights under {NETWORK_PREFIX}; was it written by sparkvsr train?"
        raise WeightsError(msg)
    # The average holds what was trained; the rest (with LoRA: nearly everything) is the network's own.
    return {**state, **average} if average and ema is not False else state


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


def folder_kind(path: Path) -> str | None:
    """Who wrote a checkpoint that is a folder: ``fsdp`` or ``deepspeed``; None for anything else."""
    if not path.is_dir():
        return None
    if _is_deepspeed(path):
        return "deepspeed"
    return "fsdp" if (path / METADATA_FILE).is_file() else None


def _is_sharded(path: Path) -> bool:
    return folder_kind(path) is not None


def _is_deepspeed(path: Path) -> bool:
    return (path / "latest").is_file() or (path / "checkpoint").is_dir()


def _load(file: Path) -> dict[str, Any]:
    # Anything else but a file, such as a named pipe, would be waited for.
    if file.exists() and not (file.is_file() and _is_archive(file)):
        msg = f"{file} is no checkpoint of sparkvsr train: it is a file of another kind, or cut short"
        raise WeightsError(msg)
    try:
        loaded: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except Exception as exc:  # a damaged or forged file makes torch raise whatever comes of it
        msg = f"{file} cannot be read as a checkpoint of sparkvsr train ({reason(exc)})"
        raise WeightsError(msg) from exc
    if not isinstance(loaded, dict):
        msg = f"{file} is no checkpoint of sparkvsr train: it holds a {type(loaded).__name__}"
        raise WeightsError(msg)
    for key, kind in ((CHECKPOINT_KEY, dict), ("global_step", int)):
        if not isinstance(loaded.get(key, kind()), kind):
            msg = f"{file} is no checkpoint of sparkvsr train: its {key} is a {type(loaded[key]).__name__}"
            raise WeightsError(msg)
    return loaded


def _is_archive(file: Path) -> bool:
    """Whether a file is what torch writes; its own words about others are advice how to save them."""
    try:
        with file.open("rb") as stream:  # of a name that may not be opened, zipfile says that it is no archive
            return zipfile.is_zipfile(stream)
    except OSError:
        return True  # reading it says what is wrong


def _read_folder(path: Path) -> dict[str, Any]:
    if not _is_deepspeed(path):
        return _read_fsdp(path)
    file = _deepspeed_states(path)
    states = _load(file)
    own: dict[str, Tensor] = states.pop("module", None)
    if not isinstance(own, dict):
        msg = f"{file} holds no weights of a module; was it written by sparkvsr train?"
        raise WeightsError(msg)
    # In float32 and not cut up (stages 1 and 2) they are the weights themselves, else copies or placeholders.
    is_complete = file.name.startswith("mp_rank") and all(t.dtype == torch.float32 for t in own.values())
    states["state_dict"] = own if is_complete else {**own, **_deepspeed_float32(path)}
    return states


def _read_fsdp(path: Path) -> dict[str, Any]:
    consolidated = read_sharded(path)
    # What Lightning keeps beside the shards.
    if (path / _FSDP_META).is_file():
        consolidated.update(_load(path / _FSDP_META))
    if "state_dict" not in consolidated and "model" in consolidated:
        consolidated["state_dict"] = consolidated.pop("model")
    if isinstance(consolidated.get(AVERAGE), dict):
        put_average(consolidated, consolidated.pop(AVERAGE))
    return consolidated


def _deepspeed_states(path: Path) -> Path:
    latest = path / "latest"
    tag = latest.read_text(encoding="utf-8", errors="replace").strip() if latest.is_file() else "checkpoint"
    if Path(tag).name != tag or len(tag) > MAX_NAME_BYTES:
        msg = f"{latest} names {tag[:60]!r}; it must name a folder beside it"
        raise WeightsError(msg)
    files = sorted((path / tag).glob("*model_states.pt"))
    if not files:
        msg = f"{path} has neither FSDP's .metadata nor DeepSpeed's {tag}/mp_rank_00_model_states.pt"
        raise WeightsError(msg)
    return files[0]


def _deepspeed_float32(path: Path) -> dict[str, Tensor]:
    """The float32 master weights, put together by DeepSpeed's own code; it unpickles, so torch is held to weights."""
    if importlib.util.find_spec("deepspeed") is None:
        msg = (
            f"{path} keeps its float32 weights in DeepSpeed's own files; to read them: pip install deepspeed (no GPU "
            "is needed)"
        )
        raise WeightsError(msg)
    from deepspeed.utils.zero_to_fp32 import get_fp32_state_dict_from_zero_checkpoint

    try:
        # It reports on the terminal what it does.
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), weights_only():
            list_deepspeed_classes()
            state = get_fp32_state_dict_from_zero_checkpoint(str(path))
    except Exception as exc:  # whatever damaged or forged files make it raise
        msg = f"{path}: DeepSpeed cannot put its weights together ({reason(exc)}); are all files there?"
        raise WeightsError(msg) from exc
    return {name: tensor.detach() for name, tensor in state.items()}
