"""The result as one self-contained HTML page: tables, plots over frames, wipe sliders; works without a network."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

from sparkvsr.evaluation import side_by_side
from sparkvsr.evaluation.line_plot import line_plot
from sparkvsr.evaluation.pictures import data_uri
from sparkvsr.evaluation.tables import clip_rows, computed, format_value, notes, title
from sparkvsr.metrics.catalogue import METRICS

MAX_PICTURES = 6
MAX_PLOTTED_CLIPS = 12

_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:2rem auto;max-width:1180px;padding:0 1rem;color:#1c2430;background:#fff}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}small,.quiet{color:#5c6675}
table{border-collapse:collapse;font-variant-numeric:tabular-nums;display:block;overflow-x:auto}
td,th{padding:.25rem .7rem;text-align:right;border-bottom:1px solid #dde2e9;white-space:nowrap}
td:first-child,th:first-child{text-align:left}tr.sum td{font-weight:600;background:#f3f6fa}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:1rem}svg{width:100%;height:auto}
.pictures{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:1.4rem}
.wipe{position:relative;user-select:none;line-height:0;overflow:hidden}
.wipe img{width:100%;display:block}
.wipe .top{position:absolute;inset:0;clip-path:inset(0 calc(100% - var(--x,50%)) 0 0)}
.wipe .bar{position:absolute;top:0;bottom:0;left:var(--x,50%);width:2px;background:#fff;box-shadow:0 0 3px #000}
.wipe b{position:absolute;bottom:6px;font:12px/1 system-ui;color:#fff;background:#0009;padding:4px 6px}
.wipe input{position:absolute;inset:0;width:100%;height:100%;opacity:0;cursor:ew-resize;margin:0}
figure{margin:0}figcaption{margin-top:.4rem}.tabs button{font:inherit;margin-right:.4rem}.warn{color:#8a4b00}
@media (prefers-color-scheme:dark){body{background:#14181e;color:#dde3ea}td,th{border-color:#303844}
tr.sum td{background:#1e252e}small,.quiet{color:#98a3b1}.warn{color:#e0a04d}}
"""

_SCRIPT = """
for (const box of document.querySelectorAll('.wipe')) {
  box.querySelector('input').addEventListener('input', e => box.style.setProperty('--x', e.target.value + '%'));
}
for (const button of document.querySelectorAll('.tabs button')) {
  button.addEventListener('click', () => {
    const box = button.closest('figure').querySelector('.wipe');
    box.querySelector('.top img').src = box.dataset[button.dataset.left];
    box.querySelector('.base').src = box.dataset[button.dataset.right];
    box.querySelector('.l').textContent = button.dataset.leftName;
    box.querySelector('.r').textContent = button.dataset.rightName;
  });
}
"""

_NAMES = {"lr": "input (bicubic)", "sr": "restored", "gt": "ground truth"}


def html_page(record: dict[str, Any], pictures: Path) -> str:
    """Render a record.

    Args:
        record: see ``record``.
        pictures: folder that the clips' picture files are relative to.
    """
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>{escape(title(record))}</title><style>{_STYLE}</style>",
        f"<h1>{escape(title(record))}</h1><p class=quiet>{escape(record['protocol'])}</p>",
        _results(record),
        _notes(record),
        "<h2>Worst and best frames</h2><p class=quiet>Drag across a picture to wipe. Each shows the window with the "
        "largest error.</p>",
        _pictures(record, pictures),
        "<h2>Over frames</h2>",
        _plots(record),
        _published(record),
        _footer(record),
        f"<script>{_SCRIPT}</script>",
    ]
    return "\n".join(parts) + "\n"


def comparison_page(comparison: dict[str, Any]) -> str:
    """Render a comparison of runs, see ``side_by_side.compare_runs``."""
    runs = "".join(
        f"<li>{chr(ord('A') + index)}: {escape(run['title'])} <small>{escape(run['path'])}</small></li>"
        for index, run in enumerate(comparison["runs"])
    )
    header, rows = side_by_side.comparison_rows(comparison)
    lines = side_by_side.comparison_notes(comparison)
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        "<meta name=viewport content='width=device-width,initial-scale=1'>",
        f"<title>Comparison</title><style>{_STYLE}</style><h1>Comparison</h1><ul>{runs}</ul>",
        _table(header, [("", row) for row in rows]),
        "<ul class=warn>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else "",
    ]
    for table in comparison["published"]:
        header, rows = side_by_side.published_rows(comparison, table)
        own = len(rows) - len(table["rows"])
        marked = [("sum" if index >= len(rows) - own else "", row) for index, row in enumerate(rows)]
        parts.append(_published_heading(table) + _table(header, marked))
    return "\n".join(parts) + "\n"


def _results(record: dict[str, Any]) -> str:
    header, rows = clip_rows(record)
    num_clips = len(record["clips"])
    marked = [("" if i < num_clips else "sum", row) for i, row in enumerate(rows)]
    return _table(header, marked)


def _table(header: list[str], rows: list[tuple[str, list[str]]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join(
        f"<tr class={kind or 'row'}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
        for kind, row in rows
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _notes(record: dict[str, Any]) -> str:
    lines = notes(record)
    return "<ul class=warn>" + "".join(f"<li>{escape(line)}</li>" for line in lines) + "</ul>" if lines else ""


def _pictures(record: dict[str, Any], folder: Path) -> str:
    """The worst frames of the worst clips and the best frame of all."""
    primary = record["run"].get("primary", "psnr")
    spec = METRICS.get(primary)
    sign = -1 if spec is not None and spec.higher_is_better is False else 1
    found = [(clip["name"], picture) for clip in record["clips"] for picture in clip["pictures"]]
    worst = sorted((p for p in found if p[1]["label"] == "worst"), key=lambda p: sign * p[1]["value"])
    best = sorted((p for p in found if p[1]["label"] == "best"), key=lambda p: -sign * p[1]["value"])
    chosen = [*worst[: MAX_PICTURES - 1], *best[:1]]
    figures = [_figure(name, picture, folder, primary) for name, picture in chosen]
    return f"<div class=pictures>{''.join(filter(None, figures))}</div>"


def _figure(clip: str, picture: dict[str, Any], folder: Path, primary: str) -> str:
    images = {kind: data_uri(folder / file) for kind, file in picture["files"].items() if (folder / file).is_file()}
    if "sr" not in images:
        return ""
    pairs = [(a, b) for a, b in (("sr", "gt"), ("lr", "sr"), ("lr", "gt")) if a in images and b in images]
    caption = (
        f"{clip}, frame {picture['frame']}: {picture['label']}, {primary} {format_value(primary, picture['value'])}"
    )
    if not pairs:
        return f"<figure><img src='{images['sr']}' alt=''><figcaption>{escape(caption)}</figcaption></figure>"
    left, right = pairs[0]
    data = " ".join(f"data-{kind}='{uri}'" for kind, uri in images.items())
    buttons = "".join(
        f"<button data-left={a} data-right={b} data-left-name='{_NAMES[a]}' data-right-name='{_NAMES[b]}'>"
        f"{_NAMES[a]} | {_NAMES[b]}</button>"
        for a, b in pairs
    )
    return (
        f"<figure><div class=wipe {data}><img class=base src='{images[right]}' alt='{_NAMES[right]}'>"
        f"<div class=top><img src='{images[left]}' alt='{_NAMES[left]}'></div><div class=bar></div>"
        f"<b class=l style='left:6px'>{_NAMES[left]}</b><b class=r style='right:6px'>{_NAMES[right]}</b>"
        "<input type=range min=0 max=100 value=50 step=0.5 aria-label=wipe></div>"
        f"<figcaption>{escape(caption)}<div class=tabs>{buttons}</div></figcaption></figure>"
    )


def _plots(record: dict[str, Any]) -> str:
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
    note = f"<p class=quiet>The first {len(clips)} clips; {more} more are in results.csv.</p>" if more > 0 else ""
    return f"<div class=plots>{''.join(figures)}</div>{note}"


def _published(record: dict[str, Any]) -> str:
    parts = []
    for table in record["published"]:
        names = list(dict.fromkeys(name for row in table["rows"].values() for name in row))
        rows = [
            ("", [method, *("-" if row.get(n) is None else f"{row[n]:g}" for n in names)])
            for method, row in table["rows"].items()
        ]
        parts.append(_published_heading(table) + _table(["method", *names], rows))
    return "".join(parts)


def _published_heading(table: dict[str, Any]) -> str:
    warning = f"<p class=warn>{escape(table['warning'])}</p>" if table.get("warning") else ""
    return f"<h2>Published: {escape(table['title'])}</h2><p class=quiet>{escape(table['source'])}</p>{warning}"


def _footer(record: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return f"<p><small>{escape(versions)}. Made {escape(record['run']['date'])}.</small></p>"
