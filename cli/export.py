"""`sparkvsr export`: a training checkpoint becomes a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparkvsr.printable import printable


def export(
    run: Annotated[Path, typer.Argument(help="Run folder of sparkvsr train, or one of its checkpoints.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model folder to write.")],
    ema: Annotated[
        bool | None,
        typer.Option(
            "--ema/--no-ema", help="Take the moving average of the weights, or not; default: if there is one."
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing folder.")] = False,
    model_path: Annotated[
        Path | None,
        typer.Option(
            "--model-path",
            help="Where the base model (model.path of the run) lies now, if it was moved.",
            show_default=False,
        ),
    ] = None,
    dtype: Annotated[
        str, typer.Option("--dtype", help="Number type of the weights: fp32, bf16, fp16 (large models).")
    ] = "fp32",
    trust_target: Annotated[
        list[str] | None,
        typer.Option(
            "--trust-target",
            metavar="NAME",
            help="Run this code of your own (a _target_ in the run's configuration). Without it a run folder is data.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write a model folder that `sparkvsr upscale --model` takes, with a model card."""
    from sparkvsr.training.export import export_model

    folder = export_model(
        run, output, ema=ema, overwrite=overwrite, own_targets=trust_target or (), model_path=model_path, dtype=dtype
    )
    name = printable(str(folder))
    typer.echo(f"wrote {name}; use it with: sparkvsr upscale CLIP --model {name}", err=True)
