"""Going on with a run: which checkpoint is meant, with which configuration, and whether this trainer can read it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig

from sparkvsr.config import compose_config, override_key, plain
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.training.checkpoints import find_checkpoint, folder_kind, newest_run, read_header
from sparkvsr.training.module import CHECKPOINT_KEY
from sparkvsr.training.strategies import ShardedStrategy, ZeroStrategy, strategy_kind
from sparkvsr.training.trusted_targets import check_inherited, check_targets, targets, targets_in_folder

# What belongs to one command and not to the run.
_OF_ONE_COMMAND = ("ckpt", "init", "paths.output_dir")
_ADVICE = "if it is yours, type it again ({key}._target_={name}), or name its folder by --config-dir"


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
    before = _origin_of(read_header(checkpoint), checkpoint)
    if before is not None:
        typed, named = config, origin.config_dir
        inherited = [text for text in before.overrides if override_key(text) not in {*keys, *_OF_ONE_COMMAND}]
        origin = Origin((*inherited, *overrides), named or before.config_dir)
        config = compose_config(origin.overrides, config_dir=origin.config_dir)
        # What the checkpoint adds is data: it may set values, but code is chosen by who types the command.
        own = {str(name) for _, name in targets(plain(typed))}
        own |= targets_in_folder(Path(named)) if named else set()
        check_targets(config, str(checkpoint), own=own, advice=_ADVICE)
        check_inherited(config, typed, inherited, str(checkpoint))
    config.ckpt = str(checkpoint)
    return config, origin


def _origin_of(header: dict[str, Any], checkpoint: Path) -> Origin | None:
    kept = header.get(CHECKPOINT_KEY, {}).get("origin")
    if kept is None:
        return None
    overrides, config_dir = (kept.get("overrides"), kept.get("config_dir")) if isinstance(kept, dict) else (None, None)
    is_known = isinstance(overrides, list) and all(isinstance(text, str) for text in overrides)
    if not is_known or not isinstance(config_dir, str | None):
        msg = f"{checkpoint} does not say how its run was started; was it written by sparkvsr train?"
        raise WeightsError(msg)
    return Origin(tuple(overrides or ()), config_dir)


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
    # A folder says itself who wrote it, a file by what it holds.
    wrote = folder_kind(checkpoint) or header.get(CHECKPOINT_KEY, {}).get("strategy")
    now = strategy_kind(trainer.strategy)
    if checkpoint.is_dir() and not isinstance(trainer.strategy, ShardedStrategy | ZeroStrategy):
        now = type(trainer.strategy).__name__ if now == wrote else now  # Lightning's own would unpickle the folder
    if wrote is not None and wrote != now:
        names = {"replicated": "cpu, gpu or ddp"}
        wrote = str(wrote)[:40]
        msg = (
            f"{checkpoint} was written by trainer={names.get(wrote, wrote)}, this run has "
            f"trainer={names.get(now, now)}; go on with the former, or start a new run from its weights: "
            f"init={checkpoint}"
        )
        raise ConfigError(msg)
