"""How the library tells what it is doing: a hook that gets plain events. It never prints.

Each event is a dictionary with ``event`` and the keys that ``events.schema.json`` beside this file gives for it;
``sparkvsr upscale --json`` writes them as they are (docs/events.md). Details for whoever looks for a defect go to the
logger ``sparkvsr``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Event = dict[str, Any]
Hook = Callable[[Event], None]


def silent(event: Event) -> None:
    """The default hook: ignore everything."""


def for_input(hook: Hook, path: str | Path) -> Hook:
    """A hook that names the input in every event, so that events of several clips can be told apart."""

    def named(event: Event) -> None:
        hook({**event, "input": str(path)})

    return named


class RateMeter:
    """Frames per second and time left over the last seconds, so that a slow start does not spoil the estimate.

    Args:
        total: number of frames to come; None when nobody knows.
        window_seconds: how far back the rate looks.
    """

    def __init__(self, total: int | None, window_seconds: float = 30.0) -> None:
        self._total = total
        self._window = window_seconds
        self._marks: list[tuple[float, int]] = [(time.monotonic(), 0)]

    def update(self, done: int) -> Event:
        """A ``progress`` event for ``done`` finished frames."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > self._window:
            self._marks.pop(0)
        seconds, frames = now - self._marks[0][0], done - self._marks[0][1]
        fps = frames / seconds if seconds > 0 and frames > 0 else 0.0
        left = (self._total - done) / fps if fps and self._total is not None else None
        return {
            "event": "progress",
            "done": done,
            "total": self._total,
            "fps": round(fps, 3),
            "seconds_left": None if left is None else round(left, 1),
        }


class ProgressReporter:
    """Counts frames and tells the hook, at most every half second and at the end; from any thread.

    Args:
        hook: gets ``progress`` events.
        total: number of frames to come; None when nobody knows.
    """

    INTERVAL_SECONDS = 0.5

    def __init__(self, hook: Hook, total: int | None) -> None:
        self._hook = hook
        self._meter = RateMeter(total)
        self._total = total
        self._done = 0
        self._shown = 0.0
        self._lock = threading.Lock()

    def advance(self, frames: int = 1) -> None:
        """So many more frames are done."""
        with self._lock:
            self._done += frames
            now = time.monotonic()
            if now - self._shown >= self.INTERVAL_SECONDS or self._done == self._total:
                self._shown = now
                self._hook(self._meter.update(self._done))

    def finish(self) -> None:
        """No frame comes any more, however many were announced."""
        with self._lock:
            if self._total is None and self._done:
                self._hook(self._meter.update(self._done))
