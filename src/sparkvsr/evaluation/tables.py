"""Results as text: rows for a terminal, Markdown and CSV."""

from __future__ import annotations

import csv
import html
import io
import re
from typing import Any

from sparkvsr.metrics.catalogue import METRICS


def format_value(name: str, value: float | None) -> str:
    """A metric's value with the digits worth printing; a dash for none."""
    if value is None:
        return "-"
    decimals = METRICS[name].decimals if name in METRICS else 4
    return f"{value:.{decimals}f}"


def clip_rows(record: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Header and rows: a row per clip, the mean, the 95% interval, and the ground truth's own values if there are."""
    names = computed(record)
    header = ["clip", "frames", *names]
    rows = [
        [clip["name"], str(clip["frames"]), *(format_value(n, clip["metrics"][n]["mean"]) for n in names)]
        for clip in record["clips"]
    ]
    frames = str(sum(clip["frames"] for clip in record["clips"]))
    metrics = record["metrics"]
    rows.append(["mean over clips", frames, *(format_value(n, metrics[n]["mean"]) for n in names)])
    if len(record["clips"]) > 1:
        for end, label in enumerate(("95% interval, low", "95% interval, high")):
            rows.append([label, "", *(_interval_end(n, metrics[n].get("ci95"), end) for n in names)])
    if any(metrics[n].get("mean_without_keyframes") is not None for n in names):
        rows.append(
            ["mean without keyframes", "", *(_optional(n, metrics[n].get("mean_without_keyframes")) for n in names)]
        )
    if any(metrics[n].get("gt_mean") is not None for n in names):
        rows.append(["ground truth's own", "", *(_optional(n, metrics[n].get("gt_mean")) for n in names)])
    return header, rows


def computed(record: dict[str, Any]) -> list[str]:
    """Names of the metrics that were computed."""
    return [name for name, item in record["metrics"].items() if item["status"] != "skipped"]


def notes(record: dict[str, Any]) -> list[str]:
    """What a reader must know beside the numbers, one line each."""
    lines = []
    if record["run"].get("subset"):
        lines.append(f"not the whole bench, and not to be compared with published rows: {record['run']['subset']}")
    for name, item in record["metrics"].items():
        if item["status"] == "skipped":
            lines.append(f"{name} was skipped: {item['reason']}; {'; '.join(item['needs'])}")
            continue
        if item.get("unscored"):
            lines.append(f"{name}: {item['unscored']} frame(s) have no value ({item.get('reason', '')})")
        if item.get("capped"):
            lines.append(f"{name}: {item['capped']} frame(s) identical to the ground truth, counted as 100 dB")
    both = [name for name in ("ewarp_dis", "flicker") if name in computed(record)]
    if both:
        lines.append(
            f"{' and '.join(both)}: neither low nor high is better, a frozen or blurred clip beats the ground truth; "
            "compare with the ground truth's own value"
        )
    return [*lines, *record["warnings"]]


def markdown(record: dict[str, Any]) -> str:
    """The whole result as Markdown."""
    header, rows = clip_rows(record)
    lines = [f"# {markdown_cell(title(record))}", "", f"Protocol: {markdown_cell(record['protocol'])}", ""]
    lines += [*markdown_table(header, rows), ""]
    lines += [f"- {markdown_cell(note)}" for note in notes(record)]
    for table in record["published"]:
        lines += ["", f"## Published: {table['title']}", "", f"Source: {table['source']}"]
        if table.get("warning"):
            lines.append(f"Warning: {table['warning']}")
        names = list(dict.fromkeys(name for row in table["rows"].values() for name in row))
        body = [[method, *(_published(row.get(name)) for name in names)] for method, row in table["rows"].items()]
        lines += ["", *markdown_table(["method", *names], body)]
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    lines += ["", f"Versions: {versions}. Made {record['run']['date']}."]
    return "\n".join(lines) + "\n"


def markdown_table(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return lines + ["| " + " | ".join(map(markdown_cell, row)) + " |" for row in rows]


def markdown_cell(text: str) -> str:
    """Text in a cell as it is: names of clips must not become tags, links or further lines."""
    plain = html.escape("".join(char if char.isprintable() else " " for char in text), quote=False)
    return re.sub(r"([\\`|\[\]])", r"\\\1", plain)


def text_table(header: list[str], rows: list[list[str]]) -> str:
    """A table for a terminal: first column left, the others right aligned."""
    widths = [max(len(row[column]) for row in [header, *rows]) for column in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(map(len, lines)))
    return "\n".join(lines)


def csv_text(record: dict[str, Any]) -> str:
    """One line per clip and frame, full precision; the clip's mean has frame ``mean``, the whole ``all``/``mean``."""
    names = computed(record)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["clip", "frame", *names])
    for clip in record["clips"]:
        columns = [clip["metrics"][name]["frames"] for name in names]
        for index in range(clip["frames"]):
            writer.writerow([clip["name"], index, *(_cell(c[index] if index < len(c) else None) for c in columns)])
        writer.writerow([clip["name"], "mean", *(_cell(clip["metrics"][name]["mean"]) for name in names)])
    writer.writerow(["all", "mean", *(_cell(record["metrics"][name]["mean"]) for name in names)])
    return out.getvalue()


def title(record: dict[str, Any]) -> str:
    """What was measured, one line."""
    run = record["run"]
    if run["kind"] == "files":
        return f"{run['pred']} against {run['gt']}"
    keyed = "blind" if run["keyframes"] == "none" else f"keyframes {run['keyframes']} by {run['references']}"
    return f"{run['model']['name']} on {run['bench']}, {keyed}"


def _cell(value: float | None) -> str:
    return "" if value is None else repr(value)


def _optional(name: str, value: float | None) -> str:
    return "" if value is None else format_value(name, value)


def _interval_end(name: str, interval: list[float] | None, end: int) -> str:
    return "-" if interval is None else format_value(name, interval[end])


def _published(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"
