"""`sparkvsr profile`: what each stage of a run costs."""

from __future__ import annotations

from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options as shared
from .console import write_stderr


def profile(
    clip: Annotated[Path | None, typer.Argument(help="Clip to read (default: noise).")] = None,
    model: shared.Model = "lite",
    device: shared.Device = "auto",
    dtype: shared.Dtype = "auto",
    size: Annotated[str, typer.Option("--size", help="LR size of the made clip.")] = "320x180",
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames of one shot.")] = 17,
    scale: Annotated[float, typer.Option("--scale", help="Factor from 1 to 4.")] = 4.0,
    guidance: shared.Guidance = 1.0,
    blind: Annotated[bool, typer.Option("--blind", help="Without a keyframe.")] = False,
    json: Annotated[bool, typer.Option("--json", help="One JSON object instead of a table.")] = False,
) -> None:
    """Measure each stage of a run: seconds, TFLOP, share of the device's matmul rate, peak memory."""
    from sparkvsr.inference.profiling import profile as run
    from sparkvsr.models.registry import load_model
    from sparkvsr.shapes import parse_size

    result = run(
        load_model(model, device=device, dtype=dtype),
        clip=clip,
        lr_size=parse_size(size),
        frames=frames,
        scale=scale,
        keyframe=not blind,
        guidance_scale=guidance,
    )
    typer.echo(result.to_json() if json else result.to_text())


@wraps(profile)
def bench(*arguments: Any, **options: Any) -> None:
    # The old name: a bench is a data set with its protocol, see `sparkvsr eval --bench`.
    write_stderr("Note: `sparkvsr bench` is now `sparkvsr profile`; the old name still works")
    profile(*arguments, **options)
