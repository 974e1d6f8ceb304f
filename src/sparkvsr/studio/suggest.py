"""Where the next keyframe helps most: where the keyframes that are there do not reach."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sparkvsr.errors import KeyframeError
from sparkvsr.keyframes.quality import frame_sharpness

POOR = 0.35
"""Share of the picture below which keyframes carry a frame poorly."""

CANDIDATES = 7
"""Frames of which the sharpest is taken."""

NEAR = 4
"""Keyframes closer than this to another are of little use."""


@dataclass(frozen=True)
class Suggestion:
    """A frame, and why."""

    index: int
    why: str


def suggest_frame(
    shots: Sequence[tuple[int, int]],
    keyframes: Sequence[int],
    shares: Sequence[float | None],
    read: Callable[[Sequence[int]], Mapping[int, Tensor]],
) -> Suggestion:
    """The sharpest frame in the middle of the longest run that keyframes carry poorly.

    Args:
        shots: ``(start, stop)`` of each.
        keyframes: frames that have one.
        shares: how much keyframes cover of each frame, 0 to 1; None where it was not rendered.
        read: gives some frames, ``(3, h, w)``.

    Raises:
        KeyframeError: the keyframes carry every frame well.
    """
    best: tuple[float, int, int, str] | None = None
    for start, stop in shots:
        inside = [index for index in keyframes if start <= index < stop]
        for first, last, known in _poor_runs(start, stop, inside, shares):
            lack = (
                sum(POOR - (shares[index] or 0.0) for index in range(first, last)) if known else (last - first) * POOR
            )
            # What was measured counts for more than what is only likely.
            score = lack * (1.5 if known else 1.0)
            why = (
                f"keyframes carry little of frames {first} to {last - 1}"
                if known
                else f"no keyframe near frames {first} to {last - 1}"
            )
            if best is None or score > best[0]:
                best = (score, first, last, why)
    if best is None:
        msg = "the keyframes carry every frame well; no further one is needed"
        raise KeyframeError(msg)
    _, first, last, why = best
    middle, quarter = (first + last - 1) // 2, max(1, (last - first) // 4)
    step = max(1, 2 * quarter // CANDIDATES)
    wanted = sorted({index for index in range(middle - quarter, middle + quarter + 1, step) if first <= index < last})
    frames = read(wanted)
    index = max(wanted, key=lambda one: (frame_sharpness(frames[one]), -abs(one - middle)))
    return Suggestion(index, why)


def _poor_runs(
    start: int, stop: int, keyframes: Sequence[int], shares: Sequence[float | None]
) -> list[tuple[int, int, bool]]:
    """Runs of frames of a shot that have no good cover: first, behind the last, and whether that was measured."""
    runs: list[tuple[int, int, bool]] = []
    for index in range(start, stop):
        share = shares[index] if index < len(shares) else None
        distance = min((abs(index - one) for one in keyframes), default=None)
        if distance is not None and distance < NEAR:
            continue
        known = share is not None and bool(keyframes)
        if known and (share or 0.0) >= POOR:
            continue
        if not known and distance is not None and distance < 4 * NEAR:
            continue
        if runs and runs[-1][1] == index and runs[-1][2] == known:
            runs[-1] = (runs[-1][0], index + 1, known)
        else:
            runs.append((index, index + 1, known))
    return runs
