"""The one training step of both stages, for Lightning.

A stage is a loss and a way to encode: a latent loss works on clips encoded as clips (stage 1), a pixel loss on frames
encoded and decoded one by one (stage 2). Which model is trained is the adapter's business.

Shapes: B batch, F frames, K keyframes, H W HR pixels.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from sparkvsr.data.precomputed import TEACHER_KEY
from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError
from sparkvsr.losses.weighted import WeightedLoss
from sparkvsr.metrics.functional import psnr
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.adversary import Adversary
from sparkvsr.training.strategies import ShardedStrategy, has_shards, strategy_kind

CHECKPOINT_KEY = "sparkvsr"
RELATIVE = "loss_over_lr"


def works_in_pixels(loss: Any) -> bool:
    """Whether a loss, or its class, compares frames one by one in pixels (stage 2) instead of clips' latents."""
    return bool(loss.domain == "pixel")


class RestorationTraining(LightningModule):
    """Trains an adapter's network.

    Args:
        adapter: the model.
        loss: has ``domain`` (``latent`` or ``pixel``) and maps (restored, target) to terms by name, with ``loss``.
        make_optimizer: parameters to optimizer.
        make_schedule: optimizer to learning rate schedule, stepped every optimiser step; None keeps the rate.
        adversary: a discriminator that learns beside the network; for losses of terms.
        run: plain values kept in every checkpoint (configuration, version), for ``sparkvsr export``.
    """

    def __init__(
        self,
        adapter: TrainingAdapter,
        loss: nn.Module,
        make_optimizer: Callable[[Any], torch.optim.Optimizer],
        make_schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
        run: Mapping[str, Any] | None = None,
        adversary: Adversary | None = None,
    ) -> None:
        super().__init__()
        self.adapter = adapter
        # Outside the module tree: a perceptual network belongs to no checkpoint and no optimiser.
        self._loss = [loss]
        self._make_optimizer, self._make_schedule = make_optimizer, make_schedule
        self._run = dict(run or {})
        if adversary is not None and not isinstance(loss, WeightedLoss):
            msg = "adversary: it adds a term to a loss of terms; choose loss=terms, loss=distil or loss=real"
            raise ConfigError(msg)
        self.adversary = adversary
        self.latest_terms: tuple[str, ...] = ()
        """Names of the loss terms of the last batch; a still has no temporal one."""

    @property
    def loss(self) -> Any:
        """The loss module."""
        return self._loss[0]

    @property
    def framewise(self) -> bool:
        """Whether frames are encoded and decoded one by one."""
        return works_in_pixels(self.loss)

    def configure_model(self) -> None:
        """Lightning's hook, on every process before the optimiser is made: FSDP cuts the network up."""
        strategy = self.trainer.strategy
        if isinstance(strategy, ShardedStrategy) and not has_shards(self.adapter.network):
            strategy.shard(self.adapter)

    def setup(self, stage: str) -> None:
        """Lightning's hook: bring the loss to this process's device."""
        del stage
        self.loss.to(self.device)
        self.loss.requires_grad_(False)
        if self.adversary is not None:
            self.adversary.to(self.device)

    def compute_terms(self, batch: TrainBatch) -> dict[str, Tensor]:
        """Loss terms of a batch; ``loss`` is what to minimise."""
        framewise = self.framewise
        latents = self.adapter.encode(batch, framewise=framewise, with_hr=not framewise)
        restored = self.adapter.restore(latents)
        if not framewise:
            terms: dict[str, Tensor] = self.loss(restored, latents.hr)
            return {**terms, RELATIVE: self._relative(terms["loss"], latents.lr, latents.hr)}
        pixels = self.adapter.decode(restored, framewise=True)
        target = self.adapter.target_frames(batch.hr, pixels)
        if isinstance(self.loss, WeightedLoss):
            return self._weighted_terms(pixels, target, batch.extras.get(TEACHER_KEY))
        terms = self.loss(pixels, target)
        if getattr(self.loss, "perceptual", None) is not None:
            return dict(terms)  # the network would have to run once more
        lr = F.interpolate(batch.lr.flatten(0, 1), size=target.shape[-2:], mode="bicubic", align_corners=False)
        return {**terms, RELATIVE: self._relative(terms["loss"], lr.unflatten(0, batch.lr.shape[:2]), target)}

    def _weighted_terms(self, pixels: Tensor, target: Tensor, teacher: Tensor | None) -> dict[str, Tensor]:
        step = self.loss.step = int(self.global_step)
        terms: dict[str, Tensor] = self.loss(pixels, target, teacher)
        if self.adversary is not None:
            judged = self.adversary.terms(pixels, target, step)
            loss = terms.pop("loss")
            if "adversarial" in judged:
                loss = loss + self.adversary.weight * judged["adversarial"]
            terms = {**terms, **judged, "loss": loss}
        return terms

    @torch.no_grad()
    def _relative(self, loss: Tensor, untouched: Tensor, target: Any) -> Tensor:
        """The loss over that of leaving the LR clip as it is: comparable between busy and flat clips."""
        return loss.detach() / self.loss(untouched, target)["loss"].clamp_min(1e-8)

    def training_step(self, batch: TrainBatch, batch_index: int) -> Tensor:
        """One micro-batch."""
        del batch_index
        terms = self.compute_terms(batch)
        self.latest_terms = tuple(terms)
        self.log_dict(
            {f"train/{name}": value.detach() for name, value in terms.items()}, batch_size=batch.size, sync_dist=True
        )
        self.log("train/learning_rate", self.learning_rate, batch_size=batch.size)
        return terms["loss"]

    def validation_step(self, batch: TrainBatch, batch_index: int) -> dict[str, Tensor]:
        """Restore one clip with its first frame as the keyframe; PSNR of the other frames, beside bicubic."""
        del batch_index
        sr = self.restore_clip(batch)
        hr = batch.hr[:, : sr.shape[1]]
        bicubic = F.interpolate(
            batch.lr[:, : sr.shape[1]].flatten(0, 1), size=hr.shape[-2:], mode="bicubic", align_corners=False
        ).clamp(0, 1)
        bicubic = bicubic.unflatten(0, hr.shape[:2])
        # Without the keyframes themselves: a copied frame has so high a PSNR that it would drown all others.
        given = set(batch.keyframe_indices.flatten().tolist())
        measured = [t for t in range(hr.shape[1]) if t not in given] or list(range(hr.shape[1]))
        values = {
            "val/psnr_rgb": _psnr(sr[:, measured], hr[:, measured]),
            "val/psnr_rgb_bicubic": _psnr(bicubic[:, measured], hr[:, measured]),
        }
        self.log_dict(values, batch_size=1, sync_dist=True)
        return {"sr": sr}

    def restore_clip(self, batch: TrainBatch) -> Tensor:
        """``(B, F, 3, H, W)`` float32 in [0, 1] for a batch, as a clip."""
        latents = self.adapter.encode(batch, framewise=False, with_hr=False)
        restored = self.adapter.restore(latents)
        return self.adapter.decode(restored, framewise=False).float().clamp(0, 1)

    @property
    def learning_rate(self) -> float:
        """The present one."""
        optimizers: Any = self.optimizers()
        first = optimizers[0] if isinstance(optimizers, list) else optimizers
        return float(first.param_groups[0]["lr"])

    def configure_optimizers(self) -> Any:
        """Lightning's hook: only what is trained, the schedule stepped with the optimiser."""
        trained = [parameter for parameter in self.adapter.network.parameters() if parameter.requires_grad]
        optimizer = self._make_optimizer(trained)
        if self._make_schedule is None:
            return optimizer
        schedule = {"scheduler": self._make_schedule(optimizer), "interval": "step", "frequency": 1}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the run's configuration in the file. What is frozen lies outside the module tree, so it is not in it."""
        own = {**self._run, "strategy": strategy_kind(self.trainer.strategy)}
        if self.adversary is not None:
            own["adversary"] = self.adversary.state_dict()
        checkpoint[CHECKPOINT_KEY] = {**checkpoint.get(CHECKPOINT_KEY, {}), **own}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let a discriminator go on where it was.

        Raises:
            ConfigError: the checkpoint holds none.
        """
        if self.adversary is None:
            return
        kept = checkpoint.get(CHECKPOINT_KEY, {}).get("adversary")
        if kept is None:
            msg = "the checkpoint holds no discriminator; go on without adversary=, or start a new run by init="
            raise ConfigError(msg)
        self.adversary.load_state_dict(kept)


def _psnr(sr: Tensor, hr: Tensor) -> float:
    """Mean of the metric over the frames of ``(B, F, 3, H, W)`` in [0, 1], in dB."""
    return statistics.fmean(psnr(*frames) for frames in zip(sr.flatten(0, 1), hr.flatten(0, 1), strict=True))
