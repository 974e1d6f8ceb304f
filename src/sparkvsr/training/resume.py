"""Going on with a run: which checkpoint is meant, with which configuration, and whether this trainer can read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig

from sparkvsr.config import compose_config, override_key
from sparkvsr.errors import ConfigError
from sparkvsr.training.checkpoints import find_checkpoint, newest_run, read_header
from sparkvsr.training.module import CHECKPOINT_KEY
from sparkvsr.training.strategies import strategy_kind

# What belongs to one command and not to the run.
_OF_ONE_COMMAND = ("ckpt", "init", "paths.output_dir")


@dataclass(frozen=True)
class Origin:
    """What a configuration was composed from; kept in checkpoints, so that a run can go on by its checkpoint alone.

    Attributes:
        overrides: as typed.
        config_dir: folder with the user's own groups.
    """

    overrides: tuple[str, ...] = ()
    config_dir: str | None = None

    def kept(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"overrides": list(self.overrides), "config_dir": self.config_dir}


def compose_run(overrides: Sequence[str], config_dir: Path | None = None) -> tuple[DictConfig, Origin]:
    """Compose the configuration of a run; with ``ckpt=``, on top of what the run was started with.

    Args:
        overrides: as typed.
        config_dir: folder with the user's own groups.

    Raises:
        ConfigError: an override is wrong, or there is no such checkpoint.
        WeightsError: the checkpoint cannot be read.
    """
    origin = Origin(tuple(overrides), None if config_dir is None else str(config_dir.expanduser().resolve()))
    config = compose_config(origin.overrides, config_dir=origin.config_dir)
    if not config.ckpt:
        return config, origin
    keys = {override_key(text) for text in overrides}
    checkpoint = resumed_checkpoint(config, any_stage="stage" not in keys)
    before = read_header(checkpoint).get(CHECKPOINT_KEY, {}).get("origin")
    if before:
        inherited = [text for text in before["overrides"] if override_key(text) not in {*keys, *_OF_ONE_COMMAND}]
        origin = Origin((*inherited, *overrides), origin.config_dir or before["config_dir"])
        config = compose_config(origin.overrides, config_dir=origin.config_dir)
    config.ckpt = str(checkpoint)
    return config, origin


def resumed_checkpoint(config: DictConfig, *, any_stage: bool = False) -> Path:
    """The checkpoint that ``ckpt`` names.

    Args:
        config: with ``ckpt`` set; ``last`` is that of ``paths.output_dir`` or of the newest run beside it.
        any_stage: take the newest run of either stage instead of ``stage``.

    Raises:
        ConfigError: there is none.
    """
    if config.ckpt != "last":
        return find_checkpoint(Path(config.ckpt).expanduser())
    folder = Path(config.paths.output_dir).expanduser()
    if (folder / "last.ckpt").exists():
        return (folder / "last.ckpt").resolve()
    found = newest_run(folder.parent, None if any_stage else config.stage)
    if found is None:
        which = "run" if any_stage else f"run of stage {config.stage}"
        msg = f"ckpt=last: {folder.parent} holds no {which} with a last.ckpt; give its path: ckpt=PATH"
        raise ConfigError(msg)
    return (found / "last.ckpt").resolve()


def check_kind(header: dict[str, Any], trainer: Trainer, checkpoint: Path) -> None:
    """Refuse optimiser state that another strategy laid out.

    Args:
        header: of the checkpoint.
        trainer: of this run.
        checkpoint: for the message.

    Raises:
        ConfigError: the strategies differ.
    """
    wrote = header.get(CHECKPOINT_KEY, {}).get("strategy")
    now = strategy_kind(trainer.strategy)
    if wrote is not None and wrote != now:
        names = {"replicated": "cpu, gpu or ddp"}
        msg = (
            f"{checkpoint} was written by trainer={names.get(wrote, wrote)}, this run has "
            f"trainer={names.get(now, now)}; go on with the former, or start a new run from its weights: "
            f"init={checkpoint}"
        )
        raise ConfigError(msg)
