"""`sparkvsr compare`: two clips in one video, or in one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.units import human_bytes

from . import options as shared
from .console import JsonReporter, TextReporter


def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="Video, image, folder of images or pattern.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="The other one.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Video file, or .html for one self-contained page with a slider.")
    ] = Path("compare.mp4"),
    overwrite: shared.Overwrite = False,
    wipe: Annotated[
        bool, typer.Option("--wipe", help="One picture with a moving line instead of two beside each other.")
    ] = False,
    labels: Annotated[
        str | None, typer.Option("--labels", help="Two names, e.g. before,after (default: the file names).")
    ] = None,
    resize: Annotated[
        str, typer.Option("--resize", help="How the smaller clip is enlarged: bicubic, nearest.")
    ] = "bicubic",
    start: shared.Start = 0,
    frames: shared.Frames = None,
    html_frames: Annotated[int, typer.Option("--html-frames", help="Frames in an HTML page, evenly spread.")] = 24,
    json: shared.Json = False,
) -> None:
    """Compare two clips frame by frame.

    Example: sparkvsr compare in.mp4 in_x4.mp4 -o compare.html
    """
    names = None if labels is None else tuple(part.strip() for part in labels.split(","))
    if names is not None and (len(names) != 2 or not all(names)):
        msg = f"--labels {labels!r} is not two names; write it like before,after"
        raise ConfigError(msg)
    with JsonReporter() if json else CompareReporter() as report:
        from sparkvsr.inference.compare.comparison import CompareOptions, compare_clips

        options = CompareOptions(
            wipe=wipe,
            labels=None if names is None else (names[0], names[1]),
            resizing=resize,
            start=start,
            frames=frames,
            html_frames=html_frames,
            overwrite=overwrite,
        )
        compare_clips(expanded(first), expanded(second), expanded(output), options, report)


class CompareReporter(TextReporter):
    """Adds the result of this command."""

    def __call__(self, event: dict[str, Any]) -> None:
        if event["event"] == "compared":
            self._stop()
            size = f", {human_bytes(event['bytes'])}" if event["bytes"] else ""
            self._line(
                f"Wrote    {event['output']} ({event['width']}x{event['height']}, {event['frames']} frames{size})"
            )
            self._notes(event)
        else:
            super().__call__(event)
