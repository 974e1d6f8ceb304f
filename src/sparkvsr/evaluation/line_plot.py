"""A small line plot as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 520, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 10, 28, 32
_COLOURS = ("#2563eb", "#d9480f", "#2b8a3e", "#9c36b5", "#0c8599", "#c2255c", "#5f3dc4", "#e67700", "#495057",
            "#1098ad", "#66a80f", "#862e9c")  # fmt: skip


def line_plot(
    heading: str,
    series: Mapping[str, Sequence[float | None]],
    marks: Sequence[int] = (),
    dashed: Mapping[str, Sequence[float | None]] | None = None,
) -> str:
    """Values over frame numbers, one line per series; gaps where a value is None.

    Args:
        heading: above the plot.
        series: by name; at least one value that is not None.
        marks: frame numbers to mark with a vertical line (keyframes).
        dashed: a second, dashed line for some of the series, in their colour (the ground truth's own values).
    """
    dashed = dashed or {}
    lines = [*series.values(), *dashed.values()]
    present = [value for values in lines for value in values if value is not None]
    ticks = nice_ticks(min(present), max(present))
    low, high = min(ticks[0], min(present)), max(ticks[-1], max(present))
    last = max(1, max(len(values) for values in series.values()) - 1)

    def x(index: float) -> float:
        return _LEFT + index / last * (WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)

    parts = [
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role=img aria-label='{escape(heading, quote=True)}' "
        "font-family='system-ui,sans-serif' font-size='11' fill='currentColor'>",
        f"<text x='{_LEFT}' y='15' font-size='13' font-weight='600'>{escape(heading)}</text>",
    ]
    parts += [
        f"<line x1='{_LEFT}' x2='{WIDTH - _RIGHT}' y1='{y(tick):.1f}' y2='{y(tick):.1f}' "
        f"stroke='currentColor' stroke-opacity='.15'/>"
        f"<text x='{_LEFT - 5}' y='{y(tick) + 4:.1f}' text-anchor='end'>{tick:g}</text>"
        for tick in ticks
    ]
    parts += [
        f"<text x='{x(tick):.1f}' y='{HEIGHT - 18}' text-anchor='middle'>{tick}</text>"
        for tick in sorted({round(t) for t in nice_ticks(0, last) if 0 <= t <= last})
    ]
    parts += [
        f"<line x1='{x(mark):.1f}' x2='{x(mark):.1f}' y1='{_TOP}' y2='{HEIGHT - _BOTTOM}' stroke='currentColor' "
        "stroke-opacity='.35' stroke-dasharray='3 3'/>"
        for mark in marks
    ]
    for number, name in enumerate(series):
        colour = _COLOURS[number % len(_COLOURS)]
        for values, style in (
            (dashed.get(name, ()), " stroke-dasharray='4 3' stroke-opacity='.7'"),
            (series[name], ""),
        ):
            for run in _runs(values):
                points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in run)
                shape = (
                    f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.6'{style}>"
                    if len(run) > 1
                    else f"<circle cx='{points.split(',')[0]}' cy='{points.split(',')[1]}' r='2' fill='{colour}'>"
                )
                parts.append(f"{shape}<title>{escape(name)}</title>{'</polyline>' if len(run) > 1 else '</circle>'}")
    legend = "".join(
        f"<tspan fill='{_COLOURS[i % len(_COLOURS)]}'> ● </tspan>{escape(name)}" for i, name in enumerate(series)
    )
    parts.append(f"<text x='{_LEFT}' y='{HEIGHT - 4}' font-size='10'>{legend}</text></svg>")
    return "".join(parts)


def nice_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that cover ``low`` to ``high``; never fewer than two."""
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - 0.5 * max(abs(low), 1e-3), high + 0.5 * max(abs(high), 1e-3)
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Neighbouring values; values left out by ``--every`` do not break a line, long gaps do."""
    present = [(index, value) for index, value in enumerate(values) if value is not None]
    if not present:
        return []
    steps = [b[0] - a[0] for a, b in pairwise(present)]
    usual = min(steps, default=1)
    runs = [[present[0]]]
    for step, point in zip(steps, present[1:], strict=False):
        if step > usual:
            runs.append([])
        runs[-1].append(point)
    return runs
