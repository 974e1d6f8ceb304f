"""What the configuration says of the optimiser and its schedule holds, also for a run that goes on.

A checkpoint's optimiser brings its hyperparameters along, and its schedule the rates it was made with. The weights'
moments are worth keeping; the numbers are the configuration's business, which is that of the checkpoint plus what was
typed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

from lightning.pytorch import Trainer
from torch.optim import Optimizer

_STATE = ("params", "initial_lr")


def hyperparameters(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Learning rate, betas, weight decay and so on of each parameter group."""
    return [
        {name: value for name, value in group.items() if name not in _STATE and not name.startswith("param_")}
        for group in optimizer.param_groups
    ]


def restore_hyperparameters(optimizer: Optimizer, typed: Sequence[dict[str, Any]]) -> None:
    """Set them again after the optimiser's state was loaded.

    Args:
        optimizer: with as many groups as ``typed``.
        typed: of ``hyperparameters``.
    """
    for group, values in zip(optimizer.param_groups, typed, strict=True):
        group.update(values)


def hold_typed_values(
    trainer: Trainer, typed: Sequence[dict[str, Any]], make_schedule: Callable[[Optimizer], Any] | None
) -> None:
    """Let the configuration's numbers hold where a checkpoint has been loaded.

    The schedule is made anew and stepped to where the run stands, so that any of torch's schedules goes on by the
    present settings, whatever it keeps of its past.

    Args:
        trainer: about to train.
        typed: of ``hyperparameters``, as the optimiser was made.
        make_schedule: see ``RestorationTraining``.
    """
    done = trainer.global_step
    if not done or not trainer.optimizers:
        return
    configs = trainer.lr_scheduler_configs
    # DeepSpeed wraps the optimiser; the schedule holds the one with the groups.
    optimizer: Any = configs[0].scheduler.optimizer if configs else trainer.optimizers[0]
    restore_hyperparameters(optimizer, typed)
    if make_schedule is None or not configs:
        return
    for group in optimizer.param_groups:
        group.pop("initial_lr", None)
    with warnings.catch_warnings():
        # torch expects steps of the optimiser in between; those were done before.
        warnings.filterwarnings("ignore", message=r".*lr_scheduler\.step.*")
        fresh = make_schedule(optimizer)
        for _ in range(done):
            fresh.step()
    configs[0].scheduler.load_state_dict(fresh.state_dict())
