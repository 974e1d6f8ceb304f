"""The best settings that fit into the memory there is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from sparkvsr.errors import ResourceError
from sparkvsr.models.cogvideox.networks.tiles import spans
from sparkvsr.models.cogvideox.networks.vae import (
    TILE_OVERLAP_CELLS,
    VaeTiling,
)
from sparkvsr.models.cogvideox.plan.chunks import MIN_CHUNK, largest_chunk, padded_length, plan_chunks
from sparkvsr.models.cogvideox.plan.geometry import SIDE_MULTIPLE, padded_size
from sparkvsr.models.cogvideox.plan.memory import Estimate, MemoryModel, tile_region
from sparkvsr.models.cogvideox.plan.settings import MIN_TILE_PX, MIN_VAE_TILE, TILE_OVERLAP_PX, RunSettings

LONGEST_CHUNK = 145
"""Longest chunk chosen by itself. An overlap of 9 costs less in a longer one, attention more."""


ATTENTION_COST = 0.0008
"""Waste that a frame more in a chunk counts for: attention grows with the square."""


SHORTEST_GOOD_CHUNK = 33
"""What the weights were trained on."""


MOST_TILES_PER_SIDE = 12


VAE_SHARE = 0.7
"""Share of the autoencoder in the work of a 720p chunk (docs/method.md 7.1); weighs tile waste."""


@lru_cache(maxsize=64)
def grids(
    cells: tuple[int, int], overlap: int, least: int, multiple: int
) -> tuple[tuple[tuple[int, int] | None, float], ...]:
    """Tile sizes worth trying for a plane, with their waste (processed over covered area), least waste first."""
    found: dict[tuple[int, int] | None, float] = {None: 1.0}
    for rows in range(1, MOST_TILES_PER_SIDE + 1):
        for columns in range(1, MOST_TILES_PER_SIDE + 1):
            tile: Any = tuple(
                -(-(side + (count - 1) * overlap) // (count * multiple)) * multiple
                for side, count in zip(cells, (rows, columns), strict=True)
            )
            if rows * columns == 1 or min(tile) < min(least, *cells):
                continue
            area = 1
            for side, part in zip(cells, tile, strict=True):
                pieces = spans(side, part, overlap, multiple)
                area *= sum(stop - start for start, stop in pieces)
            found[tile] = area / (cells[0] * cells[1])
    kept: list[tuple[tuple[int, int] | None, float]] = []
    least_area = float("inf")
    for size, waste in sorted(found.items(), key=lambda item: item[1]):
        # Only what is smaller than everything with less waste can ever be the choice.
        size_area = math.inf if size is None else size[0] * size[1]
        if size is None or size_area < least_area:
            kept.append((size, waste))
            least_area = min(least_area, size_area)
    return tuple(kept)


def choose_settings(
    memory: MemoryModel,
    size: tuple[int, int],
    num_frames: int,
    memory_bytes: int,
    *,
    guided_passes: int = 1,
    can_swap: bool = False,
    swap: bool = False,
    vae_tiling: str = "auto",
    longest_chunk: int = LONGEST_CHUNK,
    tile_px: tuple[int, int] | None = None,
    fixed: bool = False,
) -> RunSettings:
    """Choose the settings with the least wasted work that fit.

    Args:
        memory: memory model.
        size: ``(H, W)`` output.
        num_frames: of the shot.
        memory_bytes: for everything, weights included.
        guided_passes: 1 or 2.
        can_swap: networks may be moved off the device.
        swap: they always are (``--offload model``).
        vae_tiling: ``auto``, ``on``, ``off``.
        longest_chunk: upper bound.
        tile_px: the only tile of the whole model to consider, with ``fixed``.
        fixed: chunk and tile were asked for: that tile, and the longest chunk that fits.

    Raises:
        ResourceError: not even the smallest settings fit; says what they need.
    """
    smallest: Estimate | None = None
    swaps = (True,) if swap else (False, True) if can_swap else (False,)
    candidates = _candidates(size, num_frames, guided_passes, swaps, vae_tiling, longest_chunk, tile_px, fixed=fixed)
    for settings, _ in sorted(candidates, key=lambda candidate: candidate[1]):
        estimate = memory.estimate(settings, size, guided_passes=guided_passes)
        if estimate.peak <= memory_bytes:
            return settings
        if smallest is None or estimate.peak < smallest.peak:
            smallest = estimate
    assert smallest is not None
    msg = (
        f"{memory_bytes / 2**30:.1f} GiB of memory are too little for {size[1]}x{size[0]}: the smallest settings "
        f"need {smallest.peak / 2**30:.1f} GiB; use a smaller --scale, --precision int8 or --offload sequential"
    )
    raise ResourceError(msg)


def _candidates(
    size: tuple[int, int],
    num_frames: int,
    guided_passes: int,
    swaps: tuple[bool, ...],
    vae_tiling: str,
    longest_chunk: int,
    tile_px: tuple[int, int] | None,
    *,
    fixed: bool,
) -> Iterator[tuple[RunSettings, float]]:
    """All settings with their waste: work done over work needed, plus a little for what is slower or less exact."""
    padded = padded_size(size)
    asked = {largest_chunk(min(longest_chunk, length)) for length in (*CHUNKS, longest_chunk)}
    # The longest chunk of the plan, which may be shorter than the bound that led to it.
    lengths = {max(chunk.stop - chunk.start for chunk in plan_chunks(num_frames, length)) for length in asked}
    whole_tiles = grids(padded, TILE_OVERLAP_PX, MIN_TILE_PX, SIDE_MULTIPLE)
    if fixed:
        whole_tiles = ((tile_px, 1.0),)
    for tile, tile_waste in whole_tiles:
        region = tile_region(RunSettings(MIN_CHUNK, tile), padded)
        for vae, vae_waste in _vae_tilings((region[0] // 8, region[1] // 8), vae_tiling):
            for length in lengths:
                chunk_waste = _chunk_waste(num_frames, length)
                for swap in swaps:
                    for batched in (True, False) if guided_passes == 2 else (True,):
                        waste = chunk_waste * tile_waste * (1 - VAE_SHARE + VAE_SHARE * vae_waste)
                        # Tiles of the whole model change the picture more than those of the autoencoder.
                        waste += (longest_chunk - length) * fixed
                        # Short chunks have an overlap of one frame and little context: a last resort.
                        waste += 0.5 * (length < min(SHORTEST_GOOD_CHUNK, padded_length(num_frames)))
                        # Swapping moves the transformer twice per chunk.
                        waste += 0.03 * (tile is not None) + 0.1 * swap + 0.005 * (not batched)
                        yield RunSettings(length, tile, 1, vae, batched, swap), waste


CHUNKS = (145, 129, 113, 105, 97, 81, 65, 57, 49, 41, 33, 25, 17, 9)


@lru_cache(maxsize=256)
def _chunk_waste(num_frames: int, chunk_frames: int) -> float:
    lengths = [chunk.stop - chunk.start for chunk in plan_chunks(num_frames, chunk_frames)]
    return sum(lengths) / num_frames + ATTENTION_COST * max(lengths)


def _vae_tilings(cells: tuple[int, int], vae_tiling: str) -> Iterator[tuple[VaeTiling, float]]:
    if vae_tiling == "on":
        yield VaeTiling(reference=True), 1.43
    elif vae_tiling == "off":
        yield VaeTiling(), 1.0
    else:
        for tile, waste in grids(cells, TILE_OVERLAP_CELLS, MIN_VAE_TILE, 1):
            yield VaeTiling(tile), waste


def with_tile_batch(
    memory: MemoryModel,
    settings: RunSettings,
    size: tuple[int, int],
    memory_bytes: int,
    guided_passes: int,
    *,
    aside: bool,
) -> RunSettings:
    """Run as many tiles at once as fit (a power of two) and, with ``aside``, overlap stages if both fit."""
    while settings.tile_px is not None and settings.tile_batch < 8:
        doubled = replace(settings, tile_batch=settings.tile_batch * 2)
        if memory.estimate(doubled, size, guided_passes=guided_passes).peak > memory_bytes:
            break
        settings = doubled
    overlapped = replace(settings, overlap_stages=True)
    if (
        aside
        and not settings.swap
        and memory.estimate(overlapped, size, guided_passes=guided_passes).peak <= memory_bytes
    ):
        return overlapped
    return settings
