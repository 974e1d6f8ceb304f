"""A few frames around a place, at once: not from the start of the shot but from the keyframes before.

The keyframes are those of the final result, the model's own between the given ones included. What the frames before
would have carried is missing, so the result is close to the final one, not equal to it: it is shown as a preview, and
never enters the store.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing

import torch
from torch import Tensor

from sparkvsr.inference.clip.engine import in_grey
from sparkvsr.inference.clip.job import UpscaleJob
from sparkvsr.inference.clip.render import keyframe_loader
from sparkvsr.keyframes.references import resize_image
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.interface import Keyframe, ShotRequest

RUN_UP = 3
"""Frames before the wanted one when the keyframe lies further back; the state settles quickly."""


def preview_frames(
    shot: Shot, keyframes: Sequence[int], here: int, length: int, own: Sequence[int] = ()
) -> tuple[list[int], list[int]]:
    """Which frames a preview goes through.

    Args:
        keyframes: given ones of the clip, rising.
        here: frame that is looked at.
        length: how many frames to show from it on.
        own: keyframes of the model's own kind, rising.

    Returns:
        Frames that are only gone through, and those that are shown: from ``here`` on, to the shot's end at most: the
        frame that is looked at is the first to change.
    """
    shown = list(range(here, min(shot.stop, here + length)))
    behind = [max((index for index in kind if shot.start <= index <= here), default=None) for kind in (keyframes, own)]
    last = [index for index in behind if index is not None]
    run_up = max(shot.start, here - RUN_UP)
    begin = min((index for index in last if index >= run_up), default=run_up)
    # With a keyframe far behind, the frames between are left out: its motion to here is found all the same.
    return sorted({index for index in last if index < begin}) + list(range(begin, here)), shown


def shown_frames(job: UpscaleJob, here: int, length: int) -> list[int]:
    """The frames that ``render_preview`` gives."""
    shot = next(shot for shot in job.clip.shots if here in shot)
    return preview_frames(shot, [], here, length)[1]


class _Placed(Mapping[int, Keyframe]):
    """Keyframes by their place in a preview."""

    def __init__(self, frames: list[int], keyframes: list[int], load: Callable[[int], Keyframe]) -> None:
        wanted = set(keyframes)
        self._places = {place: index for place, index in enumerate(frames) if index in wanted}
        self._load = load

    def __getitem__(self, place: int) -> Keyframe:
        return self._load(self._places[place])

    def __iter__(self) -> Iterator[int]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


@torch.inference_mode()
def render_preview(
    job: UpscaleJob, here: int, length: int, before: Callable[[], None]
) -> Iterator[tuple[int, Tensor, float | None]]:
    """Restore some frames around a place.

    Args:
        job: with the keyframes.
        before: called before each frame; may raise to stop.

    Yields:
        Frame number, pixels ``(3, H, W)`` float32 in [0, 1] at the output size, and how much keyframes cover, if known.
    """
    shot = next(shot for shot in job.clip.shots if here in shot)
    keyframes = list(job.clip.selection.indices)
    own, model = job.clip.settings.own_keyframes, job.model
    chosen = [index for index in keyframes if index not in own]
    passed, shown = preview_frames(shot, chosen, here, length, sorted(own))
    frames = [*passed, *shown]
    ahead = model.keyframe_lookahead or 0
    # A model that cannot stop in the middle of a shot gets no more than it is to restore.
    further = range(frames[-1] + 1, min(shot.stop, frames[-1] + 1 + ahead)) if model.is_resumable else ()
    known = [*frames, *further]
    settings = job.clip.settings
    with closing(keyframe_loader(job)) as loader:
        session = model.open_session(
            ShotRequest(
                num_frames=len(known),
                lr_size=(job.clip.info.height, job.clip.info.width),
                size=settings.working_size,
                keyframes=_Placed(known, keyframes, loader.load),
                own_keyframes=frozenset(place for place, index in enumerate(known) if index in own),
                guidance_scale=settings.guidance_scale,
                chunk_frames=settings.chunk_frames,
                tile=settings.tile,
                seed=settings.seed,
            )
        )
        given, wanted = iter(frames), set(shown)

        def finished(restored: Tensor) -> Iterator[tuple[int, Tensor, float | None]]:
            shares = session.keyframe_shares
            for place, pixels in enumerate(restored):
                index = next(given)
                if index in wanted:
                    sized = resize_image(pixels, settings.size).clamp(0, 1)
                    share = None if shares is None else shares[place - len(restored)]
                    yield index, in_grey(sized) if settings.is_grey else sized, share

        for run in _runs(frames):
            with closing(job.clip.open_frames(run[0], run[-1] + 1)) as opened:
                for frame in opened:
                    before()
                    yield from finished(session.push(frame.pixels[None].float()))
        yield from finished(session.finish())


def _runs(frames: list[int]) -> list[list[int]]:
    """Neighbouring frames together."""
    runs: list[list[int]] = []
    for index in frames:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    return runs
