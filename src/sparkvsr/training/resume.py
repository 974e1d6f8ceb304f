"""Going on with a run: which checkpoint is meant, with which configuration, and whether this trainer can read it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from sparkvsr.config import check_plain_path, compose_config, config_packages, override_key, plain
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.home import expanded
from sparkvsr.training.checkpoints import find_checkpoint, folder_kind, has_checkpoint, newest_run, read_header
from sparkvsr.training.module import CHECKPOINT_KEY
from sparkvsr.training.strategies import ShardedStrategy, ZeroStrategy, strategy_kind
from sparkvsr.training.trusted_targets import check_inherited, check_targets, targets, targets_in_folder
from sparkvsr.version import __version__

# What belongs to one command and not to the run.
_OF_ONE_COMMAND = ("ckpt", "init", "paths.output_dir")
# What makes a run another one.
_SAME = ("stage", "model._target_", "optimizer.build._target_")
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
    origin = Origin(tuple(overrides), None if config_dir is None else str(expanded(config_dir).resolve()))
    if origin.config_dir is not None:
        make_importable(Path(origin.config_dir))
    config = compose_config(origin.overrides, config_dir=origin.config_dir)
    for key in ("ckpt", "init"):
        # Of a script whose variable is not set: the run would begin anew without a word.
        if config[key] is not None and not str(config[key]).strip():
            msg = f"{key}= names nothing; give the path of a run or checkpoint, or leave {key} out"
            raise ConfigError(msg)
    if not config.ckpt:
        return config, origin
    keys = {override_key(text) for text in overrides}
    checkpoint = resumed_checkpoint(config, any_stage="stage" not in keys)
    if checkpoint is None:  # ckpt=auto, and nothing there yet
        return config, origin
    check_plain_path(checkpoint, "ckpt")
    header = read_header(checkpoint)
    # Before it is composed with what the checkpoint adds, whose keys another model would not know.
    check_same_run(header, config, checkpoint, keys=[key for key in _SAME if key.partition(".")[0] in keys])
    before = _origin_of(header, checkpoint)
    if before is not None:
        typed, named = config, origin.config_dir
        inherited = [text for text in before.overrides if override_key(text) not in {*keys, *_OF_ONE_COMMAND}]
        origin = Origin((*inherited, *overrides), named or before.config_dir)
        try:
            config = compose_config(origin.overrides, config_dir=origin.config_dir)
        except ConfigError as exc:
            wrote = str(header[CHECKPOINT_KEY].get("version", "unknown"))[:40]
            msg = (
                f"{checkpoint} cannot be gone on with as its run was started ({exc}); it was written by sparkvsr "
                f"{wrote}, this is {__version__}: use that one, or start a new run from its weights: init={checkpoint}"
            )
            raise ConfigError(msg) from exc
        # What the checkpoint adds is data: it may set values, but code is chosen by who types the command.
        own = {str(name) for _, name in targets(plain(typed))}
        folders = [Path(named)] if named else []
        for folder in [*folders, *package_folders()]:  # what is installed here was chosen here
            own |= targets_in_folder(folder)
        check_targets(config, str(checkpoint), own=own, advice=_ADVICE)
        check_inherited(config, typed, inherited, str(checkpoint))
    if config.ckpt != "auto":  # which means the same the next time it is looked up
        config.ckpt = str(checkpoint)
    return config, origin


def make_importable(config_dir: Path) -> None:
    """Let ``_target_`` name Python files that lie in a folder of configurations which the user named.

    Behind everything else, so that such a file cannot stand in for a module of a package.
    """
    if str(config_dir) not in sys.path:
        sys.path.append(str(config_dir))


def package_folders() -> list[Path]:
    """Folders of the installed packages that bring groups of configurations."""
    folders = []
    for package in config_packages():
        spec = find_spec(package)
        folders += [Path(place) for place in (spec.submodule_search_locations or [])] if spec else []
    return folders


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


def resumed_checkpoint(config: DictConfig, *, any_stage: bool = False) -> Path | None:
    """The checkpoint that ``ckpt`` names.

    Args:
        config: with ``ckpt`` set. ``auto`` is the newest one in ``paths.output_dir``, which has to be named. ``last``
            is the same where ``paths.output_dir`` is named; else it is that of the newest run beside the new folder.
        any_stage: where no folder is named, take the newest run of either stage instead of ``stage``.

    Returns:
        None for ``auto`` where there is none yet.

    Raises:
        ConfigError: there is none, or ``auto`` without a folder.
    """
    if config.ckpt not in ("last", "auto"):
        return find_checkpoint(expanded(config.ckpt))
    folder = expanded(config.paths.output_dir)
    if names_its_folder(config):
        if has_checkpoint(folder):
            return find_checkpoint(folder)
        if config.ckpt == "auto":
            return None
        msg = (
            f"ckpt=last: paths.output_dir={folder} holds no run with a checkpoint; ckpt=auto starts one there, "
            "ckpt=PATH goes on with another"
        )
        raise ConfigError(msg)
    if config.ckpt == "auto":
        msg = "ckpt=auto needs the folder that it starts in and goes on with: paths.output_dir=FOLDER"
        raise ConfigError(msg)
    found = newest_run(folder.parent, None if any_stage else config.stage)
    if found is None:
        which = "run" if any_stage else f"run of stage {config.stage}"
        msg = f"ckpt=last: {folder.parent} holds no {which} with a last.ckpt; give its path: ckpt=PATH"
        raise ConfigError(msg)
    return (found / "last.ckpt").resolve()


def names_its_folder(config: DictConfig) -> bool:
    """Whether ``paths.output_dir`` is one folder, instead of the shipped pattern that gives each run a new one."""
    return "${now:" not in str(config.paths._get_node("output_dir")._value())


def check_same_run(
    header: dict[str, Any], config: DictConfig, checkpoint: Path, keys: Sequence[str] | None = None
) -> None:
    """Refuse to go on with a run of another stage, model or optimiser, where "exactly on" would mean nothing.

    Args:
        header: of the checkpoint.
        config: composed.
        checkpoint: for the message.
        keys: that are compared; None takes all that matter.

    Raises:
        ConfigError: they differ.
    """
    kept = header.get(CHECKPOINT_KEY, {}).get("config")
    if not isinstance(kept, dict):
        return
    for key in _SAME if keys is None else keys:
        before: Any = kept
        for part in key.split("."):
            before = before.get(part) if isinstance(before, dict) else None
        now = OmegaConf.select(config, key)
        if before is not None and now is not None and str(before) != str(now):
            name = key.removesuffix("._target_")
            msg = (
                f"{checkpoint} is of a run with {name}={str(before)[:80]}, this one has {name}={now}; leave {name} as "
                f"it was, or start a new run from its weights: init={checkpoint}"
            )
            raise ConfigError(msg)


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
