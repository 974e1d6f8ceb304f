"""From a checkpoint to a model folder with a model card."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from safetensors import SafetensorError
from torch import nn

from sparkvsr.config import config_from_dict, load_config
from sparkvsr.durable import temporary_path
from sparkvsr.errors import ConfigError, EncodeError, WeightsError
from sparkvsr.home import expanded
from sparkvsr.models.device import DTYPES
from sparkvsr.output_lock import OutputLock
from sparkvsr.training.adapters.interface import TrainingAdapter, parameter_count
from sparkvsr.training.build import build, build_adapter
from sparkvsr.training.checkpoints import find_checkpoint, network_state, read_checkpoint
from sparkvsr.training.module import CHECKPOINT_KEY
from sparkvsr.training.trusted_targets import check_stored, check_targets

_ADVICE = "if you know what it runs, allow it by --trust-target {name}"
TRAINING_CONFIG = "training_config.json"
_HUB_ID_PARTS = 2
_NEEDED = ("model._target_", "data.scale", "data.clips", "degradation", "keyframes.policy", "loss", "stage", "seed")


def export_model(
    run: Path,
    folder: Path,
    *,
    ema: bool | None = None,
    overwrite: bool = False,
    own_targets: Collection[str] = (),
    model_path: Path | None = None,
    dtype: str = "fp32",
) -> Path:
    """Write a model folder out of a run or a checkpoint.

    Args:
        run: run folder or checkpoint (file, or folder of DeepSpeed or FSDP).
        folder: to write; must not exist or be empty unless ``overwrite``.
        ema: take the moving average; None takes it if there is one.
        overwrite: replace what is there.
        own_targets: names of code outside this package (``_target_``) that the run's configuration may use.
        model_path: where the base model lies now, if it is no longer where the run was started with; for models that
            have one (``model.path``).
        dtype: of the weights: ``fp32``, ``bf16`` or ``fp16``; for large models.

    Returns:
        ``folder``.

    Raises:
        ConfigError: the folder is not empty, is no exported model, or holds the run; the run's configuration is
            missing or names code that it may not; or the base model is not where it was.
        WeightsError: the checkpoint cannot be read or does not fit its configuration.
        EncodeError: the disk is full, the folder may not be written, or another process writes it.
    """
    with OutputLock(folder, "-o"):
        return _export(run, folder, ema, own_targets, model_path, dtype, overwrite=overwrite)


def _export(
    run: Path,
    folder: Path,
    ema: bool | None,
    own_targets: Collection[str],
    model_path: Path | None,
    dtype: str,
    *,
    overwrite: bool,
) -> Path:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())) and not overwrite:
        msg = f"-o {folder} exists and is not empty; choose another folder, or replace it with --overwrite"
        raise ConfigError(msg)
    path = find_checkpoint(run)
    _check_replaced(folder, path)
    checkpoint = read_checkpoint(path)
    config = _config_of(checkpoint, path, own_targets)
    _find_base(config, path, model_path)
    state = network_state(checkpoint, ema=ema)
    is_lora = any(".lora_" in key for key in state)
    has_ema = bool(checkpoint.get(CHECKPOINT_KEY, {}).get("ema")) and ema is not False
    adapter = build_adapter(config) if is_lora else build(config.model, "model")
    trained = parameter_count(adapter.network, trained=True)
    try:
        adapter.network.load_state_dict(state)
    except RuntimeError as exc:
        msg = f"{path}: its weights do not fit the model of its own configuration ({str(exc).splitlines()[-1].strip()})"
        raise WeightsError(msg) from exc
    if is_lora:
        from sparkvsr.training.lora import merged_state

        merged = merged_state(adapter)
        adapter = build(config.model, "model")
        adapter.network.load_state_dict(merged)
    _cast(adapter, dtype)
    # Aside first: a failure half-way leaves no folder that looks whole.
    aside = temporary_path(folder, str(os.getpid()))
    try:
        adapter.save_folder(aside)
        write_card(aside, adapter, config, checkpoint, path, name=folder.name, has_ema=has_ema, trained=trained)
        if folder.exists():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside.rename(folder)
    except (OSError, SafetensorError) as exc:
        reason = getattr(exc, "strerror", None) or exc
        msg = f"-o {folder} cannot be written ({reason}); free some space, or choose another folder"
        raise EncodeError(msg) from exc
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return folder


def _check_replaced(folder: Path, checkpoint: Path) -> None:
    """Refuse to replace anything that no export has written, and the run itself.

    Raises:
        ConfigError: the folder is no exported model, or holds the checkpoint.
    """
    if folder.resolve() in checkpoint.resolve().parents:
        msg = f"-o {folder} holds {checkpoint}, which would be deleted with it; choose another folder"
        raise ConfigError(msg)
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        msg = f"-o {folder} is a file or a link, not a folder; choose another"
        raise ConfigError(msg)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / TRAINING_CONFIG).is_file():
        msg = f"-o {folder} holds other files than an exported model (no {TRAINING_CONFIG}); choose another folder"
        raise ConfigError(msg)


def write_card(
    folder: Path,
    adapter: TrainingAdapter,
    config: DictConfig,
    checkpoint: dict[str, Any],
    source: Path,
    *,
    name: str,
    has_ema: bool,
    trained: int,
) -> None:
    """Write ``README.md`` and ``training_config.json`` beside the weights.

    Args:
        folder: of the model.
        adapter: holds the weights.
        config: of the run.
        checkpoint: that the weights are of.
        source: its path.
        name: of the model.
        has_ema: whether they are the moving average.
        trained: how many parameters the run trained.
    """
    values = checkpoint.get(CHECKPOINT_KEY, {})
    count = parameter_count(adapter.network)
    rank = OmegaConf.select(config, "optimizer.lora.rank") or 0
    parameters = f"{count:,} parameters, all trained"
    if trained != count:
        parameters = f"{count:,} parameters, {trained:,} trained" + (f" (LoRA of rank {rank}, merged)" if rank else "")
    clips = config.data.get("root") or config.data.clips.get("_target_", "").rpartition(".")[2]
    text = f"""---
library_name: sparkvsr
pipeline_tag: video-to-video
tags: [video-super-resolution, keyframes]
---

# {" ".join(name.split())}

Video super-resolution x{config.data.scale}, guided by keyframes.
Trained with sparkvsr {values.get("version", "unknown")}.

| | |
|---|---|
| architecture | {adapter.family}, {parameters} |
| stage | {config.stage} |
| steps | {checkpoint.get("global_step", "unknown")} of {config.trainer.max_steps} |
| weights | {"exponential moving average" if has_ema else "last step"} of `{source.name}` |
| data | {clips} |
| degradation | {config.degradation.get("_target_", "").rpartition(".")[2]} |
| keyframes | {config.keyframes.policy.get("_target_", "").rpartition(".")[2]} |
| loss | {config.loss.get("_target_", "").rpartition(".")[2]} |
| learning rate | {config.optimizer.learning_rate} |
| seed | {config.seed} |
| started from | {config.init or config.model.get("start_from") or "the model's own start"} |

The whole configuration is in `training_config.json`.

## Use

    sparkvsr upscale clip.mp4 --model {"THIS_FOLDER"}

## Limits

Results outside the kind of footage and degradation named above were not measured. Licences of the training data apply;
add them here before you publish this folder.
"""
    if adapter.licence_notice:
        text += f"\n## Licence of what it started from\n\n{adapter.licence_notice}"
    (folder / "README.md").write_text(text, encoding="utf-8")
    (folder / TRAINING_CONFIG).write_text(
        json.dumps(values.get("config", {}), indent=2, default=str) + "\n", encoding="utf-8"
    )


def _cast(adapter: TrainingAdapter, dtype: str) -> None:
    """Bring all that is written to a number type, in place.

    Raises:
        ConfigError: unknown, or the model is kept in float32 only.
    """
    if dtype not in DTYPES:
        msg = f"--dtype {dtype} is unknown; use {', '.join(DTYPES)}"
        raise ConfigError(msg)
    if dtype == "fp32":
        return
    if not adapter.has_codec:
        msg = (
            f"--dtype {dtype} is for large models; {adapter.family} is small and is kept in fp32: leave the option out"
        )
        raise ConfigError(msg)
    # Not the library's own `to`, which warns of 16-bit types on a CPU; nothing is computed here.
    nn.Module.to(adapter, DTYPES[dtype])


def _find_base(config: DictConfig, checkpoint: Path, model_path: Path | None) -> None:
    """Let ``model.path`` be the folder that the base model lies in now.

    Raises:
        ConfigError: it is not there, or the model has no base.
    """
    if "path" not in config.model or (config.model.path is None and model_path is None):
        if model_path is not None:
            msg = f"--model-path {model_path}: the model of {checkpoint} has no base folder; leave the option out"
            raise ConfigError(msg)
        return
    if model_path is not None:
        if not expanded(model_path).is_dir():
            msg = f"--model-path {model_path} is no folder; give the base model that the run was started with"
            raise ConfigError(msg)
        config.model.path = str(expanded(model_path).resolve())
        return
    base = expanded(str(config.model.path))
    is_hub_id = not base.is_absolute() and len(base.parts) == _HUB_ID_PARTS
    if not base.exists() and not is_hub_id:
        msg = (
            f"{checkpoint} was trained from model.path={config.model.path}, which is not there any more, and the model "
            "folder needs its other parts; say where it is now: --model-path FOLDER"
        )
        raise ConfigError(msg)


def _config_of(checkpoint: dict[str, Any], path: Path, own_targets: Collection[str]) -> DictConfig:
    """The configuration kept in a checkpoint or beside it. It is data: ``check_targets`` says what it may name."""
    kept = checkpoint.get(CHECKPOINT_KEY, {}).get("config")
    if kept:
        check_stored(kept, str(path))
        found = config_from_dict(kept)
    else:
        beside = [folder / "config.yaml" for folder in (path.parent, path.parent.parent)]
        file = next((file for file in beside if file.is_file()), None)
        if file is None:
            msg = f"{path} carries no configuration and there is no config.yaml beside it; keep both together"
            raise ConfigError(msg)
        found = load_config(file)
    check_stored(found, str(path))
    check_targets(found, str(path), own=own_targets, advice=_ADVICE)
    for key in _NEEDED:
        if OmegaConf.select(found, key) is None:
            msg = f"{path}: its configuration has no {key}; was it written by sparkvsr train?"
            raise ConfigError(msg)
    return found
