"""What happens around the steps of a run: events for the hook, validation clips, stopping in time.

The hook of ``sparkvsr.training.run`` gets these events:

=========== ========================================================================================
event       keys
=========== ========================================================================================
start       output_dir, stage, model, parameters, trained_parameters, steps, first_step, samples_per_step,
            recipe (rows of text by name), departures (from the paper's recipe; None for other models)
note        text
step        step, total, terms (by name, mean over the step's micro-batches and processes),
            loss_mean and relative_mean (last 50 steps; relative: over the loss of the LR clip left as it
            is, NaN if not measured),
            learning_rate, gradient_norm (before clipping, None if not known), samples_per_second, seconds_left
validation  step, values (by name of the metric, and ``NAME_bicubic`` for the LR clip enlarged)
checkpoint  path
best        path, metric, value, step
done        output_dir, step, seconds, model_folder (None if none was written), exported (file name of the
            checkpoint in it), interrupted, skipped (how many clips could not be used)
=========== ========================================================================================
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import nn

from sparkvsr.data.samples import TrainBatch
from sparkvsr.hooks import Hook
from sparkvsr.training.finite import check_weights
from sparkvsr.training.logger_media import show_clip
from sparkvsr.training.meter import StepMeter
from sparkvsr.training.module import RELATIVE, RestorationTraining

RATE_WINDOW_SECONDS = 30.0
# One batch says little: a busy clip has many times the loss of a flat one.
LOSS_WINDOW_STEPS = 50


class Progress(Callback):
    """Tells the hook about steps, checkpoints and validation.

    Args:
        hook: gets the events, on the first process only.
        meter: its figures go to the loggers with the others.
    """

    def __init__(self, hook: Hook, meter: StepMeter | None = None) -> None:
        self._hook, self._samples_per_step = hook, 1
        self._meter = meter
        self._marks: list[tuple[float, int]] = []
        self._losses: deque[float] = deque(maxlen=LOSS_WINDOW_STEPS)
        self._relative: deque[float] = deque(maxlen=LOSS_WINDOW_STEPS)
        self._seen_step = -1

    def set_samples_per_step(self, count: int) -> None:
        """Samples of one optimiser step over all processes, known once the trainer is there."""
        self._samples_per_step = count

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        del pl_module
        self._seen_step = trainer.global_step
        self._marks = [(time.monotonic(), trainer.global_step)]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """One event and, now and then, one line for the loggers per optimiser step."""
        del outputs, batch, batch_idx
        assert isinstance(pl_module, RestorationTraining)
        step = trainer.global_step
        if step == self._seen_step:
            return
        self._seen_step = step
        rate, norm = pl_module.step_terms.learning_rate, pl_module.step_terms.gradient_norm
        terms = pl_module.step_terms.take(trainer)
        figures = {**terms, "learning_rate": rate, **({} if norm is None else {"gradient_norm": norm})}
        logged = {f"train/{name}": value for name, value in figures.items()}
        # For other callbacks (early stopping); the loggers get only what this very step has.
        pl_module.log_dict(logged, logger=False, batch_size=1)
        if not trainer.is_global_zero:
            return
        self._losses.append(terms.get("loss", float("nan")))
        self._relative.append(terms.pop(RELATIVE, float("nan")))
        now = time.monotonic()
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_WINDOW_SECONDS:
            self._marks.pop(0)
        seconds, steps = now - self._marks[0][0], step - self._marks[0][1]
        steps_per_second = steps / seconds if seconds > 0 else 0.0
        samples_per_second = steps_per_second * self._samples_per_step
        if step % int(getattr(trainer, "log_every_n_steps", 10)) == 0 or step == trainer.max_steps:
            figures = {"samples_per_second": samples_per_second}
            if self._meter is not None:
                figures |= self._meter.take(trainer.strategy.root_device)
            for logger in trainer.loggers:
                logger.log_metrics({**logged, **{f"train/{name}": value for name, value in figures.items()}}, step=step)
        self._hook(
            {
                "event": "step",
                "step": step,
                "total": trainer.max_steps,
                "terms": terms,
                "loss_mean": sum(self._losses) / len(self._losses),
                "relative_mean": sum(self._relative) / len(self._relative),
                "learning_rate": rate,
                "gradient_norm": norm,
                "samples_per_second": samples_per_second,
                "seconds_left": (trainer.max_steps - step) / steps_per_second if steps_per_second > 0 else None,
            }
        )

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Validation figures; the time it took does not count as training."""
        del pl_module
        self._marks = [(time.monotonic(), trainer.global_step)]
        if trainer.sanity_checking or not trainer.is_global_zero:
            return
        values = {
            name.removeprefix("val/"): float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("val/")
        }
        if not values:
            return  # no validation clips
        for logger in trainer.loggers:
            logger.log_metrics({f"val/{name}": value for name, value in values.items()}, step=trainer.global_step)
        self._hook({"event": "validation", "step": trainer.global_step, "values": values})


def _network(trainer: Trainer) -> nn.Module:
    module: Any = trainer.lightning_module  # a `RestorationTraining`
    network: nn.Module = module.adapter.network
    return network


class StepCheckpoint(ModelCheckpoint):
    """Writes ``step-000500.ckpt`` every so many steps; ``last.ckpt`` is a link to the newest one.

    Args:
        folder: the run folder.
        every: optimiser steps.
        keep: how many are kept.
        hook: told about each file.
    """

    def __init__(self, folder: Path, every: int, keep: int, hook: Hook) -> None:
        super().__init__(
            dirpath=folder,
            filename="step-{step:06d}",
            auto_insert_metric_name=False,
            every_n_train_steps=every,
            save_top_k=keep,
            monitor="step",
            mode="max",
            save_last="link",
            enable_version_counter=False,
        )
        self._hook = hook

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        # Before anything is written: the new file would push an old and good one out.
        check_weights(_network(trainer), trainer.global_step, trainer)
        super()._save_checkpoint(trainer, filepath)
        if trainer.is_global_zero:
            self._hook({"event": "checkpoint", "path": filepath})


class BestCheckpoint(ModelCheckpoint):
    """Keeps ``best.ckpt``: the weights with the best value of one metric of validation so far.

    Args:
        folder: the run folder.
        metric: its name, without ``val/``.
        mode: ``min`` or ``max``.
        hook: told about each file.
    """

    FILE = "best.ckpt"

    def __init__(self, folder: Path, metric: str, mode: str, hook: Hook) -> None:
        super().__init__(
            dirpath=folder,
            filename=self.FILE.removesuffix(".ckpt"),
            auto_insert_metric_name=False,
            monitor=f"val/{metric}",
            mode=mode,
            save_top_k=1,
            save_on_train_epoch_end=False,
            enable_version_counter=False,
        )
        self._metric, self._hook = metric, hook

    def _save_checkpoint(self, trainer: Trainer, filepath: str) -> None:
        check_weights(_network(trainer), trainer.global_step, trainer)
        super()._save_checkpoint(trainer, filepath)
        if trainer.is_global_zero:
            value = float(trainer.callback_metrics[f"val/{self._metric}"])
            event = {"event": "best", "path": filepath, "metric": self._metric, "value": value}
            self._hook({**event, "step": trainer.global_step})


class ValidationClipWriter(Callback):
    """Writes what validation restored to ``validation/step-000500/``: LR, result and truth side by side as PNG and mp4.

    Args:
        folder: the run folder.
    """

    FPS = 8

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: TrainBatch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Write one clip; loggers that take pictures or videos get it, too."""
        del pl_module, dataloader_idx
        if trainer.sanity_checking or not trainer.is_global_zero or not isinstance(outputs, dict):
            return
        from sparkvsr.training.clip_files import write_comparison

        step = trainer.global_step
        folder, name = self._folder / "validation" / f"step-{step:06d}", f"clip{batch_idx}"
        strip, frames = write_comparison(folder, name, batch, outputs["sr"], self.FPS)
        for logger in trainer.loggers:
            show_clip(logger, name, strip, frames, folder / f"{name}.mp4", step, self.FPS)


class StopRequest(Callback):
    """Ends the run after the step in work, so that the last checkpoint is whole. Set by the first Ctrl-C."""

    def __init__(self) -> None:
        self.asked = False
        self.stopped = False
        self._seen_step = -1

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Remember where the run starts."""
        del pl_module
        self._seen_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Stop only between optimiser steps, and on all processes if on any."""
        del pl_module, outputs, batch, batch_idx
        if trainer.global_step == self._seen_step:
            return
        self._seen_step = trainer.global_step
        asked = self.asked
        if trainer.world_size > 1:
            asked = bool(trainer.strategy.reduce_boolean_decision(asked, all=False))
        if asked:
            self.stopped = True
            trainer.should_stop = True
            # Lightning would validate first: who asked for an end wants the checkpoint, now.
            trainer.limit_val_batches = 0


class RandomStates(Callback):
    """Keeps torch's random state in checkpoints, for whatever in a network draws from it (dropout)."""

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        del trainer, pl_module
        state: dict[str, Any] = {"cpu": torch.get_rng_state()}
        if torch.cuda.is_available():
            state["cuda"] = torch.cuda.get_rng_state_all()
        checkpoint["sparkvsr_random_states"] = state

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Lightning's hook."""
        del trainer, pl_module
        self._state = checkpoint.get("sparkvsr_random_states")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Set the state after everything that draws while a run starts up."""
        del trainer, pl_module
        state = getattr(self, "_state", None)
        if not state:
            return
        torch.set_rng_state(state["cpu"].cpu())
        if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all([one.cpu() for one in state["cuda"]])
