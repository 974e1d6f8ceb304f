"""Writes a run's files: results.json, results.csv, results.md and report.html."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparkvsr.errors import SparkVSRError
from sparkvsr.evaluation.html_page import html_page
from sparkvsr.evaluation.record import write_json
from sparkvsr.evaluation.tables import csv_text, markdown

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
        files[1].write_text(csv_text(record), encoding="utf-8")
        files[2].write_text(markdown(record), encoding="utf-8")
        files[3].write_text(html_page(record, folder / CLIPS_FOLDER), encoding="utf-8")
    except OSError as exc:
        msg = f"cannot write the results into {folder} ({exc.strerror or exc}); choose another -o"
        raise SparkVSRError(msg) from exc
    return files
