"""What the user sees: plain text on stdout, one line for each error on stderr, a progress bar on a terminal.

The only place with rich. Events come from the library's hook (sparkvsr.hooks).
"""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from sparkvsr.printable import printable
from sparkvsr.units import human_bytes, human_seconds

from .shown import printable_event

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


_log = logging.getLogger("sparkvsr.cli")

_live: list[Progress] = []
"""The progress bar on the screen, if there is one: lines on stderr have to go through it."""

command_line: list[str] = []
"""The words after `sparkvsr`."""

private_paths: set[str] = set()
"""Inputs and outputs of this run, which a crash report must not show."""

SHOWN = {"shown": True}
"""`extra` of log records whose text the user sees anyway."""


def print_error(message: str) -> None:
    """One line on stderr."""
    line = printable(" ".join(message.split(" ")).strip())
    write_stderr("Error: " + line)
    _log.error("%s", line, extra=SHOWN)


def write_stderr(line: str) -> None:
    """A line on stderr, above the progress bar if there is one."""
    if _live:
        _live[-1].console.print(line, highlight=False, markup=False, soft_wrap=True)
    else:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()


class Reporter(Protocol):
    """What shows events; a context manager."""

    def __enter__(self) -> Reporter: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: dict[str, Any]) -> None:
        """Show one event."""


def _note(event: dict[str, Any]) -> None:
    """Into the log as well; what names a file is kept out of crash reports."""
    for name in ("path", "input", "output", "work", "folder", "compare"):
        if isinstance(event.get(name), str):
            private_paths.add(event[name])
    if event["event"] not in ("progress", "analysis"):
        _log.debug("event %s", json.dumps(event, ensure_ascii=False), extra=SHOWN)


class JsonReporter:
    """One JSON object a line on stdout, nothing else there."""

    def __enter__(self) -> JsonReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.stdout.flush()

    def __call__(self, event: dict[str, Any]) -> None:
        _note(event)
        sys.stdout.write(json.dumps(event) + "\n")
        sys.stdout.flush()


class TextReporter:
    """Lines for people; a progress bar for each input being worked on if stderr is a terminal."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._several = False
        self._noted: set[tuple[str, str]] = set()

    def __enter__(self) -> TextReporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def __call__(self, event: dict[str, Any]) -> None:
        _note(event)
        event = printable_event(event)
        name = event["event"]
        if name == "input":
            self._line(f"Read     {event['summary']}")
        elif name == "analysis":
            self._bar("looking for cuts", event["done"], event["total"], "", event.get("input", ""))
        elif name == "plan":
            self._end_bar(event.get("input", ""))
            for line in plan_lines(event):
                self._line(line)
            self._notes(event)
        elif name == "progress":
            left = event["seconds_left"]
            text = f"{event['fps']:.2f} fps, {human_seconds(left)} left" if left is not None else "starting"
            if event["total"] is None:
                text = f"{event['fps']:.2f} fps"
            self._bar("restoring", event["done"], event["total"], text, event.get("input", ""))
        elif name == "stream":
            for line in stream_lines(event):
                self._line(line)
            self._notes(event)
        elif name == "resume":
            self._line(f"Resume   {event['kept']} of {event['total']} frames are in {event['work']} already")
            if event["damaged"]:
                self._line(f"Note     {event['damaged']} segments there are damaged and are rendered again")
        elif name == "workers":
            self._several = event["count"] > 1
            self._line(f"Workers  {event['where']}")
        elif name == "note":
            self._notes({**event, "notes": [event["text"]]})
        elif name == "skipped":
            self._line(f"Skip     {event['input']}: {event['reason']}")
        elif name == "done":
            self._end_bar(event.get("input", ""))
            for line in done_lines(event):
                self._line(line)
            self._notes(event)
        elif name == "error":
            self._end_bar(event.get("input", ""))
        elif name == "summary":
            self._stop()
            for line in summary_lines(event):
                self._line(line)

    def _notes(self, event: dict[str, Any]) -> None:
        """What the user should know, once: the end says only what the plan could not."""
        for note in event["notes"]:
            key = (event.get("input", ""), note)
            if key not in self._noted:
                self._noted.add(key)
                self._line(f"Note     {note}")

    def _line(self, text: str) -> None:
        text = printable(text)
        if self._progress is not None:
            self._progress.console.print(text, highlight=False, markup=False, soft_wrap=True)
        else:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def _bar(self, label: str, done: int, total: int | None, text: str, about: str = "") -> None:
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        if self._progress is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[detail]}"),
            )
            self._progress = Progress(*columns, console=Console(stderr=True), transient=True)
            self._progress.start()
            _live.append(self._progress)
        shown = f"{label} {Path(about).name}" if self._several and about else label
        if about not in self._tasks:
            self._tasks[about] = self._progress.add_task(shown, total=total, detail=text)
        self._progress.update(self._tasks[about], description=shown, completed=done, total=total, detail=text)

    def _end_bar(self, about: str) -> None:
        """Remove the bar of one input; the last one takes the whole display with it."""
        task = self._tasks.pop(about, None)
        if task is not None and self._progress is not None:
            self._progress.remove_task(task)
        if not self._tasks:
            self._stop()

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            _live.remove(self._progress)
        self._progress, self._tasks = None, {}


class DownloadBar:
    """A bar of bytes on stderr if that is a terminal; otherwise nothing."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._progress: Progress | None = None

    def __enter__(self) -> DownloadBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            _live.remove(self._progress)
            self._progress = None

    def update(self, done: int, total: int) -> None:
        """Show bytes so far and in all (0: nobody knows)."""
        if not sys.stderr.isatty():
            return
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        if self._progress is None:
            columns = (TextColumn("{task.description}", markup=False), BarColumn(), DownloadColumn())
            self._progress = Progress(*columns, TransferSpeedColumn(), console=Console(stderr=True), transient=True)
            self._progress.add_task(self._label, total=None)
            self._progress.start()
            _live.append(self._progress)
        self._progress.update(self._progress.task_ids[0], completed=done, total=total or None)


def plan_lines(event: dict[str, Any]) -> list[str]:
    """The plan, for people."""
    keyframes, shots = event["keyframes"], event["shots"]
    shown = ", ".join(map(str, keyframes[:10])) + (f", ... ({len(keyframes)} in all)" if len(keyframes) > 10 else "")
    tile = f"tiles of {event['tile']} px" if event["tile"] else "whole frames"
    look = f" ({event['look']})" if event["look"] else ""
    lines = [
        f"Plan     {event['width']}x{event['height']} (x{event['scale']:g}), {event['frames']} frames in "
        f"{len(shots)} shot{'s' if len(shots) != 1 else ''}, model {event['model']}{look} on {event['device']} "
        f"({event['dtype']})",
        f"         keyframes: {event['keyframe_method']}" + (f": {shown}" if keyframes else ""),
    ]
    if keyframes:
        lines.append(f"         references: {event['references']}, guidance {event['guidance_scale']:g}")
    lines.append(
        f"         chunks of {event['chunk_frames']} frames, {tile}, "
        f"about {human_bytes(event['memory_bytes'])} of memory for the model"
    )
    disk = event["disk"]
    if disk is None:
        return lines
    free = disk["output_free_bytes"]
    lines.append(
        f"         about {human_bytes(disk['output_bytes'])} of disk for the result and "
        f"{human_bytes(disk['work_bytes'])} more until it is complete, {human_bytes(free)} free"
    )
    if event["estimated_seconds"] is not None:
        lines.append(f"         takes about {human_seconds(event['estimated_seconds'])} on this machine")
    return lines


def stream_lines(event: dict[str, Any]) -> list[str]:
    """The plan of frames that pass through a pipe, for people."""
    frames = "frames until it ends" if event["frames"] is None else f"{event['frames']} frames"
    tile = f"tiles of {event['tile']} px" if event["tile"] else "whole frames"
    look = f" ({event['look']})" if event["look"] else ""
    lines = [
        f"Read     {event['input']}: {event['kind']}, {event['pixel_format']}, {event['input_width']}x"
        f"{event['input_height']}, {event['fps']:.6g} fps, {frames}",
        f"Plan     {event['width']}x{event['height']} (x{event['scale']:g}) into {event['output']}, model "
        f"{event['model']}{look} on {event['device']} ({event['dtype']})",
        f"         keyframes: {event['keyframe_method']}",
    ]
    if event["references"] is not None:
        lines.append(f"         references: {event['references']}, guidance {event['guidance_scale']:g}")
    lines.append(
        f"         chunks of {event['chunk_frames']} frames, {tile}, "
        f"about {human_bytes(event['memory_bytes'])} of memory for the model"
    )
    return lines


def summary_lines(event: dict[str, Any]) -> list[str]:
    """A table of all inputs, for people."""
    rows = [("input", "result", "frames", "time", "")]
    for row in event["rows"]:
        frames = "" if row["frames"] is None else str(row["frames"])
        seconds = "" if row["status"] == "skipped" else human_seconds(row["seconds"])
        rows.append((row["input"], row["status"], frames, seconds, row["output"] or row["reason"] or ""))
    widths = [max(len(row[k]) for row in rows) for k in range(4)]
    lines = [""]
    for row in rows:
        cells = [row[0].ljust(widths[0]), row[1].ljust(widths[1]), row[2].rjust(widths[2]), row[3].rjust(widths[3])]
        lines.append("  ".join([*cells, " ".join(row[4].split())]).rstrip())
    counts = {status: sum(row["status"] == status for row in event["rows"]) for status in ("done", "skipped", "failed")}
    total = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
    return [*lines, f"{total} in {human_seconds(event['seconds'])}"]


_TOO_SHORT_TO_JUDGE = 3.0
"""Seconds of a run below which nobody asks how good its estimate was."""


def done_lines(event: dict[str, Any]) -> list[str]:
    """The result, for people."""
    size = f", {human_bytes(event['bytes'])}" if event["bytes"] else ""
    lines = [
        f"Wrote    {event['output']} ({event['width']}x{event['height']}, {event['frames']} frames{size}) "
        f"in {human_seconds(event['seconds'])}, {event['fps']:.2f} frames per second"
    ]
    estimated = event["estimated_seconds"]
    if estimated is not None and event["seconds"] > _TOO_SHORT_TO_JUDGE:
        off = round(100 * (estimated / event["seconds"] - 1))
        kind = "just that" if off == 0 else f"{abs(off)}% too {'long' if off > 0 else 'short'}"
        others = event["other_programs"]
        why = "" if others is None else f"; other programs took {others:.0%} of the machine meanwhile"
        lines.append(f"Time     estimated {human_seconds(estimated)}: {kind}{why}")
    if event["work"]:
        lines.append(f"Kept     {event['work']} for the next edit (sparkvsr clean {event['work']} removes it)")
    if event["compare"]:
        lines.append(f"Compare  {event['compare']}")
    return lines
