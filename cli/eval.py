"""`sparkvsr eval`: run a bench, measure files, check a data set, compare results."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sparkvsr.errors import ConfigError, DatasetError
from sparkvsr.printable import printable
from sparkvsr.units import human_seconds

from . import options as shared
from .logs import observed
from .shown import printable_event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from sparkvsr.evaluation.run_options import MetricChoice, RunOptions

EXIT_MISSING_METRICS = 3
SECONDS_BETWEEN_LINES = 60.0
BENCH, FILES, METRICS = "A bench", "Any tool's output", "Metrics"

eval_app = typer.Typer(
    invoke_without_command=True,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Measure quality: a model on a bench (--bench), or files of any tool (--pred and --gt).",
)


@eval_app.callback()
@observed
def evaluate(
    ctx: typer.Context,
    bench: Annotated[
        list[str] | None,
        typer.Option(
            "--bench",
            metavar="NAME",
            help="REDS4, Vid4, UDM10, demo, ... or a YAML file; repeat for several. `--bench list` lists them.",
            rich_help_panel=BENCH,
        ),
    ] = None,
    data_root: Annotated[
        Path | None,
        typer.Option(
            "--data-root",
            help="Folder with NAME/GT and NAME/LQ (default: $SPARKVSR_DATA, then ./data).",
            rich_help_panel=BENCH,
        ),
    ] = None,
    check: Annotated[
        bool,
        typer.Option("--check", help="Only verify the data: clips, frames, sizes, readability.", rich_help_panel=BENCH),
    ] = False,
    clips: Annotated[
        str | None,
        typer.Option("--clips", metavar="A,B", help="Only these clips; the result says so.", rich_help_panel=BENCH),
    ] = None,
    frames: Annotated[
        int | None,
        typer.Option("--frames", min=1, help="Only the first N frames; the result says so.", rich_help_panel=BENCH),
    ] = None,
    model: shared.Model = "lite",
    look: shared.Look = None,
    keyframes: Annotated[
        str | None,
        typer.Option(
            "--keyframes",
            help="none, first, every:N, iframes, auto, or frame numbers like 0,16 (default: auto in the vivid look, "
            "none in the faithful one).",
            rich_help_panel=shared.MODEL,
        ),
    ] = None,
    references: Annotated[
        str | None,
        typer.Option(
            "--references",
            help="HR images of the keyframes: gt (the best possible), lite, a folder with CLIP/00000.png and so on, a "
            "weight file that spandrel reads, or another maker of `sparkvsr keyframes` (default: by model and look).",
            rich_help_panel=shared.MODEL,
        ),
    ] = None,
    guidance: Annotated[
        float,
        typer.Option(
            "--guidance",
            min=0.0,
            max=10.0,
            help="0 blind, 1 plain, above 1 closer to the keyframes.",
            rich_help_panel=shared.MODEL,
        ),
    ] = 1.0,
    device: Annotated[
        str,
        typer.Option(
            "--device", help="auto, cpu, cuda; for the networks of metrics too.", rich_help_panel=shared.MODEL
        ),
    ] = "auto",
    dtype: shared.Dtype = "auto",
    chunk_frames: shared.ChunkFrames = None,
    tile: shared.Tile = None,
    save_frames: Annotated[
        bool, typer.Option("--save-frames", help="Keep the restored frames as PNG.", rich_help_panel=shared.MODEL)
    ] = False,
    pred: Annotated[
        Path | None,
        typer.Option(
            "--pred", help="Restored: a video, a folder of frames, or a folder of either.", rich_help_panel=FILES
        ),
    ] = None,
    gt: Annotated[Path | None, typer.Option("--gt", help="Ground truth, like --pred.", rich_help_panel=FILES)] = None,
    crop: Annotated[
        Literal["none", "center", "topleft"],
        typer.Option(
            "--crop", help="Cut both to the common size; otherwise different sizes are refused.", rich_help_panel=FILES
        ),
    ] = "none",
    trim: Annotated[
        bool,
        typer.Option(
            "--trim",
            help="Cut the longer clip at its end, leave out numbered images without a partner; otherwise refused.",
            rich_help_panel=FILES,
        ),
    ] = False,
    align: Annotated[
        bool,
        typer.Option(
            "--align",
            help="Take back a shift of up to 4 pixels and one frame; otherwise it is only told.",
            rich_help_panel=FILES,
        ),
    ] = False,
    border: Annotated[
        int,
        typer.Option(
            "--border", min=0, help="Pixels that PSNR and SSIM leave out on each side.", rich_help_panel=FILES
        ),
    ] = 0,
    metrics: Annotated[
        str | None,
        typer.Option(
            "--metrics",
            help="default, offline, all, or names separated by commas (`sparkvsr metrics`) "
            "(default: what the bench says, else default).",
            rich_help_panel=METRICS,
        ),
    ] = None,
    every: Annotated[
        int, typer.Option("--every", min=1, help="Slow metrics on every N-th frame.", rich_help_panel=METRICS)
    ] = 1,
    weights_dir: Annotated[
        Path | None,
        typer.Option("--weights-dir", help="Folder searched first for metric weights.", rich_help_panel=METRICS),
    ] = None,
    allow_download: Annotated[
        bool,
        typer.Option(
            "--allow-download", help="Fetch missing metric weights (checksums are verified).", rich_help_panel=METRICS
        ),
    ] = False,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="A metric of a group that is not ready is an error.", rich_help_panel=METRICS),
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Folder for results.json, .csv, .md and report.html (default for a bench: results/BENCH-MODEL).",
        ),
    ] = None,
) -> None:
    """Measure quality: a model on a bench, or files of any tool. Finished clips are kept and not measured again."""
    if ctx.invoked_subcommand is not None:
        return
    if bench == ["list"]:
        _list_benches()
        return
    if (pred is None) != (gt is None):
        msg = "--pred and --gt belong together; give both, or --bench"
        raise ConfigError(msg)
    if bool(bench) == (pred is not None):
        msg = "give either --bench NAME or --pred PATH --gt PATH"
        raise ConfigError(msg)
    if check:
        _check(bench or [], data_root)
        return
    if output is None and pred is not None:
        msg = "eval needs -o DIR, the folder for the results"
        raise ConfigError(msg)
    from sparkvsr.evaluation.run_options import MetricChoice
    from sparkvsr.metrics.readiness import MissingMetricsError

    choice = MetricChoice(metrics or "default", every, weights_dir, allow_download, strict, device)
    try:
        if pred is not None and gt is not None and output is not None:
            _measure_files(pred, gt, output, choice, crop, border, trim=trim, align=align)
        else:
            from sparkvsr.evaluation.run_options import RunOptions

            options = RunOptions(
                model=model, look=look, keyframes=keyframes, references=references, guidance_scale=guidance,
                device=device,
                dtype=dtype, chunk_frames=chunk_frames, tile=tile,
                clips=tuple(filter(None, (c.strip() for c in clips.split(",")))) if clips else (),
                max_frames=frames, save_frames=save_frames,
            )  # fmt: skip
            _run_benches(bench or [], data_root, output, choice, metrics, options)
    except MissingMetricsError as exc:
        sys.stderr.write(f"Error: {printable(str(exc), keep_lines=True)}\n")
        raise typer.Exit(EXIT_MISSING_METRICS) from None


@eval_app.command("report")
def report(
    results: Annotated[list[Path], typer.Argument(metavar="RESULT...", help="results.json files or their folders.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Also write the comparison to this .md, .html or .json file.")
    ] = None,
) -> None:
    """Runs side by side, with paired p-values against the first, and the published rows of their bench."""
    import json

    from sparkvsr.evaluation import side_by_side as sides
    from sparkvsr.evaluation.html_page import comparison_page
    from sparkvsr.evaluation.record import RECORD_FILE
    from sparkvsr.evaluation.tables import text_table
    from sparkvsr.evaluation.whole_files import write_whole
    from sparkvsr.video.own_files import refuse_source

    if output is not None and output.suffix not in {".md", ".html", ".json"}:
        msg = f"-o {output}: the comparison is written as .md, .html or .json"
        raise ConfigError(msg)
    if output is not None:
        refuse_source(output, [path / RECORD_FILE if path.is_dir() else path for path in results])
    comparison = sides.compare_runs(results)
    for index, run in enumerate(comparison["runs"]):
        _print(f"{chr(ord('A') + index)}  {run['title']}  ({run['path']})")
    _print("\n" + text_table(*sides.comparison_rows(comparison)))
    for line in sides.comparison_notes(comparison):
        _print(f"Note  {line}")
    for table in comparison["published"]:
        _print(f"\nPublished: {table['title']} ({table['source']})")
        if table.get("warning"):
            _print(f"Warning: {table['warning']}")
        _print(text_table(*sides.published_rows(comparison, table)))
    if output is not None:
        text = {
            ".json": lambda: json.dumps(comparison, indent=1) + "\n",
            ".html": lambda: comparison_page(comparison),
            ".md": lambda: sides.comparison_markdown(comparison),
        }[output.suffix]()
        try:
            output.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            msg = f"-o {output}: its folder cannot be made ({exc.strerror or exc}); choose another"
            raise ConfigError(msg) from exc
        write_whole(output, text)


def _measure_files(
    pred: Path, gt: Path, output: Path, choice: MetricChoice, crop: Literal["none", "center", "topleft"], border: int,
    *, trim: bool, align: bool,
) -> None:  # fmt: skip
    from sparkvsr.evaluation.file_run import evaluate_files

    with EvalProgress() as progress:
        record = evaluate_files(
            pred, gt, output, metrics=choice, crop=crop, trim=trim, align=align, border=border, hook=progress
        )
    _print_record(record, output)


def _run_benches(
    names: list[str], data_root: Path | None, output: Path | None, choice: MetricChoice, metrics: str | None,
    options: RunOptions,
) -> None:  # fmt: skip
    from dataclasses import replace

    from sparkvsr.evaluation.bench import load_bench
    from sparkvsr.evaluation.bench_run import BenchRun
    from sparkvsr.evaluation.result_folder import claim_folder, give_back

    # Everything that can be refused is refused before the first frame is restored.
    benches = [load_bench(name) for name in names]
    runs = [
        BenchRun.prepare(item, data_root, choice if metrics else replace(choice, names=item.metrics), options)
        for item in benches
    ]
    for run in runs:
        if output is None:
            folder, unfinished = claim_folder(run.bench.name, options.model)
            _print(f"Results go to {folder}")
            if unfinished is not None:
                _print(f"Note  the run in {unfinished} was not finished; -o {unfinished} goes on with it")
        else:
            folder = output if len(runs) == 1 else output / run.bench.name
        try:
            with EvalProgress() as progress:
                record = run.execute(folder, hook=progress)
        except BaseException:
            if output is None:
                give_back(folder)
            raise
        _print_record(record, folder)


def _check(names: list[str], data_root: Path | None) -> None:
    from sparkvsr.evaluation.bench import load_bench
    from sparkvsr.evaluation.layout import check_data, find_data

    if not names:
        msg = "--check needs --bench NAME"
        raise ConfigError(msg)
    problems = 0
    for name in names:
        item = load_bench(name)
        for line in check_data(find_data(item, data_root)):
            _print(f"{item.name}: {line.text}")
            problems += line.is_problem
    if problems:
        msg = f"{problems} problem(s) found; data/README.md says how to get the data"
        raise DatasetError(msg)


def _list_benches() -> None:
    from sparkvsr.evaluation.bench import bench_names, load_bench

    for name in bench_names():
        item = load_bench(name)
        _print(f"{name:<10} {item.num_clips:>3} clips, LR: {item.degradation_text}. {item.title}")


def _print_record(record: dict[str, Any], folder: Path) -> None:
    from sparkvsr.evaluation.tables import clip_rows, notes, text_table, title

    record = printable_event(record)
    _print(f"\n{title(record)}\n{text_table(*clip_rows(record))}")
    for line in notes(record):
        _print(f"Note  {line}")
    _print(f"Wrote {folder / 'results.json'}, results.csv, results.md and report.html")


def _print(text: str) -> None:
    sys.stdout.write(printable(text, keep_lines=True) + "\n")
    sys.stdout.flush()


class EvalProgress:
    """A bar with the time left on a terminal; elsewhere a line per clip and one a minute. The library's hook."""

    def __init__(self) -> None:
        self._told = time.monotonic()
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> EvalProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, event: dict[str, Any]) -> None:
        event = printable_event(event)
        if event["event"] == "clip":
            frames = event["record"]["frames"]
            self._line(f"{event['name']}: {frames} frames, {'kept from before' if event['reused'] else 'measured'}")
        elif event["event"] == "note":
            self._line(f"Note  {event['text']}")
        elif event["event"] == "progress":
            if sys.stderr.isatty():
                self._advance(event)
            elif time.monotonic() - self._told >= SECONDS_BETWEEN_LINES:
                self._told = time.monotonic()
                left = human_seconds(event["seconds_left"])
                self._line(f"{event['clip']}: {event['done']} of {event['total']} frames measured, {left} left")

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def _advance(self, event: dict[str, Any]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[left]}"),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("measuring", total=event["total"], left="")
            self._bar.start()
        assert self._task is not None
        left = f"{human_seconds(event['seconds_left'])} left"
        self._bar.update(self._task, description=event["clip"], completed=event["done"], left=left)
