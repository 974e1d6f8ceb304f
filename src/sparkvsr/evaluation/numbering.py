"""Images that carry numbers belong together by number, not by their place in the folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sparkvsr.errors import MetricError
from sparkvsr.evaluation.alignment import WindowClip
from sparkvsr.evaluation.frames import FrameClip
from sparkvsr.video.images import listed, shared_numbers


def paired_by_number(sr: FrameClip, gt: FrameClip, *, trim: bool) -> tuple[FrameClip, FrameClip, list[str]]:
    """Bring two clips to the frames that both have, where their images are numbered.

    Sequences that only begin at another number (0 and 1) and have no gaps are taken in order.

    Args:
        sr, gt: restored clip and ground truth.
        trim: leave out frames without a partner; refused otherwise.

    Returns:
        Both clips, and what was done, one line each.

    Raises:
        MetricError: frames are without a partner and ``trim`` is off, or none has one.
    """
    ours, theirs = sr.numbers, gt.numbers
    common = shared_numbers(ours, theirs)
    if common is None:
        if ours and theirs and ours[0] != theirs[0]:
            return sr, gt, [f"numbered from {ours[0]}, the ground truth from {theirs[0]}: frames are paired in order"]
        return sr, gt, [] if ours and theirs else _other_names(sr.file_names, gt.file_names)
    alone = sorted(set(ours) ^ set(theirs))
    shown = listed(alone)
    if not common or not trim:
        found = f"--trim measures the {len(common)} that both have" if common else "no number is in both"
        msg = f"{sr.name}: images are paired by their numbers, and {shown} are in one of the two folders only; {found}"
        raise MetricError(msg)
    note = f"paired by number: {len(common)} frames; without a partner: {shown}"
    return _only(sr, common), _only(gt, common), [note]


def _other_names(ours: Sequence[str], theirs: Sequence[str]) -> list[str]:
    """A line about images that are paired in order though their names say nothing of the kind."""
    for one, other in zip(ours, theirs, strict=False):
        if Path(one).stem != Path(other).stem and len(ours) > 1:
            return [f"the names of the images do not pair them, they are taken in order: {one} with {other}, and so on"]
    return []


def _only(clip: FrameClip, numbers: list[int]) -> FrameClip:
    wanted = set(numbers)
    return WindowClip(clip, clip.size, (0, 0), [place for place, number in enumerate(clip.numbers) if number in wanted])
