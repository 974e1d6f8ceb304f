"""Whether other programs kept a run from the machine's cores: such a run says nothing about how fast the machine is."""

from __future__ import annotations

import contextlib

import psutil

_FULL = 0.9
"""Share of all cores in use from which on programs take time from each other."""

_NOTICED = 0.1
"""Share of all cores that others take, from which on it is worth a word."""


_first_process: int | None = None


def count_as_part_of(pid: int) -> None:
    """Say in a worker which process started it: it and all its workers are no other programs."""
    global _first_process
    _first_process = pid


class OtherLoad:
    """Watches the machine from when it is made."""

    def __init__(self) -> None:
        self._all, self._busy = _machine_seconds()
        self._own = _own_seconds()

    def share(self) -> float | None:
        """Share of all cores, 0 to 1, that other programs took since then; None where they did not slow us down.

        They did not where cores were left, or where they took next to nothing.
        """
        total, busy = _machine_seconds()
        total, busy = total - self._all, busy - self._busy
        if total <= 0:
            return None
        others = (busy - (_own_seconds() - self._own)) / total
        return min(others, 1.0) if busy / total > _FULL and others > _NOTICED else None


def _machine_seconds() -> tuple[float, float]:
    """Seconds of all cores since the machine started: all there are, and those in use."""
    times = psutil.cpu_times()
    # Guests are counted in user time already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    return total, total - times.idle - getattr(times, "iowait", 0.0)


def _own_seconds() -> float:
    """Seconds of this run's processes: of this one and what it started, and of its siblings where it is a worker."""
    first = psutil.Process(_first_process)
    seconds = 0.0
    for process in (first, *first.children(recursive=True)):
        with contextlib.suppress(psutil.Error):  # it may have ended in between
            times = process.cpu_times()
            seconds += times.user + times.system + times.children_user + times.children_system
    return seconds
