"""The segments a clip is rendered in, and what decides the pixels of each.

A segment is a run of frames of one shot that is encoded on its own. Its key is a hash over everything that decides
its encoded bytes: the frames of the shot up to its end, the keyframes that reach it and their images, the model,
the settings, the encoder. Equal keys mean equal results, so a segment that is in the work store need not be
rendered again: after a crash, after Ctrl-C, or after one keyframe was edited.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from sparkvsr.keyframes.shots import Shot

SEGMENT_FRAMES = 96
"""Longest segment: what a crash can cost, and how often the encoder has to begin with a fresh I-frame (every
four seconds at 24 frames a second)."""


@dataclass(frozen=True)
class Segment:
    """Frames ``[start, stop)`` of one shot.

    Attributes:
        shot: the shot it belongs to.
        key: hash of all that decides its bytes, hexadecimal.
        previous: key of the segment before it in the same shot, None for the first.
        references: keyframes that the key was made with, and the identity that each one's image had then.
    """

    start: int
    stop: int
    shot: Shot
    key: str
    previous: str | None
    references: tuple[tuple[int, str], ...] = ()

    @property
    def num_frames(self) -> int:
        """Length in frames."""
        return self.stop - self.start


def segment_bounds(shot: Shot, longest: int | None) -> list[tuple[int, int]]:
    """Cut a shot into segments of at most ``longest`` frames (None: one segment), as equal as possible."""
    if longest is None or shot.num_frames <= longest:
        return [(shot.start, shot.stop)]
    count = -(-shot.num_frames // longest)
    marks = [shot.start + round(shot.num_frames * k / count) for k in range(count + 1)]
    return list(pairwise(marks))


def plan_segments(
    shots: Sequence[Shot],
    keyframe_indices: Sequence[int],
    *,
    lookahead: int | None,
    longest: int | None,
    settings: Mapping[str, object],
    frame_digest: Callable[[int], bytes],
    keyframe_identity: Callable[[int], str],
) -> list[Segment]:
    """Cut all shots into segments and compute their keys.

    Args:
        lookahead: of the model, see ``RestorationModel.keyframe_lookahead``.
        longest: longest segment in frames; None keeps shots whole.
        settings: everything else that decides the pixels, as plain values.
        frame_digest: hash of the LR frame at an index.
        keyframe_identity: text that changes when the image of a keyframe changes.
    """
    head = json.dumps(settings, sort_keys=True, default=str).encode()
    segments: list[Segment] = []
    for shot in shots:
        inside = [index for index in keyframe_indices if index in shot]
        identities: dict[int, str] = {}
        previous: str | None = None
        for start, stop in segment_bounds(shot, longest):
            digest = hashlib.sha256(head)
            # The chain carries all that earlier frames of the shot decide.
            digest.update((previous or f"shot of {shot.num_frames if longest is None else 'any'}").encode())
            for index in range(start, stop):
                digest.update(frame_digest(index))
            reach = shot.stop if lookahead is None else stop + lookahead
            for index in inside:
                if start <= index < reach or (lookahead is None and index in shot):
                    if index not in identities:
                        identities[index] = keyframe_identity(index)
                    digest.update(f"{index - shot.start}:{identities[index]}:".encode())
                    digest.update(frame_digest(index))
            key = digest.hexdigest()[:40]
            # Those of earlier segments, too: their images decide the state that this one begins with.
            segments.append(Segment(start, stop, shot, key, previous, tuple(identities.items())))
            previous = key
    return segments
