"""Writes a run's files: results.json, results.csv, results.md and report.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparkvsr.errors import SparkVSRError
from sparkvsr.evaluation.html_page import html_page
from sparkvsr.evaluation.record import write_json
from sparkvsr.evaluation.tables import csv_text, markdown
from sparkvsr.evaluation.whole_files import write_whole

CLIPS_FOLDER = "clips"


def write_outputs(record: dict[str, Any], folder: Path) -> list[Path]:
    """Write all four.

    Args:
        record: see ``record``.
        folder: output folder; its ``clips`` subfolder holds the pictures.

    Raises:
        SparkVSRError: the folder cannot be written.
    """
    files = [folder / name for name in ("results.json", "results.csv", "results.md", "report.html")]
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
