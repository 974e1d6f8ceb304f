"""A run that meets NaN or Inf stops: what comes after is lost work, and would push good checkpoints out.

Looked at are the loss terms of every micro-batch, the gradient of every step, and the weights before a checkpoint is
written. Each names the step, what went wrong, and the clips that were in the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor, nn

from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import TrainingError

_SHOWN_CLIPS = 8


def check_terms(terms: dict[str, Tensor], batch: TrainBatch, step: int, trainer: Trainer) -> None:
    """Refuse a micro-batch whose loss is no number; to be called by all processes.

    Args:
        terms: scalars by name, ``loss`` among them.
        batch: that they are of.
        step: that is being done, from 1.
        trainer: of the run.

    Raises:
        TrainingError: a term is NaN or Inf, here or on another process.
    """
    found = ""
    values = torch.stack([value.detach().float() for value in terms.values()])
    if not bool(torch.isfinite(values).all()):
        wrong = [f"{name} is {value}" for name, value in zip(terms, values.tolist(), strict=True) if not _fine(value)]
        # What is computed from the terms says nothing more.
        named = [text for text in wrong if not text.startswith("loss")] or wrong
        found = f"step {step}: {', '.join(named)}, {_clips(batch.names)}{_guilty(batch)}"
    _raise_everywhere(found, trainer)


def check_gradients(network: nn.Module, clips: Sequence[str], step: int, trainer: Trainer) -> float | None:
    """Norm of the gradient; refuses one that is no number. To be called by all processes.

    Args:
        network: what is trained, gradients as they go into the optimiser, not clipped yet.
        clips: of the step, on this process.
        step: that is being done, from 1.
        trainer: of the run.

    Returns:
        The norm, or None where a strategy keeps the gradients to itself (DeepSpeed).

    Raises:
        TrainingError: some gradient is NaN or Inf.
    """
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    if not gradients:
        return None
    norms = torch.stack([_whole(torch.linalg.vector_norm(grad.detach().float())) for grad in gradients.values()])
    norm = float(torch.linalg.vector_norm(norms))
    # With fp16 an overflow now and then is expected: the scaler leaves the step out and takes a smaller scale.
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return norm if _fine(norm) else None
    found = ""
    if not _fine(norm):
        wrong = [name for name, value in zip(gradients, norms.tolist(), strict=True) if not _fine(value)]
        what = f"the gradient of {wrong[0]} and of {len(wrong) - 1} more" if wrong else "the gradient's norm"
        found = f"step {step}: {what} (of {len(gradients)}) is not a number any more, {_clips(clips)}"
    _raise_everywhere(found, trainer)
    return norm


def check_weights(network: nn.Module, step: int, trainer: Trainer) -> None:
    """Refuse to go on with, or to save, weights that are no numbers. To be called by all processes.

    Args:
        network: what is trained.
        step: that was done last.
        trainer: of the run.

    Raises:
        TrainingError: some weight is NaN or Inf.
    """
    found = ""
    for name, parameter in network.named_parameters():
        local: Any = parameter.detach()
        local = local.to_local() if hasattr(local, "to_local") else local
        if parameter.requires_grad and not bool(torch.isfinite(local).all()):
            found = f"after step {step}: the weights of {name} are not numbers any more"
            break
    _raise_everywhere(found, trainer)


def _fine(value: float) -> bool:
    return value - value == 0.0


def _whole(value: Any) -> Tensor:
    """Of a network that is cut up, each process holds the norm of a part."""
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def _clips(names: Sequence[str]) -> str:
    shown = ", ".join(dict.fromkeys(names[:_SHOWN_CLIPS])) or "unknown"
    more = f" and {len(names) - _SHOWN_CLIPS} more" if len(names) > _SHOWN_CLIPS else ""
    return f"with the clips {shown}{more}"


def _guilty(batch: TrainBatch) -> str:
    """Which clips bring the NaN along, if any does."""
    pixels = (batch.lr, batch.hr, batch.keyframes)
    bad = [name for row, name in enumerate(batch.names) if not all(bool(torch.isfinite(p[row]).all()) for p in pixels)]
    return f" (the pixels of {', '.join(bad)} are not numbers themselves)" if bad else ""


def _raise_everywhere(found: str, trainer: Trainer) -> None:
    """Stop all processes together: one that went on alone would wait for the others for ever."""
    if trainer.world_size > 1:
        if not trainer.strategy.reduce_boolean_decision(bool(found), all=False):
            return
        texts: list[Any] = [None] * trainer.world_size
        torch.distributed.all_gather_object(texts, found)
        found = next(text for text in texts if text)
    if found:
        raise TrainingError(found)
