"""One training run from start to end: folder, records, fit, stop, final checkpoint, model folder."""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import seed_everything
from omegaconf import DictConfig

from sparkvsr.config import check_plain_path, config_text, plain
from sparkvsr.data.datamodule import shared_cores
from sparkvsr.data.loader_errors import plain_worker_errors
from sparkvsr.data.skips import SKIP_FILE, skipped_clips
from sparkvsr.errors import ConfigError, ResourceError, TrainingError, WeightsError
from sparkvsr.home import expanded
from sparkvsr.hooks import Hook, silent
from sparkvsr.models.device import is_out_of_memory
from sparkvsr.output_lock import OutputLock
from sparkvsr.training.adapters.interface import parameter_count
from sparkvsr.training.build import Run, build_run, settle_trainer
from sparkvsr.training.callbacks import BestCheckpoint
from sparkvsr.training.checkpoints import find_checkpoint, has_checkpoint, load_network_state, read_header
from sparkvsr.training.finite import check_weights
from sparkvsr.training.precompute import is_first_process
from sparkvsr.training.recipe import departures, device_notes, recipe_rows, samples_per_step
from sparkvsr.training.resume import Origin, check_kind, check_same_run, names_its_folder, resumed_checkpoint
from sparkvsr.training.trusted_targets import targets
from sparkvsr.version import __version__

# What a result may depend on besides torch.
_RECORDED_PACKAGES = ("lightning", "diffusers", "numpy", "opencv-python-headless", "av", "peft", "deepspeed")
_RUN_FOLDER_VARIABLE = "SPARKVSR_RUN_FOLDER"
_KNOWN_NOISE = (
    ".*does not have many workers.*",
    ".*Checkpoint directory .* exists and is not empty.*",
    ".*smaller than the logging interval.*",
    ".*not resumable.*",
    ".*ended before the epoch ended.*",
    ".*isinstance.*treespec, LeafSpec.*",
    ".*Trying to infer the `batch_size`.*",
    ".*lr_scheduler.step.*before.*optimizer.step.*",
    # said in our own words, with what to type: `recipe.device_notes`
    ".*GPU available but not used.*",
    ".*in eval mode at the start of training.*",
    # DeepSpeed's own calls
    ".*all_gather_into_tensor. is deprecated.*",
    ".*reduce_scatter_tensor. is deprecated.*",
    # no validation clips
    ".*Total length of .list. across ranks is zero.*",
    # FSDP: nothing writes into the network's output in place
    ".*returned a view tensor.*",
)


def train(config: DictConfig, hook: Hook = silent, origin: Origin | None = None) -> Path:
    """Train as configured.

    Args:
        config: composed by ``sparkvsr.training.resume.compose_run`` (or ``sparkvsr.config.compose_config``).
        hook: gets the events listed in ``sparkvsr.training.callbacks``.
        origin: what it was composed from; with it the run can go on by its checkpoint alone.

    Returns:
        The run folder.

    Raises:
        KeyboardInterrupt: stopped by Ctrl-C or SIGTERM after the step in work was saved.
        SparkVSRError: something cannot be used.
    """
    resume = resumed_checkpoint(config) if config.ckpt else None
    folder = _run_folder(config, resume)
    # Two trainings in one folder would write each other's checkpoints; a job may be started again before it has ended.
    lock = OutputLock(folder, "paths.output_dir") if is_first_process() else nullcontext()
    with _known_noise_left_out(), lock:
        return _train(config, hook, origin, resume, folder)


def _train(config: DictConfig, hook: Hook, origin: Origin | None, resume: Path | None, folder: Path) -> Path:
    # What is saved says what was done: the folder that was found or inherited, the device that there was.
    config.paths.output_dir = str(folder)
    settle_trainer(config)
    seed_everything(config.seed, workers=True, verbose=False)
    kept = {"version": __version__, "config": plain(config), "origin": None if origin is None else origin.kept()}
    header = {} if resume is None else read_header(resume)
    first_step = int(header.get("global_step", 0))
    if resume is not None:
        check_same_run(header, config, resume)
        if first_step >= config.trainer.max_steps and config.ckpt == "auto":
            return _already_done(folder, config, first_step, hook)
        if first_step >= config.trainer.max_steps:
            msg = (
                f"{resume} is at step {first_step} and trainer.max_steps={config.trainer.max_steps}; "
                "there is nothing left to do: set trainer.max_steps higher"
            )
            raise ConfigError(msg)
    run = build_run(config, folder, hook, kept, first_step=first_step)
    if resume is not None:
        check_kind(header, run.trainer, resume)
    if resume is None and config.init:
        _start_from(run, config)
    # Only now, so that what cannot be used leaves no folder that looks like a run.
    folder.mkdir(parents=True, exist_ok=True)
    if run.trainer.is_global_zero:
        write_records(folder, config)
    begin = time.monotonic()
    if run.trainer.is_global_zero:
        _tell_start(run, config, folder, first_step, hook)
    alone_on_cpu = run.trainer.strategy.root_device.type == "cpu" and run.trainer.world_size == 1
    with _stop_on_signal(run), shared_cores(config.data.num_workers if alone_on_cpu else 0):
        _fit(run, resume, folder)
    _save_last(run, folder)
    model_folder, exported = None, None
    if run.trainer.is_global_zero:
        if config.export_at_end and not run.stop.stopped:
            model_folder, exported = _export(folder, config)
        hook(
            {
                "event": "done",
                "output_dir": str(folder),
                "step": run.trainer.global_step,
                "seconds": time.monotonic() - begin,
                "model_folder": None if model_folder is None else str(model_folder),
                "exported": exported,
                "interrupted": run.stop.stopped,
                "skipped": len(skipped_clips(folder / SKIP_FILE)),
            }
        )
    if run.stop.stopped:
        raise KeyboardInterrupt
    return folder


def _already_done(folder: Path, config: DictConfig, step: int, hook: Hook) -> Path:
    """A job that is started again after its end: nothing is left to do but, perhaps, the export."""
    if os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0")) == "0":
        model, exported = folder / "model", None
        if config.export_at_end and not model.exists():
            exported = _export(folder, config)[1]
        hook(
            {
                "event": "done",
                "output_dir": str(folder),
                "step": step,
                "seconds": 0.0,
                "model_folder": str(model) if model.exists() else None,
                "exported": exported,
                "interrupted": False,
                "skipped": 0,
            }
        )
    return folder


def _tell_start(run: Run, config: DictConfig, folder: Path, first_step: int, hook: Hook) -> None:
    samples = samples_per_step(config, run.trainer)
    hook(
        {
            "event": "start",
            "output_dir": str(folder),
            "stage": config.stage,
            "model": run.adapter.family,
            "parameters": parameter_count(run.adapter.network),
            "trained_parameters": parameter_count(run.adapter.network, trained=True),
            "steps": config.trainer.max_steps,
            "first_step": first_step,
            "samples_per_step": samples,
            "recipe": recipe_rows(config, run.trainer),
            "departures": departures(config, samples),
        }
    )
    for text in device_notes(config, run.trainer):
        hook({"event": "note", "text": text})


def _save_last(run: Run, folder: Path) -> None:
    """Write ``last.ckpt`` where the newest checkpoint is not of the last step."""
    last = folder / "last.ckpt"
    if _is_at(last, run.trainer.global_step):
        return
    with _with_last_good(folder):
        check_weights(run.adapter.network, run.trainer.global_step, run.trainer)
    if last.is_symlink() and run.trainer.is_global_zero:
        last.unlink()
    run.trainer.strategy.barrier()
    run.trainer.save_checkpoint(last)


def _export(folder: Path, config: DictConfig) -> tuple[Path, str]:
    """Write the model folder: the best weights where the run was told what is best, else the last ones."""
    from sparkvsr.training.export import export_model

    own = [str(name) for _, name in targets(plain(config))]  # what this run has been built from
    best = folder / BestCheckpoint.FILE
    source = best if (config.callbacks.get("best") or {}).get("metric") and best.exists() else find_checkpoint(folder)
    return export_model(source, folder / "model", overwrite=True, own_targets=own), source.name


def write_records(folder: Path, config: DictConfig) -> None:
    """Write what it takes to repeat the run: ``config.yaml`` and ``environment.yaml`` (revision, versions, seed)."""
    (folder / "config.yaml").write_text(config_text(config), encoding="utf-8")
    lines = {
        "sparkvsr": __version__,
        "git_revision": git_revision(),
        "seed": config.seed,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "torch": torch.__version__,
        **{name: installed_version(name) for name in _RECORDED_PACKAGES},
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else platform.processor() or "cpu",
        "threads": torch.get_num_threads(),
    }
    text = "".join(f"{key}: {str(value)!r}\n" for key, value in lines.items())
    (folder / "environment.yaml").write_text(text, encoding="utf-8")


def installed_version(package: str) -> str:
    """Version of a package, ``not installed`` without it."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def git_revision() -> str:
    """Commit of the source tree, with ``-dirty`` where it has changes; ``unknown`` outside a repository."""
    here = Path(__file__).resolve().parent
    try:
        revision = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return revision.stdout.strip() or "unknown"


def _run_folder(config: DictConfig, resume: Path | None) -> Path:
    # Processes that Lightning starts for the other GPUs compose their own configuration a moment later; the folder,
    # which carries the time, has to be the first one's. Those that torchrun or SLURM start cannot be told.
    external = torch.distributed.is_torchelastic_launched() or "SLURM_PROCID" in os.environ
    inherited = os.environ.get(_RUN_FOLDER_VARIABLE)
    if inherited and os.environ.get("LOCAL_RANK", "0") != "0" and not external:
        return Path(inherited)
    if external and resume is None and "${now:" in str(config.paths._get_node("output_dir")._value()):
        msg = "torchrun and SLURM start every process by itself: name one folder for all of them by paths.output_dir"
        raise ConfigError(msg)
    folder = expanded(config.paths.output_dir if resume is None else resume.parent).resolve()
    if resume is None and has_checkpoint(folder):
        msg = (
            f"paths.output_dir={config.paths.output_dir} already holds a run; go on with it by ckpt=auto, "
            "or choose another folder"
        )
        raise ConfigError(msg)
    if resume is not None and names_its_folder(config):
        named = expanded(config.paths.output_dir).resolve()
        if named != folder:
            msg = (
                f"ckpt={resume} goes on in its own folder and paths.output_dir={config.paths.output_dir} is another; "
                f"leave it out, or start a new run there from its weights: init={resume}"
            )
            raise ConfigError(msg)
    check_plain_path(folder, "paths.output_dir")
    os.environ[_RUN_FOLDER_VARIABLE] = str(folder)
    return folder


def _start_from(run: Run, config: DictConfig) -> None:
    """Load ``init``'s weights into the network; a model folder is loaded by the adapter itself."""
    path = expanded(config.init)
    state, _ = load_network_state(path, run.adapter)
    own = run.adapter.network.state_dict()
    missing = [key for key in own if key not in state and ".lora_" not in key]
    wrong = [key for key in state if key in own and tuple(state[key].shape) != tuple(own[key].shape)]
    if missing or wrong:
        first = (missing or wrong)[0]
        msg = (
            f"init={config.init} does not fit the model: {len(missing)} of {len(own)} weights are missing and "
            f"{len(wrong)} have another size, first {first!r}; use the model= that made it"
        )
        raise WeightsError(msg)
    run.adapter.network.load_state_dict(state, strict=False)


@contextmanager
def _with_last_good(folder: Path) -> Iterator[None]:
    """Say of a run that broke down what is left of it."""
    try:
        yield
    except TrainingError as exc:
        if has_checkpoint(folder):
            good = find_checkpoint(folder)
            left = (
                f"the last good checkpoint is {good}; look at the clips, or go on from there with a lower rate: "
                f"sparkvsr train ckpt={good} optimizer.learning_rate=..."
            )
        else:
            left = "no checkpoint had been written; look at the clips, or start with a lower optimizer.learning_rate"
        msg = f"the run stopped. {exc}. {left[0].upper()}{left[1:]}"
        raise TrainingError(msg) from exc


def _fit(run: Run, resume: Path | None, folder: Path) -> None:
    checkpoint = None if resume is None else str(resume)
    try:
        with plain_worker_errors(), _with_last_good(folder):
            run.trainer.fit(run.module, datamodule=run.data, ckpt_path=checkpoint, weights_only=True)
    except SystemExit:  # how Lightning answers a second Ctrl-C
        if run.stop.asked:
            raise KeyboardInterrupt from None
        raise
    except MisconfigurationException as exc:
        msg = f"trainer: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc
    except (RuntimeError, MemoryError) as exc:
        if not is_out_of_memory(exc):
            raise
        msg = "out of memory; set data.batch_size lower, data.crop smaller, or use trainer=fsdp"
        raise ResourceError(msg) from exc


def _is_at(checkpoint: Path, step: int) -> bool:
    return checkpoint.exists() and int(read_header(checkpoint)["global_step"]) == step


@contextmanager
def _stop_on_signal(run: Run) -> Iterator[None]:
    """First Ctrl-C or SIGTERM: stop after this step. Second: at once. Only the main thread can listen."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, frame: Any) -> None:
        del frame
        if run.stop.asked:
            signal.signal(number, signal.SIG_DFL)
            raise KeyboardInterrupt
        run.stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _known_noise_left_out() -> Iterator[None]:
    """Without Lightning's advice that does not apply here; everything else is left to speak."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        for text in _KNOWN_NOISE:
            warnings.filterwarnings("ignore", message=text)
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
