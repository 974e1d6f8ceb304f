"""Several runs by one command: Hydra's sweeper cuts the values apart, its launcher does one run after the other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from sparkvsr.config import CONFIG_MODULE, override_key, quoted, search_path, sweep_texts
from sparkvsr.errors import ConfigError, SparkVSRError
from sparkvsr.home import expanded
from sparkvsr.training.resume import Origin, compose_run

RunJob = Callable[[DictConfig, Origin, int, list[str]], float]
"""Does one run: configuration, origin, number and overrides to the figure that runs are compared by."""
TABLE_FILE = "sweep.tsv"


@dataclass(frozen=True)
class SweepJob:
    """One run of a sweep.

    Attributes:
        number: from 0.
        overrides: that it was made with.
        folder: of the run.
        figure: what ``RunJob`` gave; NaN if it failed.
        error: why it failed, None if it did not.
    """

    number: int
    overrides: list[str]
    folder: Path
    figure: float
    error: str | None = None


def sweep(overrides: Sequence[str], config_dir: Path | None, run: RunJob) -> list[SweepJob]:
    """Do the runs; one that fails is noted, and the next one begins.

    Each run has its own folder below ``paths.output_dir`` (a dated one if none is named), which gets a table of them.

    Args:
        overrides: as typed, with several values where they differ.
        config_dir: folder with the user's own groups.
        run: does one run.

    Raises:
        ConfigError: an override is wrong, nothing is varied by it, or it goes on with a single run.
        KeyboardInterrupt: the run in work was stopped; the others are not begun.
    """
    texts = sweep_texts(overrides)
    given = {override_key(text): text.partition("=")[2].strip("'\"") for text in overrides}
    if given.get("ckpt", "auto") != "auto":
        msg = f"--multirun: ckpt={given['ckpt']} goes on with one run; ckpt=auto goes on with each run of a sweep"
        raise ConfigError(msg)
    base = _base_folder(given.get("paths.output_dir"))
    jobs: list[SweepJob] = []

    def do_one(composed: DictConfig) -> float:
        del composed  # composed again below, where a wrong value gets a plain message
        node = HydraConfig.get()
        number, own = int(node.job.num), [str(text) for text in node.overrides.task]
        folder = base / f"{number:03d}"
        figure, error = math.nan, None
        try:
            mine = [text for text in own if override_key(text) != "paths.output_dir"]
            config, origin = compose_run([*mine, f"paths.output_dir={quoted(str(folder))}"], config_dir)
            if config.trainer.devices != 1 or config.trainer.num_nodes != 1:
                msg = "--multirun does its runs in one process: trainer.devices=1 trainer.num_nodes=1"
                raise ConfigError(msg)
            figure = run(config, origin, number, mine)
        except SparkVSRError as exc:
            error = str(exc)
        jobs.append(SweepJob(number, own, folder, figure, error))
        _write_table(base, jobs)
        return figure

    settings = [
        f"hydra.sweep.dir={quoted(str(base))}",
        "hydra.sweep.subdir='.'",
        "hydra.output_subdir=null",
        "hydra/job_logging=none",
        "hydra/hydra_logging=none",
    ]
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(config_module=CONFIG_MODULE, version_base="1.3"):
            hydra: Any = GlobalHydra.instance().hydra
            hydra.multirun(
                config_name="train",
                task_function=do_one,
                overrides=[*texts, *search_path(config_dir), *settings],
                with_log_configuration=False,
            )
    except (HydraException, OmegaConfBaseException) as exc:
        msg = f"--multirun: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc
    finally:
        GlobalHydra.instance().clear()
    return jobs


def _base_folder(typed: str | None) -> Path:
    if typed is not None:
        return expanded(typed).resolve()
    return (Path("runs") / f"{datetime.now().astimezone():%Y-%m-%d_%H-%M-%S}_sweep").resolve()


def _write_table(base: Path, jobs: Sequence[SweepJob]) -> None:
    lines = ["run\tfigure\toverrides\terror"]
    lines += [f"{job.number:03d}\t{job.figure:.6g}\t{' '.join(job.overrides)}\t{job.error or ''}" for job in jobs]
    base.mkdir(parents=True, exist_ok=True)
    (base / TABLE_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
