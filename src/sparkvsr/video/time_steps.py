"""Times that jump inside a file: joined MPEG-TS recordings, HLS segments, receivers and encoders that start again.

The picture's packets say where the clock was set anew and by how much; every other stream follows at the same place of
the file, so that sound and picture stay in step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from statistics import median

import av

FORWARD_JUMP_SECONDS = 10
"""A gap longer than this in a format that allows new clocks is a new clock (FFmpeg's own limit), not a pause."""

_DISCONTINUOUS = 0x0200  # AVFMT_TS_DISCONT: MPEG-TS, MPEG-PS, Ogg
_LEAST_STEP_ELSEWHERE_SECONDS = 1


@dataclass(frozen=True)
class TimeStep:
    """From here on, so much is added to the times of the file.

    Attributes:
        packet: number of the first packet of the picture behind the step, in the file's order.
        position: its place in the file in bytes; -1 when unknown.
        seconds: added to every time from here on (not on top of earlier steps).
    """

    packet: int
    position: int
    seconds: Fraction


def find_steps(
    dts: Sequence[int], positions: Sequence[int], time_base: Fraction, container: av.container.InputContainer
) -> tuple[TimeStep, ...]:
    """Find where the clock of a file was set anew.

    Args:
        dts: decoding times of the picture's packets in the file's order, in `time_base` units.
        positions: where they lie in the file, -1 for unknown.
        container: the file; its format says whether long gaps are new clocks.

    Returns:
        Steps in order; a single packet with a wrong time is none.
    """
    if len(dts) < 2:
        return ()
    may_jump = bool(container.format.flags & _DISCONTINUOUS)
    least = 1 if may_jump else round(_LEAST_STEP_ELSEWHERE_SECONDS / time_base)
    longest = round(FORWARD_JUMP_SECONDS / time_base)
    rises = [b - a for a, b in pairwise(dts) if 0 < b - a <= longest]
    usual = round(median(rises)) if rises else 1
    steps: list[TimeStep] = []
    offset, last = 0, dts[0]

    def is_far(k: int) -> bool:
        move = dts[k] + offset - last
        return move <= -least or (may_jump and move > longest)

    for k in range(1, len(dts)):
        if is_far(k):
            if k + 1 < len(dts) and not is_far(k + 1):
                continue  # one wrong time, not a new clock
            offset = last + usual - dts[k]
            steps.append(TimeStep(k, positions[k], offset * time_base))
        last = max(last, dts[k] + offset)
    return tuple(steps)


class StepFollower:
    """Moves the times of one stream as the picture's were moved.

    Args:
        steps: of the picture.
    """

    def __init__(self, steps: Sequence[TimeStep]) -> None:
        self._steps = steps
        self._current = 0
        self._position = -1
        self._last_raw: Fraction | None = None
        self._last: Fraction | None = None

    def move(self, packet: av.Packet) -> None:
        """Set the times of the next packet of the stream right."""
        ticks = packet.dts if packet.dts is not None else packet.pts
        if not self._steps or ticks is None:
            return
        time_base = Fraction(packet.time_base)
        raw = ticks * time_base
        self._current = self._epoch(packet, raw)
        self._last_raw = raw
        seconds = self._seconds(self._current)
        self._last = raw + seconds
        shift = round(seconds / time_base)
        packet.pts = None if packet.pts is None else packet.pts + shift
        packet.dts = None if packet.dts is None else packet.dts + shift

    def _seconds(self, epoch: int) -> Fraction:
        return self._steps[epoch - 1].seconds if epoch else Fraction(0)

    def _epoch(self, packet: av.Packet, raw: Fraction) -> int:
        """Behind which step a packet lies: by its place in the file, and by its own jump where that is no proof."""
        if packet.pos is not None and packet.pos >= 0:
            self._position = packet.pos
        passed = sum(0 <= step.position <= self._position for step in self._steps)
        if self._last_raw is None or self._last is None:
            return max(passed, self._current)
        jumped = raw < self._last_raw or raw - self._last_raw > FORWARD_JUMP_SECONDS
        if passed > self._current:
            options = [passed] if jumped else [self._current, passed]
        elif jumped and self._current < len(self._steps):
            # The sound of the new part may come before its first picture.
            options = [self._current, self._current + 1]
        else:
            return self._current
        last = self._last
        return min(options, key=lambda epoch: abs(raw + self._seconds(epoch) - last))
