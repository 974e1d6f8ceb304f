"""From a composed configuration to the objects of a run. Below this file there are only ordinary arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sparkvsr.config import plain
from sparkvsr.data.datamodule import ClipDataModule
from sparkvsr.data.datasets import PairedClips, ValidationClips
from sparkvsr.data.keyframe_policies import PaperPolicy
from sparkvsr.data.paired_validation import PairedValidation
from sparkvsr.data.skips import SKIP_FILE, SkipReport
from sparkvsr.degradation.interface import Degradation
from sparkvsr.errors import ConfigError, SparkVSRError
from sparkvsr.hooks import Hook
from sparkvsr.losses.weighted import WeightedLoss, without_teacher
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.callbacks import (
    BestCheckpoint,
    Progress,
    RandomStates,
    StepCheckpoint,
    StopRequest,
    ValidationClipWriter,
)
from sparkvsr.training.ema import MovingAverage
from sparkvsr.training.logger_media import ConfigToLoggers
from sparkvsr.training.lora import add_lora
from sparkvsr.training.meter import StepMeter
from sparkvsr.training.module import RestorationTraining, works_in_pixels
from sparkvsr.training.sample_making import degradation_node, making_device
from sparkvsr.training.strategies import check_strategy
from sparkvsr.training.whole_checkpoints import WholeCheckpointIO


@dataclass
class Run:
    """Everything a run consists of."""

    adapter: TrainingAdapter
    module: RestorationTraining
    data: ClipDataModule
    trainer: Trainer
    stop: StopRequest


def build(node: Any, what: str, **extra: Any) -> Any:
    """Instantiate a configuration node.

    Args:
        node: has ``_target_``.
        what: its key, for messages.
        extra: further arguments.

    Raises:
        ConfigError: a key or value does not fit the constructor.
        SparkVSRError: whatever the constructor itself refuses.
    """
    try:
        return instantiate(node, **extra, _convert_="all")
    except InstantiationException as exc:
        cause = exc.__cause__
        if isinstance(cause, SparkVSRError):
            raise cause from exc
        reason = _reason(cause or exc)
        msg = f"{what}: {reason}; see sparkvsr train --print-config for the keys and docs/training.md for their meaning"
        raise ConfigError(msg) from exc
    except OmegaConfBaseException as exc:
        msg = f"{what}: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc


def _reason(error: BaseException) -> str:
    """One line. Of code that cannot be found Hydra says why in a line of its own, as the text of an exception."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if len(lines) > 1 and lines[0].startswith("Error loading"):
        inner = re.sub(r"^\w+\((.*)\)$", r"\1", lines[1]).strip('"')
        return f"{lines[0].rstrip(':')}: {inner}; own code is found in the folder of --config-dir and by PYTHONPATH"
    return lines[0]


def build_adapter(config: DictConfig) -> TrainingAdapter:
    """The model, with low-rank adapters if asked for."""
    adapter: TrainingAdapter = build(config.model, "model")
    lora = plain(config.optimizer.lora)
    if lora["rank"]:
        add_lora(adapter, rank=lora["rank"], alpha=lora["alpha"], targets=lora["targets"])
    return adapter


def build_pairs(
    config: DictConfig, adapter: TrainingAdapter | None, skipped: Path | None, *, framewise: bool = False
) -> PairedClips:
    """The training pairs.

    Args:
        config: composed.
        adapter: the model, for what it wants computed with each clip and which keyframes it can take.
        skipped: file that unusable clips are noted in.
        framewise: whether the stage takes each frame by itself.
    """
    data = config.data
    isr = build(config.keyframes.isr, "keyframes.isr")
    isr.check()
    degradation: Degradation = build(degradation_node(config), "degradation")
    augmentation = build(config.keyframes.augmentation, "keyframes.augmentation")
    return PairedClips(
        build(data.clips, "data.clips"),
        build(data.images, "data.images") if data.image_ratio > 0 else None,
        degradation,
        build(config.keyframes.policy, "keyframes.policy"),
        augmentation,
        isr,
        num_frames=data.num_frames,
        crop=tuple(plain(data.crop)),
        scale=data.scale,
        span=data.span,
        samples_per_clip=data.samples_per_clip,
        crop_tries=data.crop_tries,
        crop_step=1 if adapter is None else adapter.crop_step,
        augment=data.augment,
        seed=config.seed,
        prepare=None if adapter is None else adapter.prepare_clip,
        usable=None if adapter is None else partial(adapter.usable_keyframes, framewise=framewise),
        made_on=making_device(config, adapter, degradation, augmentation, isr),
        skips=SkipReport(skipped),
    )


def build_validation(
    config: DictConfig, adapter: TrainingAdapter, skipped: Path | None
) -> ValidationClips | PairedValidation | None:
    """A few fixed clips, one clean keyframe at frame 0 (docs/method.md 4.9: the published code has none).

    Raises:
        ConfigError: only one side of the pairs is given.
        DatasetError: clips are missing or do not fit.
    """
    data = config.data
    given = plain(data.get("validation_pairs")) or {}
    lr_root, gt_root = given.get("lr_root"), given.get("gt_root")
    if (lr_root is None) != (gt_root is None):
        msg = "data.validation_pairs needs both lr_root and gt_root, folders with clips of the same names"
        raise ConfigError(msg)
    if lr_root is not None:
        return PairedValidation(
            lr_root,
            str(gt_root),
            num_frames=data.validation_frames,
            crop=tuple(plain(data.validation_crop)),
            scale=data.scale,
            num_clips=given.get("num_clips"),
            prepare=adapter.prepare_clip,
        )
    if data.validation is None:
        return None
    source = build(data.validation, "data.validation")
    degradation: Degradation = build(degradation_node(config), "degradation")
    pairs = PairedClips(
        source,
        None,
        degradation,
        PaperPolicy(dropout=0.0, min_keyframe_gap=data.validation_frames),
        num_frames=data.validation_frames,
        crop=tuple(plain(data.validation_crop)),
        scale=data.scale,
        crop_step=adapter.crop_step,
        seed=0,  # not the run's: two runs are compared on the same clips
        prepare=adapter.prepare_clip,
        skips=SkipReport(skipped),
    )
    return ValidationClips(pairs, len(source))


def build_metrics(config: DictConfig) -> dict[str, Any]:
    """What validation measures, by name.

    Raises:
        ConfigError, MetricError: one cannot be built; says what it misses.
    """
    nodes = config.get("metrics") or {}
    return {str(name): build(node, f"metrics.{name}") for name, node in nodes.items() if node is not None}


def build_run(config: DictConfig, folder: Path, hook: Hook, kept: Mapping[str, Any], *, first_step: int = 0) -> Run:
    """Build everything a run needs.

    Args:
        config: composed.
        folder: of the run.
        hook: gets progress events.
        kept: plain values that go into every checkpoint.
        first_step: above 0 when a run goes on.

    Raises:
        SparkVSRError: whatever cannot be used, before any step is done.
    """
    adapter = build_adapter(config)
    loss = build(config.loss, "loss")
    precompute = config.data.precompute
    if isinstance(loss, WeightedLoss) and loss.taught and not (precompute.enabled and precompute.get("teacher")):
        raise ConfigError(without_teacher(loss.taught[0]))
    if adapter.data_scale not in (None, config.data.scale):
        wanted = adapter.data_scale
        msg = f"data.scale={config.data.scale}: this model is for x{wanted}; set data.scale={wanted}"
        raise ConfigError(msg)
    framewise = works_in_pixels(loss)
    adapter.check_data(config.data.num_frames, tuple(plain(config.data.crop)), framewise=framewise)
    adapter.check_data(config.data.validation_frames, tuple(plain(config.data.validation_crop)), framewise=False)
    module = RestorationTraining(
        adapter,
        loss,
        make_optimizer=build(config.optimizer.build, "optimizer.build"),
        make_schedule=build(config.optimizer.schedule, "optimizer.schedule"),
        run=kept,
        adversary=build(config.adversary, "adversary") if config.get("adversary") else None,
        metrics=build_metrics(config),
        mixes_stills=0 < config.data.image_ratio < 1,
    )
    pairs: Any = build_pairs(config, adapter, folder / SKIP_FILE, framewise=framewise)
    if config.data.precompute.enabled:
        from sparkvsr.training.precompute import precomputed_pairs

        pairs = precomputed_pairs(config, pairs, adapter, framewise=framewise, hook=hook)
    data = ClipDataModule(
        pairs,
        build_validation(config, adapter, folder / SKIP_FILE),
        batch_size=config.data.batch_size,
        image_ratio=config.data.image_ratio,
        num_workers=config.data.num_workers,
        prefetch=config.data.prefetch,
        seed=config.seed,
    )
    stop = StopRequest()
    trainer = build_trainer(config, folder, hook, stop, metrics=module.metrics, first_step=first_step)
    if module.adversary is not None and trainer.world_size > 1:
        msg = f"adversary: it trains in one process, this run has {trainer.world_size}; set trainer.devices=1"
        raise ConfigError(msg)
    check_strategy(trainer.strategy, adapter, averages=config.optimizer.ema_decay > 0)
    if not isinstance(trainer.strategy, ModelParallelStrategy | DeepSpeedStrategy | FSDPStrategy):
        trainer.strategy.checkpoint_io = WholeCheckpointIO()  # the others write folders of their own
    return Run(adapter, module, data, trainer, stop)


def settle_trainer(config: DictConfig) -> None:
    """Replace ``auto`` of accelerator and precision by what this machine has, in place.

    A GPU computes in bf16 (fp16 where it has no bf16), everything else in float32.
    """
    node = config.trainer
    has_cuda = torch.cuda.is_available()
    if node.accelerator == "auto":
        has_mps = torch.backends.mps.is_available()
        node.accelerator = "gpu" if has_cuda else "mps" if has_mps else "cpu"
    if node.precision == "auto":
        on_gpu = node.accelerator in ("gpu", "cuda") and has_cuda
        node.precision = ("bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed") if on_gpu else "32-true"


def build_trainer(
    config: DictConfig,
    folder: Path,
    hook: Hook,
    stop: StopRequest,
    *,
    metrics: Mapping[str, Any] | None = None,
    first_step: int = 0,
) -> Trainer:
    """Lightning's trainer with our callbacks and those of the configuration.

    Args:
        config: composed.
        folder: of the run.
        hook: gets progress events.
        stop: set by who wants an early end.
        metrics: of validation, by name; ``callbacks.best.metric`` is one of them.
        first_step: above 0 when a run goes on.

    Raises:
        ConfigError: a combination that Lightning or this machine refuses.
    """
    node, every = config.trainer, config.callbacks
    settle_trainer(config)
    name = plain(node.strategy)
    for group in ("fsdp", "deepspeed"):
        if isinstance(name, str) and name.startswith(group):
            msg = f"trainer.strategy={name}: choose it by trainer={group}, whose settings fit this training step"
            raise ConfigError(msg)
    for name in ("checkpoint_every", "validate_every", "keep_checkpoints"):
        if every[name] < 1:
            msg = f"callbacks.{name}={every[name]} must be at least 1"
            raise ConfigError(msg)
    if node.max_steps < 1:
        msg = f"trainer.max_steps={node.max_steps} must be at least 1"
        raise ConfigError(msg)
    accumulate = node.accumulate_grad_batches
    callbacks: list[Callback] = []
    meter = StepMeter(every.get("peak_tflops"))
    progress = Progress(hook, meter)
    if config.optimizer.ema_decay > 0:
        callbacks.append(MovingAverage(config.optimizer.ema_decay))
    callbacks += [ConfigToLoggers(plain(config)), meter, RandomStates(), progress, ValidationClipWriter(folder), stop]
    callbacks += _own_callbacks(every)
    callbacks.append(StepCheckpoint(folder, every.checkpoint_every, every.keep_checkpoints, hook))
    best = plain(every.get("best")) or {}
    if best.get("metric"):
        callbacks.append(best_checkpoint(folder, best, metrics or {}, hook))
    nodes = [one for one in config.logger.values() if one is not None] if config.logger else []
    loggers = [_build_logger(one, first_step) for one in nodes] or False
    try:
        trainer: Trainer = build(
            node,
            "trainer",
            callbacks=callbacks,
            logger=loggers,
            default_root_dir=str(folder),
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=True,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            # The whole run is one epoch; validation counts micro-batches.
            max_epochs=-1,
            check_val_every_n_epoch=None,
            val_check_interval=every.validate_every * accumulate,
        )
    except (MisconfigurationException, ValueError, RuntimeError) as exc:
        msg = f"trainer: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc
    progress.set_samples_per_step(config.data.batch_size * accumulate * trainer.world_size)
    return trainer


def _own_callbacks(nodes: DictConfig) -> list[Callback]:
    """Lightning callbacks below ``callbacks``, by any name, each with its ``_target_``."""
    found = []
    for key, node in nodes.items():
        if isinstance(node, DictConfig) and "_target_" in node:
            name = f"callbacks.{key!s}"
            made = build(node, name)
            if not isinstance(made, Callback):
                msg = f"{name} is a {type(made).__name__}; it must be a callback of lightning.pytorch"
                raise ConfigError(msg)
            found.append(made)
    return found


def best_checkpoint(folder: Path, best: Mapping[str, Any], metrics: Mapping[str, Any], hook: Hook) -> BestCheckpoint:
    """The callback that keeps ``best.ckpt``.

    Args:
        folder: of the run.
        best: ``metric`` and ``mode`` (``min``, ``max`` or None, which asks the metric).
        metrics: of validation, by name.
        hook: told about each file.

    Raises:
        ConfigError: no such metric, or a wrong mode.
    """
    name, mode = str(best["metric"]).removeprefix("val/"), best.get("mode")
    if name not in metrics:
        known = ", ".join(metrics) or "nothing"
        msg = f"callbacks.best.metric={best['metric']} is not measured; what metrics= chose measures {known}"
        raise ConfigError(msg)
    if mode is None:
        is_higher = getattr(metrics[name], "higher_is_better", None)
        mode = None if is_higher is None else "max" if is_higher else "min"
    if mode not in ("min", "max"):
        msg = f"callbacks.best.mode={mode} must be min or max"
        raise ConfigError(msg)
    return BestCheckpoint(folder, name, mode, hook)


def _build_logger(node: Any, first_step: int) -> Any:
    """Lightning's CSV logger deletes what it finds, so a run that goes on writes beside what it wrote before."""
    if first_step and issubclass(get_class(node["_target_"]), CSVLogger):
        return build(node, "logger", version=f"{node.version}-from-step-{first_step:06d}")
    return build(node, "logger")
