"""The result as one self-contained HTML page: tables, plots over frames, wipe sliders; works without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sparkvsr.evaluation import side_by_side
from sparkvsr.evaluation.line_plot import line_plot
from sparkvsr.evaluation.pictures import data_uri
from sparkvsr.evaluation.tables import clip_rows, computed, format_value, notes, title
from sparkvsr.metrics.catalogue import METRICS
from sparkvsr.pages import render

MAX_PICTURES = 6
MAX_PLOTTED_CLIPS = 12

_NAMES = {"lr": "input (bicubic)", "sr": "restored", "gt": "ground truth"}


def html_page(record: dict[str, Any], pictures: Path) -> str:
    """Render a record.

    Args:
        record: see ``record``.
        pictures: folder that the clips' picture files are relative to.
    """
    header, rows = clip_rows(record)
    num_clips = len(record["clips"])
    plots, more = _plots(record)
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return render(
        "report.html",
        title=title(record),
        protocol=record["protocol"],
        results=(header, [("" if i < num_clips else "sum", row) for i, row in enumerate(rows)]),
        notes=notes(record),
        figures=_pictures(record, pictures),
        names=_NAMES,
        plots=plots,
        more=more,
        tables=[_published(table) for table in record["published"]],
        footer=f"{versions}. Made {record['run']['date']}.",
    )


def comparison_page(comparison: dict[str, Any]) -> str:
    """Render a comparison of runs, see ``side_by_side.compare_runs``."""
    header, rows = side_by_side.comparison_rows(comparison)
    tables = []
    for table in comparison["published"]:
        columns, lines = side_by_side.published_rows(comparison, table)
        theirs = len(table["rows"])
        marked = [("sum" if index >= theirs else "", row) for index, row in enumerate(lines)]
        tables.append({**_heading(table), "header": columns, "rows": marked})
    return render(
        "comparison.html",
        title="Comparison",
        runs=[{**run, "letter": chr(ord("A") + index)} for index, run in enumerate(comparison["runs"])],
        rows=(header, [("", row) for row in rows]),
        notes=side_by_side.comparison_notes(comparison),
        tables=tables,
    )


def _pictures(record: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The worst frames of the worst clips and the best frame of all."""
    primary = record["run"].get("primary", "psnr")
    spec = METRICS.get(primary)
    sign = -1 if spec is not None and spec.higher_is_better is False else 1
    found = [(clip["name"], picture) for clip in record["clips"] for picture in clip["pictures"]]
    worst = sorted((p for p in found if p[1]["label"] == "worst"), key=lambda p: sign * p[1]["value"])
    best = sorted((p for p in found if p[1]["label"] == "best"), key=lambda p: -sign * p[1]["value"])
    chosen = [*worst[: MAX_PICTURES - 1], *best[:1]]
    figures = [_figure(name, picture, folder, primary) for name, picture in chosen]
    return [figure for figure in figures if figure is not None]


def _figure(clip: str, picture: dict[str, Any], folder: Path, primary: str) -> dict[str, Any] | None:
    # Files of this folder only, whatever a record that was kept says: the page holds what they hold.
    files = {kind: folder / Path(file).name for kind, file in picture["files"].items()}
    images = {kind: data_uri(path) for kind, path in files.items() if path.is_file() and not path.is_symlink()}
    if "sr" not in images:
        return None
    value = format_value(primary, picture["value"])
    return {
        "images": images,
        "pairs": [(a, b) for a, b in (("sr", "gt"), ("lr", "sr"), ("lr", "gt")) if a in images and b in images],
        "caption": f"{clip}, frame {picture['frame']}: {picture['label']}, {primary} {value}",
    }


def _plots(record: dict[str, Any]) -> tuple[list[str], str]:
    """SVG images, and what is said of the clips that are left out."""
    clips = record["clips"][:MAX_PLOTTED_CLIPS]
    figures = []
    for name in computed(record):
        series = {clip["name"]: clip["metrics"][name]["frames"] for clip in clips}
        series = {clip: values for clip, values in series.items() if sum(v is not None for v in values) > 1}
        if not series:
            continue
        marks = sorted({index for clip in clips for index in clip.get("keyframes") or ()}) if len(clips) <= 4 else []
        unit = record["metrics"][name].get("unit") or ""
        own = {clip["name"]: clip["metrics"][name].get("gt_frames") or () for clip in clips}
        own = {clip: values for clip, values in own.items() if len(clips) <= 4 and any(v is not None for v in values)}
        heading = f"{name}{f' ({unit})' if unit else ''}{'; dashed: ground truth' if own else ''}"
        figures.append(line_plot(heading, series, marks, own))
    more = len(record["clips"]) - len(clips)
    return figures, f"The first {len(clips)} clips; {more} more are in results.csv." if more > 0 else ""


def _published(table: dict[str, Any]) -> dict[str, Any]:
    names = list(dict.fromkeys(name for row in table["rows"].values() for name in row))
    rows = [
        ("", [method, *("-" if row.get(n) is None else f"{row[n]:g}" for n in names)])
        for method, row in table["rows"].items()
    ]
    return {**_heading(table), "header": ["method", *names], "rows": rows}


def _heading(table: dict[str, Any]) -> dict[str, Any]:
    return {"title": table["title"], "source": table["source"], "warning": table.get("warning") or ""}
