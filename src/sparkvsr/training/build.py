"""From a composed configuration to the objects of a run. Below this file there are only ordinary arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import get_class, instantiate
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.loggers import CSVLogger
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sparkvsr.config import plain
from sparkvsr.data.datamodule import ClipDataModule
from sparkvsr.data.datasets import PairedClips, ValidationClips
from sparkvsr.data.keyframe_policies import PaperPolicy
from sparkvsr.data.skips import SKIP_FILE, SkipReport
from sparkvsr.degradation.interface import Degradation
from sparkvsr.errors import ConfigError, SparkVSRError
from sparkvsr.hooks import Hook
from sparkvsr.losses.weighted import WeightedLoss, without_teacher
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.callbacks import Progress, RandomStates, StepCheckpoint, StopRequest, ValidationClipWriter
from sparkvsr.training.ema import MovingAverage
from sparkvsr.training.lora import add_lora
from sparkvsr.training.module import RestorationTraining, works_in_pixels
from sparkvsr.training.strategies import check_strategy


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
        reason = str(cause or exc).splitlines()[0]
        msg = f"{what}: {reason}; see sparkvsr train --print-config for the keys and docs/training.md for their meaning"
        raise ConfigError(msg) from exc
    except OmegaConfBaseException as exc:
        msg = f"{what}: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc


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
    return PairedClips(
        build(data.clips, "data.clips"),
        build(data.images, "data.images") if data.image_ratio > 0 else None,
        build(config.degradation, "degradation"),
        build(config.keyframes.policy, "keyframes.policy"),
        build(config.keyframes.augmentation, "keyframes.augmentation"),
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
        skips=SkipReport(skipped),
    )


def build_validation(config: DictConfig, adapter: TrainingAdapter, skipped: Path | None) -> ValidationClips | None:
    """A few fixed clips, one clean keyframe at frame 0 (docs/method.md 4.9: the published code has none)."""
    data = config.data
    if data.validation is None:
        return None
    source = build(data.validation, "data.validation")
    degradation: Degradation = build(config.degradation, "degradation")
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
    trainer = build_trainer(config, folder, hook, stop, first_step=first_step)
    if module.adversary is not None and trainer.world_size > 1:
        msg = f"adversary: it trains in one process, this run has {trainer.world_size}; set trainer.devices=1"
        raise ConfigError(msg)
    check_strategy(trainer.strategy, adapter, averages=config.optimizer.ema_decay > 0)
    return Run(adapter, module, data, trainer, stop)


def build_trainer(config: DictConfig, folder: Path, hook: Hook, stop: StopRequest, *, first_step: int = 0) -> Trainer:
    """Lightning's trainer with our callbacks.

    Raises:
        ConfigError: a combination that Lightning or this machine refuses.
    """
    node, every = config.trainer, config.callbacks
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
    progress = Progress(hook)
    if config.optimizer.ema_decay > 0:
        callbacks.append(MovingAverage(config.optimizer.ema_decay))
    callbacks += [RandomStates(), progress, ValidationClipWriter(folder), stop]
    callbacks.append(StepCheckpoint(folder, every.checkpoint_every, every.keep_checkpoints, hook))
    loggers = [_build_logger(one, first_step) for one in config.logger.values()] if config.logger else False
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


def _build_logger(node: Any, first_step: int) -> Any:
    """Lightning's CSV logger deletes what it finds, so a run that goes on writes beside what it wrote before."""
    if first_step and issubclass(get_class(node["_target_"]), CSVLogger):
        return build(node, "logger", version=f"{node.version}-from-step-{first_step:06d}")
    return build(node, "logger")
