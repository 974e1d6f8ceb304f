"""Two or more runs beside each other, and beside the published rows of their bench."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.record import read_record
from sparkvsr.evaluation.statistics import compare_paired
from sparkvsr.evaluation.tables import computed, format_value, markdown_table, title


def compare_runs(paths: Sequence[Path]) -> dict[str, Any]:
    """Put runs side by side; the first is the one that the others are compared with.

    Args:
        paths: results.json files or their folders.

    Returns:
        ``runs`` (title and path), ``metrics``: per metric the value of each run, its protocol, and for each further
        run the paired comparison with the first; ``published``: rows of the first run's bench; ``warnings``.

    Raises:
        ConfigError: a file is not a result.
    """
    records = [read_record(path) for path in paths]
    if not records:
        msg = "eval report needs at least one results.json"
        raise ConfigError(msg)
    first = records[0]
    names = list(dict.fromkeys(name for record in records for name in computed(record)))
    warnings = _warnings(records)
    metrics: dict[str, Any] = {}
    for name in names:
        summaries = [record["metrics"].get(name, {}) for record in records]
        protocols = {item["protocol"] for item in summaries if item.get("mean") is not None}
        if len(protocols) > 1:
            warnings.append(f"{name} was measured under different protocols: {' / '.join(sorted(protocols))}")
        metrics[name] = {
            "protocol": summaries[0].get("protocol") or next(iter(protocols), ""),
            "values": [item.get("mean") for item in summaries],
            "higher_is_better": next((i.get("higher_is_better") for i in summaries if i.get("mean") is not None), None),
            "gt_mean": next((item["gt_mean"] for item in summaries if item.get("gt_mean") is not None), None),
            "comparisons": [_paired(first, record, name) for record in records[1:]],
        }
    return {
        "runs": [
            {"title": title(record), "path": str(path), "subset": record["run"].get("subset", "")}
            for record, path in zip(records, paths, strict=True)
        ],
        "metrics": metrics,
        "published": first["published"],
        "warnings": warnings,
    }


def comparison_rows(comparison: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the side-by-side table: per metric the runs' values, difference, interval and p."""
    letters = [chr(ord("A") + index) for index in range(len(comparison["runs"]))]
    header = ["metric", *letters]
    for letter in letters[1:]:
        header += [f"{letter} - A", "95% interval", "p"]
    rows = []
    for name, item in comparison["metrics"].items():
        remarks = {True: ["higher is better"], False: ["lower is better"], None: []}[item["higher_is_better"]]
        if item["gt_mean"] is not None:
            remarks = [*remarks, f"ground truth {format_value(name, item['gt_mean'])}"]
        row = [
            name + (f" ({', '.join(remarks)})" if remarks else ""),
            *(format_value(name, value) for value in item["values"]),
        ]
        for paired in item["comparisons"]:
            if paired is None:
                row += ["-", "-", "-"]
                continue
            interval = paired["interval"]
            row.append(_signed(name, paired["difference"]))
            row.append("-" if interval is None else f"{_signed(name, interval[0])} to {_signed(name, interval[1])}")
            row.append("-" if paired["p_value"] is None else f"{paired['p_value']:.3g}")
        rows.append(row)
    return header, rows


def published_rows(comparison: dict[str, Any], table: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a published table with the runs below it, in the columns whose definition agrees."""
    columns = list(dict.fromkeys(name for row in table["rows"].values() for name in row))
    same = table.get("same_as", {})
    rows = [
        [method, *("-" if row.get(column) is None else f"{row[column]:g}" for column in columns)]
        for method, row in table["rows"].items()
    ]
    for index, run in enumerate(comparison["runs"]):
        cells = []
        for column in columns:
            values = comparison["metrics"].get(same.get(column, ""), {}).get("values")
            cells.append("-" if values is None or values[index] is None else format_value(same[column], values[index]))
        if any(cell != "-" for cell in cells):
            part = " (part of the bench)" if run["subset"] else ""
            rows.append([f"this: {run['title']}{part}", *cells])
    return ["method", *columns], rows


def comparison_markdown(comparison: dict[str, Any]) -> str:
    """The comparison as Markdown."""
    lines = ["# Comparison", ""]
    lines += [f"- {chr(ord('A') + i)}: {run['title']} (`{run['path']}`)" for i, run in enumerate(comparison["runs"])]
    lines += ["", *markdown_table(*comparison_rows(comparison)), ""]
    lines += [f"- {line}" for line in comparison_notes(comparison)]
    for table in comparison["published"]:
        lines += ["", f"## Published: {table['title']}", "", f"Source: {table['source']}"]
        lines += [f"Warning: {table['warning']}"] if table.get("warning") else []
        lines += ["", *markdown_table(*published_rows(comparison, table))]
    return "\n".join(lines) + "\n"


def comparison_notes(comparison: dict[str, Any]) -> list[str]:
    """How to read the table, and its warnings."""
    found = [paired for item in comparison["metrics"].values() for paired in item["comparisons"] if paired is not None]
    lines = []
    if found:
        clips = min(paired["clips"] for paired in found)
        lines.append(
            f"p: two-sided sign-flip permutation test over {clips} clips; the smallest p that can come out is "
            f"{max(paired['smallest_p'] for paired in found):.3g}"
            + (" (too few clips to show anything at 0.05)" if clips < 6 else "")
        )
    return [*lines, *comparison["warnings"]]


def _paired(first: dict[str, Any], other: dict[str, Any], name: str) -> dict[str, Any] | None:
    values = [
        {clip["name"]: clip["metrics"][name]["mean"] for clip in record["clips"] if name in clip["metrics"]}
        for record in (first, other)
    ]
    common = [clip for clip, value in values[0].items() if value is not None and values[1].get(clip) is not None]
    result = compare_paired([values[0][clip] for clip in common], [values[1][clip] for clip in common])
    if result is None:
        return None
    return {
        "difference": result.difference,
        "interval": list(result.interval) if result.interval else None,
        "p_value": result.p_value,
        "smallest_p": result.smallest_p,
        "clips": result.clips,
    }


def _warnings(records: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    sets = [{(clip["name"], clip["frames"]) for clip in record["clips"]} for record in records]
    if any(found != sets[0] for found in sets[1:]):
        lines.append("the runs do not hold the same clips and frames; differences are over the common clips only")
    for index, record in enumerate(records):
        if record["run"].get("subset"):
            lines.append(f"{chr(ord('A') + index)} is not the whole bench: {record['run']['subset']}")
    benches = {record["run"].get("bench") for record in records}
    if len(benches) > 1:
        lines.append(f"the runs are of different benches: {', '.join(sorted(map(str, benches)))}")
    return lines


def _signed(name: str, value: float) -> str:
    text = format_value(name, value)
    return text if text.startswith("-") else f"+{text}"
