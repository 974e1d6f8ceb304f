"""Images that carry numbers belong together by number, not by their place in the folder."""

from __future__ import annotations

from sparkvsr.errors import MetricError
from sparkvsr.evaluation.alignment import WindowClip
from sparkvsr.evaluation.frames import FrameClip


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
    if not ours or not theirs or ours == theirs:
        return sr, gt, []
    is_whole = all(numbers[-1] - numbers[0] + 1 == len(numbers) for numbers in (ours, theirs))
    if is_whole and ours[0] == theirs[0]:
        return sr, gt, []  # one is longer: a matter of counts, which the caller judges
    if is_whole and len(ours) == len(theirs):
        return sr, gt, [f"numbered from {ours[0]}, the ground truth from {theirs[0]}: frames are paired in order"]
    common = sorted(set(ours) & set(theirs))
    alone = sorted(set(ours) ^ set(theirs))
    shown = ", ".join(map(str, alone[:8])) + (", ..." if len(alone) > 8 else "")
    if not common or not trim:
        found = f"--trim measures the {len(common)} that both have" if common else "no number is in both"
        msg = f"{sr.name}: images are paired by their numbers, and {shown} are in one of the two folders only; {found}"
        raise MetricError(msg)
    note = f"paired by number: {len(common)} frames; without a partner: {shown}"
    return _only(sr, common), _only(gt, common), [note]


def _only(clip: FrameClip, numbers: list[int]) -> FrameClip:
    wanted = set(numbers)
    return WindowClip(clip, clip.size, (0, 0), [place for place, number in enumerate(clip.numbers) if number in wanted])
