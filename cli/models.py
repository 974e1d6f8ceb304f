"""`sparkvsr models` and `sparkvsr bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import human_bytes


def models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="Where to look for model folders (default: here).")
    ] = None,
) -> None:
    """List the models that can be used: where they lie, their size, what they need."""
    from importlib.resources import files

    from sparkvsr.models.cogvideox.networks.hub import local_models

    weights = files("sparkvsr.models.lite") / "weights"
    size = sum(len(entry.read_bytes()) for entry in weights.iterdir() if entry.name.endswith(".safetensors"))
    typer.echo(f"lite      embedded, {human_bytes(size)}; any CPU, about 0.5 GB of memory at 320x180 (default)")
    typer.echo("bicubic   baseline without weights")
    found = local_models(folders or [Path.cwd()])
    for model in found:
        state = "" if model.usable else "NOT USABLE: "
        facts = f"{human_bytes(model.size_bytes)}, {model.parameters:,} parameters; {state}{model.needs}"
        typer.echo(f"{model.path}\n          {facts}")
    if not found:
        typer.echo(
            "No cogvideox model folder here or in the hub's cache; give folders to look in, or --model owner/name."
        )


def bench(
    clip: Annotated[Path | None, typer.Argument(help="Clip to read (default: noise).")] = None,
    model: Annotated[str, typer.Option("--model", help="lite, bicubic, a model folder or a hub id.")] = "lite",
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16, fp16.")] = "auto",
    size: Annotated[str, typer.Option("--size", help="LR size of the made clip.")] = "320x180",
    frames: Annotated[int, typer.Option("--frames", min=1, help="Frames of one shot.")] = 17,
    scale: Annotated[float, typer.Option("--scale", help="Factor from 1 to 4.")] = 4.0,
    guidance: Annotated[float, typer.Option("--guidance", help="As for upscale.")] = 1.0,
    blind: Annotated[bool, typer.Option("--blind", help="Without a keyframe.")] = False,
    json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """Measure each stage of a run: seconds, TFLOP, share of the device's matmul rate, peak memory."""
    from sparkvsr.inference.profiling import bench as run
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
