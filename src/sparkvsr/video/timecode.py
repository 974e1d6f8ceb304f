"""Timecodes of film and television: ``HH:MM:SS:FF``, moved by a number of frames."""

from __future__ import annotations

import re
from fractions import Fraction

_FORM = re.compile(r"(\d\d):(\d\d):(\d\d)([:;.,])(\d{2,3})")


def shifted_timecode(text: str, frames: int, fps: Fraction) -> str | None:
    """Timecode of a frame further on.

    SMPTE ST 12-1: frames are counted at the rounded rate; with ``;`` (drop-frame, 29.97 and 59.94 only) the numbers of
    the first two (four) frames of each minute but every tenth are left out. A day starts again at zero.

    Args:
        text: of the first frame.
        frames: how many frames later.
        fps: of the clip.

    Returns:
        The new timecode, or None where `text` is not one.
    """
    match = _FORM.fullmatch(text.strip())
    rate = round(fps)
    if match is None or rate < 1:
        return None
    hours, minutes, seconds, number = (int(match.group(k)) for k in (1, 2, 3, 5))
    if minutes > 59 or seconds > 59 or number >= rate:
        return None
    mark, width = match.group(4), len(match.group(5))
    drop = rate // 15 if mark in ";.," and rate % 30 == 0 else 0
    per_minute, per_ten = rate * 60 - drop, rate * 600 - 9 * drop
    total_minutes = hours * 60 + minutes
    count = (total_minutes * 60 + seconds) * rate + number - drop * (total_minutes - total_minutes // 10)
    count = (count + frames) % (per_ten * 6 * 24)
    tens, rest = divmod(count, per_ten)
    if drop:
        count += 9 * drop * tens + (drop * ((rest - drop) // per_minute) if rest >= drop else 0)
    count, number = divmod(count, rate)
    count, seconds = divmod(count, 60)
    hours, minutes = divmod(count, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{number:0{width}d}"
