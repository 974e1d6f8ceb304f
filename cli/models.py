"""`sparkvsr models`: what can be used."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparkvsr.printable import printable
from sparkvsr.units import human_bytes


def models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="DIR", help="Where to look for model folders (default: here).")
    ] = None,
) -> None:
    """List the models that can be used: where they lie, their size, what they need."""
    from importlib.resources import files

    from sparkvsr.models.cogvideox.networks.hub import local_models
    from sparkvsr.models.registry import DOUBLING_FOLDER

    weights = files("sparkvsr.models.lite") / "weights"
    doubling = weights / DOUBLING_FOLDER
    folders_of_lite = [weights, *([doubling] if doubling.is_dir() else [])]
    entries = [entry for folder in folders_of_lite for entry in folder.iterdir()]
    size = sum(len(entry.read_bytes()) for entry in entries if entry.name.endswith(".safetensors"))
    factors = "by 2 and 4" if doubling.is_dir() else "by 2 and 4, in the faithful look by 4"
    typer.echo(
        f"lite      embedded, {human_bytes(size)}; {factors}; any CPU, about 0.5 GB of memory at 320x180 (default)"
    )
    typer.echo("bicubic   baseline without weights")
    found = local_models(folders or [Path.cwd()])
    for model in found:
        state = "" if model.usable else "NOT USABLE: "
        facts = f"{human_bytes(model.size_bytes)}, {model.parameters:,} parameters; {state}{model.needs}"
        typer.echo(f"{printable(str(model.path))}\n          {facts}")
    if not found:
        typer.echo(
            "No cogvideox model folder here or in the hub's cache; give folders to look in, or --model owner/name."
        )
