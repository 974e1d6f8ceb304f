"""Which frames guide the restoration: pure functions from numbers to frame indices.

All indices are 0-based frame numbers of the clip, in display order. A *selection* says what was chosen
and what was dropped, so that nothing disappears without a word.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes.shots import Shot

MIN_KEYFRAME_GAP = 4
"""Smallest distance of two keyframes in frames (paper; one latent of the large model covers four frames)."""


@dataclass(frozen=True)
class Selection:
    """Chosen keyframes.

    Attributes:
        indices: strictly increasing frame indices.
        dropped: candidates that were left out because another keyframe lies less than the gap away.
        method: how they were chosen, for the plan that the user reads.
        moved: chosen frame and the better one that was taken instead, see ``off_bad_frames``.
    """

    indices: tuple[int, ...]
    dropped: tuple[int, ...] = ()
    method: str = ""
    moved: tuple[tuple[int, int], ...] = ()


def keep_apart(
    candidates: Iterable[int],
    shots: Sequence[Shot],
    *,
    preferred: Iterable[int] = (),
    gap: int = MIN_KEYFRAME_GAP,
    method: str = "",
) -> Selection:
    """Drop candidates closer than ``gap`` frames to a kept one of the same shot.

    Preferred candidates (shot starts) are placed first, then the others from left to right. Keyframes on
    both sides of a cut may be closer: they never serve the same shot.
    """
    preferred_set = set(preferred)
    kept: list[int] = []
    dropped: list[int] = []
    for shot in shots:
        inside = sorted({index for index in candidates if index in shot})
        chosen: list[int] = []
        for index in [i for i in inside if i in preferred_set] + [i for i in inside if i not in preferred_set]:
            if all(abs(index - other) >= gap for other in chosen):
                chosen.append(index)
            else:
                dropped.append(index)
        kept.extend(chosen)
    return Selection(tuple(sorted(kept)), tuple(sorted(dropped)), method)


def snapped(selection: Selection, shots: Sequence[Shot], multiple: int) -> Selection:
    """Move keyframes back to multiples of ``multiple`` frames after their shot's start.

    The large model places a keyframe exactly only there (one latent covers four frames). Keyframes that meet on
    one frame become one.
    """
    if multiple <= 1:
        return selection
    moved = {
        shot.start + (index - shot.start) // multiple * multiple
        for shot in shots
        for index in selection.indices
        if index in shot
    }
    if moved == set(selection.indices):
        return selection
    method = f"{selection.method}, moved back to every {multiple}th frame of the shot"
    return replace(selection, indices=tuple(sorted(moved)), method=method)


def off_bad_frames(selection: Selection, shots: Sequence[Shot], bad: Collection[int], multiple: int = 1) -> Selection:
    """Move keyframes off empty, blurred and damaged frames, to the nearest good one of the same shot.

    Args:
        selection: what was chosen.
        shots: of the part of the clip.
        bad: frames to avoid, see ``frame_watch.FrameWatch.bad``.
        multiple: see ``snapped``.

    Returns:
        The selection; a keyframe that finds no good frame at the least distance from the others is dropped.
    """
    kept = [index for index in selection.indices if index not in bad]
    moved: list[tuple[int, int]] = []
    dropped = list(selection.dropped)
    for index in selection.indices:
        if index not in bad:
            continue
        shot = next(shot for shot in shots if index in shot)
        others = [other for other in kept if other in shot]
        free = [
            place
            for place in range(shot.start, shot.stop, multiple)
            if place not in bad and all(abs(place - other) >= MIN_KEYFRAME_GAP for other in others)
        ]
        if free:
            place = min(free, key=lambda place, index=index: (abs(place - index), -place))  # type: ignore[misc]
            kept.append(place)
            moved.append((index, place))
        elif others:
            dropped.append(index)
        else:
            kept.append(index)
    return replace(selection, indices=tuple(sorted(kept)), dropped=tuple(sorted(dropped)), moved=tuple(moved))


def selection_notes(selection: Selection) -> list[str]:
    """What became of chosen frames that are no keyframes, for the user."""
    notes = []
    if selection.dropped:
        shown = ", ".join(map(str, selection.dropped[:8])) + (", ..." if len(selection.dropped) > 8 else "")
        notes.append(
            f"dropped {len(selection.dropped)} keyframes closer than {MIN_KEYFRAME_GAP} frames to another: {shown}"
        )
    if selection.moved:
        shown = ", ".join(f"{old} to {new}" for old, new in selection.moved[:8])
        shown += ", ..." if len(selection.moved) > 8 else ""
        count = f"{len(selection.moved)} keyframe{'s' * (len(selection.moved) > 1)}"
        notes.append(f"moved {count} off empty, blurred or damaged frames: {shown}")
    return notes


def manual(indices: Sequence[int], start: int, stop: int, *, gap: int = MIN_KEYFRAME_GAP) -> Selection:
    """Keyframes typed by the user: used as they are, or refused.

    Raises:
        KeyframeError: outside ``[start, stop)``, given twice, or closer than ``gap`` to each other.
    """
    ordered = sorted(indices)
    for index in ordered:
        if not start <= index < stop:
            msg = (
                f"keyframe {index} is outside the clip (frames {start} to {stop - 1}); "
                f"give indices in that range or drop --keyframes"
            )
            raise KeyframeError(msg)
    for left, right in pairwise(ordered):
        if left == right:
            msg = f"keyframe {left} is given twice; give each index once"
            raise KeyframeError(msg)
        if right - left < gap:
            msg = f"keyframes {left} and {right} are {right - left} frames apart; at least {gap} are needed, drop one"
            raise KeyframeError(msg)
    return Selection(tuple(ordered), (), "as given")


def iframes(iframe_indices: Iterable[int], shots: Sequence[Shot]) -> Selection:
    """The codec's I-frames."""
    return keep_apart(iframe_indices, shots, method="I-frames")


def every(step: int, shots: Sequence[Shot]) -> Selection:
    """Every ``step``-th frame, counted from the first frame of the clip.

    Raises:
        ConfigError: ``step`` is below the smallest distance.
    """
    if step < MIN_KEYFRAME_GAP:
        msg = f"--every {step} is too close; keyframes need at least {MIN_KEYFRAME_GAP} frames between them"
        raise ConfigError(msg)
    candidates = range(shots[0].start, shots[-1].stop, step)
    return keep_apart(candidates, shots, method=f"every {step} frames")


def random_frames(count: int, shots: Sequence[Shot], seed: int) -> Selection:
    """``count`` frames drawn at random, at least the smallest distance apart; the same for the same seed.

    Raises:
        ConfigError: ``count`` is below 1 or more than fit into the clip.
    """
    start, stop = shots[0].start, shots[-1].stop
    num_frames = stop - start
    room = (num_frames - 1) // MIN_KEYFRAME_GAP + 1
    if not 1 <= count <= room:
        msg = (
            f"--random {count} does not fit: {num_frames} frames take 1 to {room} keyframes "
            f"at a distance of at least {MIN_KEYFRAME_GAP}"
        )
        raise ConfigError(msg)
    # Draw from a line shortened by the gaps, then stretch it again: every allowed set is equally likely.
    shortened = num_frames - (count - 1) * (MIN_KEYFRAME_GAP - 1)
    drawn = sorted(random.Random(seed).sample(range(shortened), count))
    indices = tuple(start + value + k * (MIN_KEYFRAME_GAP - 1) for k, value in enumerate(drawn))
    return Selection(indices, (), f"{count} at random, seed {seed}")


def scenes(shots: Sequence[Shot]) -> Selection:
    """The first frame of each shot."""
    return Selection(tuple(shot.start for shot in shots), (), "shot starts")


def iframes_and_scenes(iframe_indices: Iterable[int], shots: Sequence[Shot]) -> Selection:
    """The default: I-frames and the first frame of each shot, which wins where both are close."""
    starts = [shot.start for shot in shots]
    return keep_apart([*iframe_indices, *starts], shots, preferred=starts, method="I-frames and shot starts")


def none() -> Selection:
    """No keyframes: blind restoration."""
    return Selection((), (), "none (blind)")


def parse_indices(text: str) -> list[int]:
    """``"0,48,96"`` to a list of integers, in the order given.

    Raises:
        ConfigError: not a comma-separated list of whole numbers.
    """
    try:
        return [int(part) for part in text.split(",") if part.strip()] or _refuse(text)
    except ValueError:
        return _refuse(text)


def _refuse(text: str) -> list[int]:
    msg = f"--keyframes {text!r} is not a list of frame numbers; write it like 0,48,96"
    raise ConfigError(msg) from None
