"""The one training step of both stages, for Lightning.

A stage is a loss and a way to encode: a latent loss works on clips encoded as clips (stage 1), a pixel loss on frames
encoded and decoded one by one (stage 2). Which model is trained is the adapter's business.

Shapes: B batch, F frames, K keyframes, H W HR pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor, nn

from sparkvsr.data.precomputed import TEACHER_KEY
from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError
from sparkvsr.losses.given import LossInputs
from sparkvsr.losses.weighted import WeightedLoss
from sparkvsr.training.adapters.interface import TrainingAdapter
from sparkvsr.training.adversary import Adversary
from sparkvsr.training.finite import check_gradients, check_terms
from sparkvsr.training.optimizer_values import hold_typed_values, hyperparameters
from sparkvsr.training.shard_writer import CHECKPOINT_KEY
from sparkvsr.training.step_terms import StepTerms
from sparkvsr.training.strategies import ShardedStrategy, has_shards, strategy_kind

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
        run: plain values kept in every checkpoint (configuration, version), for ``sparkvsr export``.
        adversary: a discriminator that learns beside the network; for losses of terms.
        metrics: what validation measures, by name: clips ``(F, 3, H, W)`` in [0, 1] to a number.
        mixes_stills: whether some micro-batches hold stills; then the loss is logged for both kinds.
    """

    def __init__(
        self,
        adapter: TrainingAdapter,
        loss: nn.Module,
        make_optimizer: Callable[[Any], torch.optim.Optimizer],
        make_schedule: Callable[[torch.optim.Optimizer], Any] | None = None,
        run: Mapping[str, Any] | None = None,
        adversary: Adversary | None = None,
        *,
        metrics: Mapping[str, Callable[[Tensor, Tensor], float]] | None = None,
        mixes_stills: bool = False,
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
        self.step_terms = StepTerms(by_kind=mixes_stills)
        """Loss terms of the micro-batches since the last optimiser step."""
        self.metrics = dict(metrics or {})
        self._of_bicubic: dict[int, dict[str, float]] = {}
        self._typed: list[dict[str, Any]] = []

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
        framewise, loss = self.framewise, self.loss
        is_sum = isinstance(loss, WeightedLoss)
        with_hr = loss.needs_latents if is_sum else not framewise
        latents = self.adapter.encode(batch, framewise=framewise, with_hr=with_hr)
        restored = self.adapter.restore(latents)
        if not framewise and not is_sum:
            terms: dict[str, Tensor] = loss(restored, latents.hr)
            return {**terms, RELATIVE: self._relative(terms["loss"], latents.lr, latents.hr)}
        pixels = target = None
        if not is_sum or loss.needs_pixels:
            pixels = self.adapter.decode(restored, framewise=framewise)
            target = self.adapter.target_frames(batch.hr, pixels)
        if is_sum:
            return self._weighted_terms(batch, restored, latents.hr, pixels, target)
        assert pixels is not None
        assert target is not None  # asked for above
        terms = loss(pixels, target)
        if getattr(loss, "perceptual", None) is not None:
            return dict(terms)  # the network would have to run once more
        lr = F.interpolate(batch.lr.flatten(0, 1), size=target.shape[-2:], mode="bicubic", align_corners=False)
        return {**terms, RELATIVE: self._relative(terms["loss"], lr.unflatten(0, batch.lr.shape[:2]), target)}

    def _weighted_terms(
        self, batch: TrainBatch, restored: Tensor, truth: Tensor | None, pixels: Tensor | None, target: Tensor | None
    ) -> dict[str, Tensor]:
        step = int(self.global_step)
        given = LossInputs(
            restored=pixels,
            truth=target,
            teacher=batch.extras.get(TEACHER_KEY),
            restored_latents=restored,
            truth_latents=truth,
            lr=batch.lr,
            keyframes=batch.keyframes,
            keyframe_indices=batch.keyframe_indices,
            step=step,
            names=batch.names,
        )
        terms: dict[str, Tensor] = self.loss(given)
        if self.adversary is None:
            return terms
        if pixels is None or target is None:
            msg = "adversary: it judges pixels and loss.terms has none; add one, or leave adversary= out"
            raise ConfigError(msg)
        judged = self.adversary.terms(pixels, target, step)
        loss = terms.pop("loss")
        if "adversarial" in judged:
            loss = loss + self.adversary.weight * judged["adversarial"]
        return {**terms, **judged, "loss": loss}

    @torch.no_grad()
    def _relative(self, loss: Tensor, untouched: Tensor, target: Any) -> Tensor:
        """The loss over that of leaving the LR clip as it is: comparable between busy and flat clips."""
        return loss.detach() / self.loss(untouched, target)["loss"].clamp_min(1e-8)

    def training_step(self, batch: TrainBatch, batch_index: int) -> Tensor:
        """One micro-batch."""
        del batch_index
        terms = self.compute_terms(batch)
        check_terms(terms, batch, int(self.global_step) + 1, self.trainer)
        self.step_terms.add(terms, batch, self.learning_rate)
        return terms["loss"]

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Lightning's hook, before gradients are clipped: they must be numbers; their norm is logged."""
        norm = check_gradients(self.adapter.network, self.step_terms.clips, int(self.global_step) + 1, self.trainer)
        self.step_terms.gradient_norm = norm
        del optimizer

    def on_train_start(self) -> None:
        """Lightning's hook, after a checkpoint was read: what the configuration says of the optimiser holds."""
        self.step_terms.clear()
        hold_typed_values(self.trainer, self._typed, self._make_schedule)

    def validation_step(self, batch: TrainBatch, batch_index: int) -> dict[str, Tensor]:
        """Restore one clip with its first frame as the keyframe; the metrics of the other frames, beside bicubic."""
        sr = self.restore_clip(batch)
        hr = batch.hr[:, : sr.shape[1]]
        # Without the keyframes themselves: a copied frame has so high a PSNR that it would drown all others.
        given = set(batch.keyframe_indices.flatten().tolist())
        measured = [t for t in range(hr.shape[1]) if t not in given] or list(range(hr.shape[1]))
        if batch_index not in self._of_bicubic:  # the same clips every time
            lr = batch.lr[:, measured].flatten(0, 1)
            bicubic = F.interpolate(lr, size=hr.shape[-2:], mode="bicubic", align_corners=False).clamp(0, 1)
            self._of_bicubic[batch_index] = self._measure(bicubic, hr[:, measured].flatten(0, 1), "_bicubic")
        values = self._measure(sr[:, measured].flatten(0, 1), hr[:, measured].flatten(0, 1))
        values |= self._of_bicubic[batch_index]
        # The loggers get them from `Progress`, under the step that everybody else counts.
        self.log_dict(values, batch_size=1, sync_dist=True, logger=False)
        return {"sr": sr}

    def _measure(self, sr: Tensor, hr: Tensor, ending: str = "") -> dict[str, float]:
        return {f"val/{name}{ending}": float(metric(sr, hr)) for name, metric in self.metrics.items()}

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
        self._typed = hyperparameters(optimizer)
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
