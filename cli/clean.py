"""`sparkvsr clean`: remove work folders."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.printable import printable
from sparkvsr.units import human_bytes

from .console import print_error


def clean(
    paths: Annotated[
        list[Path],
        typer.Argument(metavar="PATH...", help="Work folders, folders that hold some, or outputs they belong to."),
    ],
) -> None:
    """Remove work folders: rendered segments that `sparkvsr upscale` kept. Outputs are never touched."""
    from sparkvsr.inference.clip.store import find_work_folders, remove_work_folder

    is_one_left = False
    for path in paths:
        folders = find_work_folders(path)
        if not folders:
            msg = f"{path} has no work folder of sparkvsr at, in or beside it; nothing was deleted"
            raise ConfigError(msg)
        for folder in folders:
            try:
                size = remove_work_folder(folder)
            except EncodeError as exc:  # the others can go
                print_error(str(exc))
                is_one_left = True
            else:
                typer.echo(f"Removed  {printable(str(folder))} ({human_bytes(size)})")
    if is_one_left:
        raise typer.Exit(1)
