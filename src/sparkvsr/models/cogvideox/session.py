"""One shot in chunks: buffering, keyframes of each chunk, carry, cross-fades (docs/method.md 8.2 to 8.4)."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from sparkvsr.errors import KeyframeError
from sparkvsr.models.cogvideox.plan.chunks import (
    Chunk,
    fade_in_weights,
    fit_overlap,
    pad_frames,
    plan_chunks,
)
from sparkvsr.models.cogvideox.runner import ChunkRunner, GeometryChangedError, release_memory
from sparkvsr.models.interface import Keyframe, Session, ShotRequest


@dataclass
class _Pending:
    """A chunk whose frames are being decoded."""

    chunk: Chunk
    frames: Future[Tensor]


class ChunkSession(Session):
    """Restores one shot chunk by chunk.

    A chunk runs as soon as its frames are there. Its last frames are held back until the next chunk has been
    cross-faded into them. Frames do not depend on how the shot is cut into ``push`` calls.

    The first planned chunk stays planned, and its LR frames buffered, until its frames are committed; so whatever
    fails on the way, the session goes on from the last committed chunk.

    Args:
        runner: restores single chunks.
        request: the shot.
        carry: a chunk without a keyframe takes the last restored frame of its predecessor as one.
    """

    def __init__(self, runner: ChunkRunner, request: ShotRequest, *, carry: bool) -> None:
        self._runner, self._request, self._carry = runner, request, carry
        self._num_frames = request.num_frames
        self._buffer: Tensor | None = None  # LR frames from `_buffer_start` on
        self._buffer_start = 0
        self._pushed = 0
        self._last: Chunk | None = None  # last committed chunk
        self._held: Tensor | None = None  # its tail, which the next chunk fades into
        self._pending: _Pending | None = None  # first of `_chunks`, while it is decoded on the side
        self._ready: list[Tensor] = []  # finished frames that no call has returned yet
        self._worker: ThreadPoolExecutor | None = None
        self._over = False
        self._chunks = self._plan()

    @property
    def notes(self) -> list[str]:
        """What was changed when memory ran out, one line each."""
        return self._runner.notes

    def push(self, lr: Tensor) -> Tensor:
        """See ``Session.push``.

        Raises:
            ValueError: wrong shape, more frames than announced, or the session is over.
            ResourceError: memory ran out with the smallest settings.
        """
        self._check(lr)
        lr = lr.detach().to("cpu", torch.float32)
        self._buffer = lr.clone() if self._buffer is None else torch.cat([self._buffer, lr])
        self._pushed += lr.shape[0]
        self._run_ready()
        return self._take_ready()

    def finish(self) -> Tensor:
        """See ``Session.finish``. A shot that ended early is restored as far as it was pushed."""
        if not self._over and self._pushed:
            if self._pushed < self._num_frames:
                self._end_early()
            while self._chunks:
                # Only a chunk that is decoded on the side is left; should it have to start over, it runs again.
                self._run_ready()
                self._commit_or_replan()
        self._over = True
        self._buffer = None
        if self._worker is not None:
            self._worker.shutdown()
        return self._take_ready()

    # --- chunks ---

    def _plan(self) -> list[Chunk]:
        """Chunks from the last committed one to the end of the shot, with the runner's present settings."""
        chunk_frames = self._runner.settings.chunk_frames
        start = 0 if self._last is None else self._last.stop - fit_overlap(chunk_frames)
        planned = plan_chunks(self._num_frames - start, chunk_frames)
        return [Chunk(chunk.start + start, chunk.stop + start) for chunk in planned]

    def _run_ready(self) -> None:
        """Run every chunk whose frames are there."""
        while True:
            following = 1 if self._pending is not None else 0
            if following >= len(self._chunks):
                return
            chunk = self._chunks[following]
            if self._pushed < min(chunk.stop, self._num_frames):
                return
            try:
                self._run(chunk)
            except GeometryChangedError:
                self._commit_or_replan()
                release_memory()
                self._chunks = self._plan()

    def _run(self, chunk: Chunk) -> None:
        assert self._buffer is not None
        # 1. Encode; the chunk before may still be decoding on the side.
        offset = chunk.start - self._buffer_start
        frames = self._buffer[offset : min(chunk.stop, self._num_frames) - self._buffer_start]
        lr = pad_frames(frames, chunk.stop - chunk.start)
        lr_latents = self._runner.encode(lr, chunk.start)

        # 2. Frames of the chunk before: this one's carried keyframe comes from them.
        self._commit()
        restored = self._runner.restore(lr_latents, self._keyframes(chunk), chunk.start)
        del lr_latents

        # 3. Decode, on the side where settings allow it.
        self._pending = _Pending(chunk, self._submit(restored, lr))
        if not self._runner.settings.overlap_stages:
            self._commit()

    def _submit(self, restored: list[Tensor], lr: Tensor) -> Future[Tensor]:
        if not self._runner.settings.overlap_stages:
            future: Future[Tensor] = Future()
            future.set_result(self._runner.decode(restored, lr))
            return future
        if self._worker is None:
            self._worker = ThreadPoolExecutor(1, thread_name_prefix="sparkvsr-decode")
        return self._worker.submit(self._runner.decode_aside, restored, lr)

    def _commit(self) -> None:
        """Wait for the pending chunk, fade it into what is held, and forget its LR frames."""
        if self._pending is None:
            return
        pending, self._pending = self._pending, None
        frames = pending.frames.result()
        self._chunks.pop(0)
        self._append(pending.chunk, frames)
        self._last = pending.chunk
        if self._chunks and self._buffer is not None:
            done = self._chunks[0].start - self._buffer_start
            self._buffer, self._buffer_start = self._buffer[done:].clone(), self._chunks[0].start

    def _commit_or_replan(self) -> None:
        try:
            self._commit()
        except GeometryChangedError:
            release_memory()
            self._chunks = self._plan()

    def _append(self, chunk: Chunk, frames: Tensor) -> None:
        """Cross-fade a chunk's frames ``(L, 3, H, W)`` into the held ones; hold back what the next chunk shares."""
        # 1. Fade. The held frames end where the chunk before ended.
        start = chunk.start
        if self._held is not None and self._last is not None:
            held_start = self._last.stop - self._held.shape[0]
            fade_start = max(held_start, chunk.start)
            before, tail = self._held[: fade_start - held_start], self._held[fade_start - held_start :]
            weights = fade_in_weights(tail.shape[0])
            head = frames[fade_start - chunk.start : self._last.stop - chunk.start]
            frames = torch.cat([before, torch.lerp(tail, head, weights), frames[self._last.stop - chunk.start :]])
            start = held_start

        # 2. Split into finished and held.
        if self._chunks:
            shared = chunk.stop - self._chunks[0].start
            self._ready.append(frames[:-shared])
            self._held = frames[-shared:].clone()
        else:
            self._ready.append(frames[: self._num_frames - start])
            self._held = None

    def _end_early(self) -> None:
        """The shot ended before the announced number of frames: plan the rest again."""
        self._commit_or_replan()
        self._num_frames = self._pushed
        if self._last is not None and self._held is not None and self._pushed <= self._last.stop:
            held_start = self._last.stop - self._held.shape[0]
            self._ready.append(self._held[: self._pushed - held_start])
            self._chunks = []
        else:
            self._chunks = self._plan()

    def _keyframes(self, chunk: Chunk) -> dict[int, tuple[Tensor, float]]:
        """Images and weights by index within the chunk; the carried frame if there are none."""
        found: dict[int, tuple[Tensor, float]] = {}
        if abs(self._request.guidance_scale) <= BLIND_GUIDANCE:
            return found
        for index in sorted(self._request.keyframes):
            if chunk.start <= index < min(chunk.stop, self._num_frames):
                keyframe = self._request.keyframes[index]
                if keyframe.weight > 0:
                    found[index - chunk.start] = (check_keyframe(index, keyframe, self._request.size), keyframe.weight)
        if not found and self._carry and self._last is not None and self._held is not None:
            # Overlaps have 8n + 1 frames and chunks start at multiples of 8: the slot is exact.
            found[self._last.stop - 1 - chunk.start] = (self._held[-1], 1.0)
        return found

    def _take_ready(self) -> Tensor:
        ready, self._ready = self._ready, []
        return torch.cat(ready) if ready else torch.empty(0, 3, *self._request.size)

    def _check(self, lr: Tensor) -> None:
        wanted = (3, *self._request.lr_size)
        if self._over:
            msg = "this session is over; open another one for the next shot"
            raise ValueError(msg)
        if lr.ndim != 4 or tuple(lr.shape[1:]) != wanted or lr.shape[0] < 1 or not lr.is_floating_point():
            msg = f"`lr` must be float (n >= 1, {str(wanted)[1:]}, got {lr.dtype} {tuple(lr.shape)}"
            raise ValueError(msg)
        if self._pushed + lr.shape[0] > self._num_frames:
            msg = (
                f"{self._pushed + lr.shape[0]} frames were pushed, the request has {self._num_frames}; "
                "open one session per shot"
            )
            raise ValueError(msg)


BLIND_GUIDANCE = 1e-3
"""Guidance scales up to this are blind: keyframes are not looked at."""


def check_keyframe(index: int, keyframe: Keyframe, size: tuple[int, int]) -> Tensor:
    """Return the keyframe's image, ``(3, H, W)`` in [0, 1], after checking its size.

    Raises:
        KeyframeError: another size than the output's.
    """
    if tuple(keyframe.hr.shape) != (3, *size):
        msg = f"keyframe {index} is {tuple(keyframe.hr.shape)}; it must be (3, {size[0]}, {size[1]}), the output size"
        raise KeyframeError(msg)
    return keyframe.hr
