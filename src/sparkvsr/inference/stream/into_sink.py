"""Restored frames into a sink in a thread of its own, and what is told at the end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from sparkvsr.inference.clip.heap import release_free_memory
from sparkvsr.threads import BackgroundSink
from sparkvsr.video.pipes import PipeSink

FRAMES_WAITING = 4

Taken = tuple[Tensor, int | None, int | None, Tensor | None]
"""Pixels, time, duration and alpha, as ``PipeSink.write`` takes them."""


@dataclass(frozen=True)
class StreamResult:
    """What went through.

    Attributes:
        output: where to, for the user.
        height, width, frames: of the result.
        seconds: from the first frame to the last.
        notes: what the user should know.
    """

    output: str
    height: int
    width: int
    frames: int
    seconds: float
    notes: tuple[str, ...]

    @property
    def fps(self) -> float:
        """Frames a second, reading and writing included."""
        return self.frames / self.seconds if self.seconds else 0.0


@contextmanager
def frames_into(sink: PipeSink) -> Iterator[BackgroundSink[Taken]]:
    """A queue whose frames are written; leaving it ends the sink, as a whole one or as it is after an exception."""

    def write(item: Taken) -> None:
        sink.write(*item)
        if sink.num_frames % 16 == 0:
            release_free_memory()

    try:
        with BackgroundSink(write, FRAMES_WAITING) as queue:
            try:
                yield queue
            except BaseException:
                sink.stop()  # a writing that waits for a reader would never end
                raise
        sink.close()
    except BaseException:
        sink.abort()
        raise


def done_event(result: StreamResult) -> dict[str, Any]:
    """The ``done`` event of a result that went through a pipe."""
    return {
        "event": "done",
        "output": result.output,
        "compare": None,
        "width": result.width,
        "height": result.height,
        "frames": result.frames,
        "rendered": result.frames,
        "seconds": round(result.seconds, 3),
        "fps": round(result.fps, 3),
        "bytes": None,
        "work": None,
        "notes": list(result.notes),
        "estimated_seconds": None,
        "other_programs": None,
    }
