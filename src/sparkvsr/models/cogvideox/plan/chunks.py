"""Cutting a shot into overlapping chunks. Pure functions.

The autoencoder keeps the length only of clips of 8n + 1 frames, and the keyframe slots are exact only where a chunk
starts at a multiple of 4; the published code breaks both (docs/method.md 8.2). Here every chunk has 8n + 1 frames and
starts at a multiple of 8, none is merged or much shorter than the others, and overlaps have 8n + 1 frames, so that the
last shared frame, which ``carry`` uses as a keyframe, has a local index that is a multiple of 8.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

STEP = 8
MIN_CHUNK = 9
OVERLAP_FRAMES = 9


@dataclass(frozen=True)
class Chunk:
    """Frames ``[start, stop)`` of the padded shot; frames at and past its end repeat the last one."""

    start: int
    stop: int


def padded_length(num_frames: int) -> int:
    """Smallest 8n + 1 that holds ``num_frames``."""
    return -(-(num_frames - 1) // STEP) * STEP + 1


def largest_chunk(chunk_frames: int) -> int:
    """Largest 8n + 1 within ``chunk_frames``, at least ``MIN_CHUNK``."""
    return max((chunk_frames - 1) // STEP * STEP + 1, MIN_CHUNK)


def fit_overlap(chunk_frames: int, overlap_frames: int = OVERLAP_FRAMES) -> int:
    """Overlap that leaves a chunk at least one step of new frames: 9, or 1 for chunks of 9 frames."""
    return min(largest_chunk(overlap_frames), chunk_frames - STEP)


def plan_chunks(num_frames: int, chunk_frames: int, overlap_frames: int = OVERLAP_FRAMES) -> list[Chunk]:
    """Cut a shot into the fewest chunks, as equally long as steps of 8 allow.

    Args:
        num_frames: frames of the shot, >= 1.
        chunk_frames: most frames at once; rounded down to 8n + 1, at least 9.
        overlap_frames: frames shared by neighbours, 8n + 1.

    Returns:
        Chunks in order: lengths are 8n + 1 and differ by one step at most, starts are multiples of 8, together they
        cover ``[0, padded_length(num_frames))`` and no more; neighbours share exactly ``fit_overlap`` frames.

    Raises:
        ValueError: ``num_frames`` below 1.
    """
    if num_frames < 1:
        msg = f"a shot has at least one frame, got {num_frames}"
        raise ValueError(msg)
    total, most = padded_length(num_frames), largest_chunk(chunk_frames)
    if total <= most:
        return [Chunk(0, total)]
    # In steps of 8: a chunk has n steps and one frame, an overlap m steps and one frame.
    steps, size, shared = (total - 1) // STEP, (most - 1) // STEP, (fit_overlap(most, overlap_frames) - 1) // STEP
    count = -(-(steps - shared) // (size - shared))
    even, longer = divmod(steps + (count - 1) * shared, count)
    chunks, start = [], 0
    for index in range(count):
        stop = start + even + (index < longer)
        chunks.append(Chunk(start * STEP, stop * STEP + 1))
        start = stop - shared
    return chunks


def fade_in_weights(count: int) -> Tensor:
    """Share of the later chunk in each frame of a cross-fade, ``(count, 1, 1, 1)`` float32, rising, never 0 or 1."""
    return ((torch.arange(count, dtype=torch.float32) + 1) / (count + 1)).view(-1, 1, 1, 1)


def pad_frames(frames: Tensor, length: int) -> Tensor:
    """Repeat the last of ``(n, C, H, W)``, of any range, until there are ``length``."""
    missing = length - frames.shape[0]
    return torch.cat([frames, frames[-1:].expand(missing, -1, -1, -1)]) if missing > 0 else frames
