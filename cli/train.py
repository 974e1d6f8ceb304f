"""`sparkvsr train`: one training run, with its progress on the terminal."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from sparkvsr.printable import printable
from sparkvsr.units import human_seconds

from .start import EXIT_INTERRUPTED


def train(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="stage=1|2, a group (model=lite, data=folder, trainer=ddp) or a value (trainer.max_steps=500). "
            "ckpt=auto starts in paths.output_dir or goes on there, ckpt=last goes on with the newest run, "
            "init=RUN starts from another run's weights.",
            show_default=False,
        ),
    ] = None,
    config_dir: Annotated[
        Path | None,
        typer.Option(
            "--config-dir", help="Folder with your own groups, such as data/mine.yaml, and the Python files they name."
        ),
    ] = None,
    multirun: Annotated[
        bool,
        typer.Option("--multirun", "-m", help="One run for each of several values: optimizer.learning_rate=1e-4,2e-4."),
    ] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Show the composed configuration and stop.")
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="Show the memory that the run would take per GPU and trainer, and stop.")
    ] = False,
) -> None:
    """Train a model: stage 1 in latent space, stage 2 in pixel space.

    Without arguments it trains the embedded model on built-in synthetic clips, on any machine, in a few minutes.
    """
    from sparkvsr.config import compose_config, config_text, override_key

    texts = overrides or []
    if multirun:
        if print_config or plan:
            msg = "it does runs; leave out --print-config and --plan"
            raise typer.BadParameter(msg, param_hint="--multirun")
        _run_sweep(texts, config_dir)
        return
    goes_on = any(override_key(text) == "ckpt" for text in texts)
    if plan or not goes_on:
        config = compose_config(texts, config_dir=config_dir)  # what is typed wrong is said before torch is loaded
    if print_config and not goes_on:
        typer.echo(config_text(config), nl=False)
        return
    if plan:
        from sparkvsr.training.plan import plan_memory, plan_text

        typer.echo(plan_text(plan_memory(config), config), nl=False)
        return
    from sparkvsr.training.resume import compose_run
    from sparkvsr.training.run import train as run_training

    config, origin = compose_run(texts, config_dir)
    if print_config:
        typer.echo(config_text(config), nl=False)
        return
    screen = TrainingScreen()
    try:
        with screen:
            run_training(config, hook=screen, origin=origin)
    except KeyboardInterrupt:
        if not screen.has_told_the_end:
            raise
        raise typer.Exit(EXIT_INTERRUPTED) from None


def _run_sweep(texts: list[str], config_dir: Path | None) -> None:
    from sparkvsr.training.run import train as run_training
    from sparkvsr.training.sweep import TABLE_FILE, sweep

    screens: list[TrainingScreen] = []

    def run(config: Any, origin: Any, number: int, overrides: list[str]) -> float:
        with TrainingScreen() as screen:
            screens.append(screen)
            screen.say(f"run {number}: {' '.join(overrides)}")
            run_training(config, hook=screen, origin=origin)
        return screen.figure

    try:
        jobs = sweep(texts, config_dir, run)
    except KeyboardInterrupt:
        if not screens or not screens[-1].has_told_the_end:
            raise
        raise typer.Exit(EXIT_INTERRUPTED) from None
    for job in jobs:
        line = f"run {job.number:03d}  {job.figure:.6g}  {' '.join(job.overrides)}"
        typer.echo(printable(line if job.error is None else f"run {job.number:03d}  failed: {job.error}"), err=True)
    if jobs:
        typer.echo(printable(f"all runs: {jobs[0].folder.parent / TABLE_FILE}"), err=True)
    if any(job.error is not None for job in jobs):
        raise typer.Exit(1)


class TrainingScreen:
    """Draws the events of a run: a live line on a terminal, a plain line now and then in a log file."""

    LINE_EVERY_SECONDS = 10.0

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        self._console = Console(stderr=True, highlight=False)
        # The processes that Lightning starts for further devices share the terminal and say nothing.
        is_first = os.environ.get("LOCAL_RANK", "0") == "0"
        self._is_live = self._console.is_terminal and is_first
        self._bar = Progress(
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            BarColumn(bar_width=20),
            TextColumn("{task.description}"),
            console=self._console,
            disable=not self._is_live,
        )
        self._task: Any = None
        self._last_line = -1e9
        self.has_told_the_end = not is_first
        self.figure = float("nan")
        """The best value of ``callbacks.best.metric``, else the last PSNR of validation, else the last loss."""
        self._figure_rank = 0

    def __enter__(self) -> TrainingScreen:
        self._bar.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        """The hook."""
        handler = getattr(self, f"_on_{event['event']}", None)
        if handler is not None:
            handler(event)

    def _on_start(self, event: dict[str, Any]) -> None:
        trained, whole = event["trained_parameters"], event["parameters"]
        count = f"{whole:,} parameters" if trained == whole else f"{trained:,} of {whole:,} parameters trained"
        self.say(
            f"stage {event['stage']}: {event['model']}, {count}, "
            f"{event['samples_per_step']} samples a step, run folder {event['output_dir']}"
        )
        for name, text in event["recipe"].items():
            self.say(f"  {name:<12} {text}")
        if event["departures"] is not None:
            self.say(f"  {'paper':<12} {_departures(event['departures'])}")
        self._task = self._bar.add_task("", total=event["steps"], completed=event["first_step"])

    def _on_step(self, event: dict[str, Any]) -> None:
        terms = "  ".join(f"{name} {value:.4g}" for name, value in event["terms"].items())
        self._note_figure(0, event["loss_mean"])
        share = event["relative_mean"]
        relative = "" if share != share else f" ({share:.1%} of doing nothing)"  # NaN: not measured
        line = (
            f"mean loss {event['loss_mean']:.4g}{relative}  now {terms}  learning rate {event['learning_rate']:.2e}  "
            f"{event['samples_per_second']:.2f} samples/s  "
            f"{_duration(event['seconds_left'])} left"
        )
        if self._is_live:
            self._bar.update(self._task, completed=event["step"], description=line)
        elif time.monotonic() - self._last_line >= self.LINE_EVERY_SECONDS or event["step"] == event["total"]:
            self._last_line = time.monotonic()
            self.say(f"step {event['step']}/{event['total']}  {line}")

    def _on_validation(self, event: dict[str, Any]) -> None:
        values = event["values"]
        self._note_figure(1, values.get("psnr_rgb", next(iter(values.values()))))
        shown = [
            f"{_metric_name(name)} {_figure(name, value)} (bicubic {_figure(name, values[f'{name}_bicubic'])})"
            for name, value in values.items()
            if f"{name}_bicubic" in values
        ]
        shown += [
            f"{_metric_name(name)} {_figure(name, value)}"
            for name, value in values.items()
            if f"{name}_bicubic" not in values and not name.endswith("_bicubic")
        ]
        self.say(f"step {event['step']}: validation {', '.join(shown)}")

    def _on_best(self, event: dict[str, Any]) -> None:
        self._note_figure(2, event["value"])
        value = _figure(event["metric"], event["value"])
        self.say(f"step {event['step']}: the best {_metric_name(event['metric'])} so far, {value}: {event['path']}")

    def _on_note(self, event: dict[str, Any]) -> None:
        self.say(event["text"])

    def _on_done(self, event: dict[str, Any]) -> None:
        self.has_told_the_end = True
        if event["skipped"]:
            self.say(f"{event['skipped']} clips could not be used: {event['output_dir']}/skipped.tsv says why")
        state = "stopped, saved" if event["interrupted"] else "done"
        self.say(
            f"{state} at step {event['step']} after {_duration(event['seconds'])}: {event['output_dir']}/last.ckpt"
        )
        if event["interrupted"]:
            self.say(f"go on with: sparkvsr train ckpt={event['output_dir']}/last.ckpt")
        elif event["model_folder"]:
            of = f" (its weights are those of {event['exported']})" if event["exported"] == "best.ckpt" else ""
            self.say(f"use it with: sparkvsr upscale CLIP --model {event['model_folder']}{of}")

    def _note_figure(self, rank: int, value: float) -> None:
        if rank >= self._figure_rank:
            self._figure_rank, self.figure = rank, value

    def say(self, text: str) -> None:
        """A line above the progress bar."""
        self._console.print(printable(text), markup=False, soft_wrap=True)
        sys.stderr.flush()


def _duration(seconds: float | None) -> str:
    return "?" if seconds is None else human_seconds(seconds)


def _departures(found: list[str]) -> str:
    return f"not as published: {'; '.join(found)}" if found else "as published"


def _metric_name(name: str) -> str:
    return "PSNR" if name == "psnr_rgb" else name


def _figure(name: str, value: float) -> str:
    return f"{value:.2f} dB" if name.startswith("psnr") else f"{value:.4f}"
