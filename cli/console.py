"""What the user sees: plain text on stdout, one line for each error on stderr, a progress bar on a terminal.

The only place with rich. Events come from the library's hook (sparkvsr.inference.progress).
"""

from __future__ import annotations

import json
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def print_error(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write("Error: " + " ".join(message.split()) + "\n")
    sys.stderr.flush()


def human_bytes(count: float) -> str:
    """``1536`` to ``1.5 kB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return ""


def human_seconds(seconds: float) -> str:
    """``95`` to ``1:35``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


class JsonReporter:
    """One JSON object a line on stdout, nothing else there."""

    def __enter__(self) -> JsonReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()

    def __call__(self, event: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


class TextReporter:
    """Lines for people; a progress bar if stderr is a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._label = ""

    def __enter__(self) -> TextReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, event: dict[str, Any]) -> None:
        name = event["event"]
        if name == "input":
            self._line(f"Read     {event['summary']}")
        elif name == "analysis":
            self._bar("looking for cuts", event["done"], event["total"], "")
        elif name == "plan":
            self._stop()
            for line in plan_lines(event):
                self._line(line)
        elif name == "progress":
            left = event["seconds_left"]
            text = f"{event['fps']:.2f} fps, {human_seconds(left)} left" if left is not None else "starting"
            self._bar("restoring", event["done"], event["total"], text)
        elif name == "resume":
            self._line(f"Resume   {event['kept']} of {event['total']} frames are in {event['work']} already")
        elif name == "note":
            self._line(f"Note     {event['text']}")
        elif name == "done":
            self._stop()
            for line in done_lines(event):
                self._line(line)

    def _line(self, text: str) -> None:
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def _bar(self, label: str, done: int, total: int, text: str) -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if self._progress is None or self._label != label:
            self._stop()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._progress.add_task(label, total=total, detail=text)
            self._label = label
            self._progress.start()
        assert self._task is not None
        self._progress.update(self._task, completed=done, total=total, detail=text)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
        self._progress, self._task, self._label = None, None, ""


def plan_lines(event: dict[str, Any]) -> list[str]:
    """The plan, for people."""
    keyframes, shots = event["keyframes"], event["shots"]
    shown = ", ".join(map(str, keyframes[:10])) + (f", ... ({len(keyframes)} in all)" if len(keyframes) > 10 else "")
    tile = f"tiles of {event['tile']} px" if event["tile"] else "whole frames"
    lines = [
        f"Plan     {event['width']}x{event['height']} (x{event['scale']:g}), {event['frames']} frames in "
        f"{len(shots)} shot{'s' if len(shots) != 1 else ''}, model {event['model']} on {event['device']} "
        f"({event['dtype']})",
        f"         keyframes: {event['keyframe_method']}" + (f": {shown}" if keyframes else ""),
    ]
    if keyframes:
        lines.append(f"         references: {event['references']}, guidance {event['guidance_scale']:g}")
    lines.append(
        f"         chunks of {event['chunk_frames']} frames, {tile}, "
        f"about {human_bytes(event['memory_bytes'])} of memory for the model"
    )
    return lines + [f"Note     {note}" for note in event["notes"]]


def done_lines(event: dict[str, Any]) -> list[str]:
    """The result, for people."""
    size = f", {human_bytes(event['bytes'])}" if event["bytes"] else ""
    lines = [
        f"Wrote    {event['output']} ({event['width']}x{event['height']}, {event['frames']} frames{size}) "
        f"in {human_seconds(event['seconds'])}, {event['fps']:.2f} frames per second"
    ]
    if event["work"]:
        lines.append(f"Kept     {event['work']} for the next edit (sparkvsr clean {event['work']} removes it)")
    if event["compare"]:
        lines.append(f"Compare  {event['compare']}")
    return lines
