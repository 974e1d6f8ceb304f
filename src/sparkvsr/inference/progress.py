"""How the library tells what it is doing: a hook that gets plain events. It never prints.

Each event is a dictionary with ``event`` and the keys below; ``sparkvsr upscale --json`` writes them as they are.

=========== ==========================================================================================
event       keys
=========== ==========================================================================================
input       path, kind, width, height, frames, fps, codec, audio, summary
analysis    done, total (frames read while looking for cuts)
plan        output, width, height, scale, model, device, dtype, shots, keyframes, dropped_keyframes,
            keyframe_method, references, guidance_scale, chunk_frames, tile, memory_bytes, notes
resume      kept, total (frames that an earlier run has restored already), work (folder)
note        text (something the user should know)
progress    done, total, fps, seconds_left
done        output, compare, width, height, frames, rendered, seconds, fps, bytes, work, notes
error       input, error (only on the command line, for one of several inputs)
=========== ==========================================================================================
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Event = dict[str, Any]
Hook = Callable[[Event], None]


def silent(event: Event) -> None:
    """The default hook: ignore everything."""


class RateMeter:
    """Frames per second and time left over the last seconds, so that a slow start does not spoil the estimate.

    Args:
        total: number of frames to come.
        window_seconds: how far back the rate looks.
    """

    def __init__(self, total: int, window_seconds: float = 30.0) -> None:
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
        left = (self._total - done) / fps if fps else None
        return {
            "event": "progress",
            "done": done,
            "total": self._total,
            "fps": round(fps, 3),
            "seconds_left": None if left is None else round(left, 1),
        }


class ProgressReporter:
    """Counts frames and tells the hook, at most every half second and at the end.

    Args:
        hook: gets ``progress`` events.
        total: number of frames to come.
    """

    INTERVAL_SECONDS = 0.5

    def __init__(self, hook: Hook, total: int) -> None:
        self._hook = hook
        self._meter = RateMeter(total)
        self._total = total
        self._done = 0
        self._shown = 0.0

    def advance(self) -> None:
        """One more frame is done."""
        self._done += 1
        now = time.monotonic()
        if now - self._shown >= self.INTERVAL_SECONDS or self._done == self._total:
            self._shown = now
            self._hook(self._meter.update(self._done))
