"""The folder of a run's results: which one, and what is written into it.

When nobody names one it is ``results/REDS4-lite`` for a bench and a model, with ``-2`` behind it when that exists.
"""

from __future__ import annotations

import contextlib
from itertools import count
from pathlib import Path
from typing import Any

from sparkvsr.errors import SparkVSRError
from sparkvsr.evaluation.bench_keyframes import IMAGE_MODEL_SUFFIXES
from sparkvsr.evaluation.html_page import html_page
from sparkvsr.evaluation.measuring import plain_name
from sparkvsr.evaluation.record import RECORD_FILE, write_json
from sparkvsr.evaluation.tables import csv_text, markdown
from sparkvsr.evaluation.whole_files import write_whole

PARENT = Path("results")
CLIPS_FOLDER = "clips"


def claim_folder(bench: str, model: str, parent: Path = PARENT) -> tuple[Path, Path | None]:
    """Make a new folder for a run, so that two runs never write into one.

    Args:
        bench: its name.
        model: as typed: a name, a folder, a hub id or a weight file; its last part names the folder.
        parent: where it is made.

    Returns:
        ``parent/BENCH-MODEL``, with a number from 2 on where that exists; and the folder with the number before, if
        its run has not come to an end.

    Raises:
        SparkVSRError: it cannot be made.
    """
    path = Path(model)
    label = path.stem if path.suffix in IMAGE_MODEL_SUFFIXES else path.name
    name = plain_name(f"{bench}-{label}")
    before: Path | None = None
    for number in count(1):
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            before = folder
        except OSError as exc:
            msg = f"cannot make {folder} for the results ({exc.strerror or exc}); give another folder with -o"
            raise SparkVSRError(msg) from exc
        else:
            return folder, before if before is not None and _is_unfinished(before) else None
    raise AssertionError


def _is_unfinished(folder: Path) -> bool:
    return (folder / CLIPS_FOLDER).is_dir() and not (folder / RECORD_FILE).exists()


def give_back(folder: Path) -> None:
    """Remove a claimed folder in which nothing was written."""
    with contextlib.suppress(OSError):
        if (folder / CLIPS_FOLDER).is_dir():
            (folder / CLIPS_FOLDER).rmdir()
        folder.rmdir()


def write_outputs(record: dict[str, Any], folder: Path) -> list[Path]:
    """Write all four.

    Args:
        record: see ``record``.
        folder: output folder; its ``clips`` subfolder holds the pictures.

    Raises:
        SparkVSRError: the folder cannot be written.
    """
    files = [folder / name for name in (RECORD_FILE, "results.csv", "results.md", "report.html")]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(record, files[0])
        write_whole(files[1], csv_text(record))
        write_whole(files[2], markdown(record))
        write_whole(files[3], html_page(record, folder / CLIPS_FOLDER))
    except OSError as exc:
        msg = f"cannot write the results into {folder} ({exc.strerror or exc}); choose another -o"
        raise SparkVSRError(msg) from exc
    return files
