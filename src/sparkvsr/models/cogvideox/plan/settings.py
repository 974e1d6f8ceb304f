"""How one chunk is run, and what to give up first when memory is short.

``RunSettings`` is what the memory plan chooses and what the session backs off from after an out-of-memory error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from sparkvsr.models.cogvideox.networks.vae import TILE_OVERLAP_CELLS, WHOLE_FRAMES, VaeTiling
from sparkvsr.models.cogvideox.plan.chunks import MIN_CHUNK, STEP, largest_chunk
from sparkvsr.models.cogvideox.plan.geometry import SIDE_MULTIPLE

Phase = Literal["encode", "transformer", "decode"]

MIN_VAE_TILE = 16
"""Latent cells (128 pixels): below it most of a tile is overlap."""
MIN_TILE_PX = 128
TILE_OVERLAP_PX = 48


@dataclass(frozen=True)
class RunSettings:
    """Settings of one chunk.

    Attributes:
        chunk_frames: most frames restored at once, 8n + 1.
        tile_px: ``(rows, columns)`` of the largest tile of the whole model in output pixels, multiples of 16; None
            for whole frames.
        tile_batch: tiles run at once.
        vae: how the autoencoder cuts what it is given.
        batch_guidance: both guidance passes in one batch of two.
        swap: only the network at work is on the device (``--offload model``).
        overlap_stages: encode the next chunk while the last one is decoded.
    """

    chunk_frames: int
    tile_px: tuple[int, int] | None = None
    tile_batch: int = 1
    vae: VaeTiling = WHOLE_FRAMES
    batch_guidance: bool = True
    swap: bool = False
    overlap_stages: bool = False

    def describe(self) -> str:
        """One line for the user."""
        tile = "whole frames" if self.tile_px is None else f"tiles of {self.tile_px[0]}x{self.tile_px[1]} px"
        if self.vae.reference:
            vae = "reference tiles"
        elif self.vae.tile is None:
            vae = "whole"
        else:
            vae = f"tiles of {self.vae.tile[0] * 8}x{self.vae.tile[1] * 8} px"
        extra = ", one network on the device at a time" * self.swap + ", two guidance passes" * (
            not self.batch_guidance
        )
        return f"chunks of {self.chunk_frames} frames, {tile}, VAE {vae}{extra}"


def back_off(
    settings: RunSettings, phase: Phase, size: tuple[int, int], *, can_swap: bool, fixed_vae: bool
) -> RunSettings | None:
    """Return the next smaller settings after ``phase`` ran out of memory, or None if there is nothing left to give up.

    The order is by cost: what changes nothing in the picture first, then autoencoder tiles (or, for the transformer,
    shorter chunks down to 33 frames), then tiles of the whole model.

    Args:
        settings: what ran out of memory.
        phase: where.
        size: padded output size of a frame.
        can_swap: networks can be moved off the device.
        fixed_vae: the user fixed the autoencoder's tiling.
    """
    if settings.overlap_stages:
        return replace(settings, overlap_stages=False)
    if phase == "transformer" and settings.batch_guidance:
        return replace(settings, batch_guidance=False)
    if settings.tile_batch > 1:
        return replace(settings, tile_batch=settings.tile_batch // 2)
    if can_swap and not settings.swap:
        return replace(settings, swap=True)
    if phase == "transformer":
        if settings.chunk_frames > 33:
            return replace(settings, chunk_frames=largest_chunk(max(33, settings.chunk_frames // 2)))
        return _smaller_tile(settings, size) or _shorter_chunk(settings)
    region = settings.tile_px or size
    if not fixed_vae and not settings.vae.reference:
        tile = settings.vae.tile or (region[0] // 8, region[1] // 8)
        halved = halve_longer(tile, TILE_OVERLAP_CELLS, MIN_VAE_TILE)
        if halved is not None:
            return replace(settings, vae=VaeTiling(halved))
    return _smaller_tile(settings, size)


def _smaller_tile(settings: RunSettings, size: tuple[int, int]) -> RunSettings | None:
    tile = halve_longer(settings.tile_px or size, TILE_OVERLAP_PX, MIN_TILE_PX, SIDE_MULTIPLE)
    return None if tile is None else replace(settings, tile_px=tile)


def _shorter_chunk(settings: RunSettings) -> RunSettings | None:
    if settings.chunk_frames <= MIN_CHUNK:
        return None
    return replace(settings, chunk_frames=largest_chunk(settings.chunk_frames - STEP))


def halve_longer(tile: tuple[int, int], overlap: int, least: int, multiple: int = 1) -> tuple[int, int] | None:
    """Cut the longer side so that two such spans cover it with their overlap; None below ``least``."""
    longer = 0 if tile[0] >= tile[1] else 1
    side = -(-(tile[longer] + overlap) // (2 * multiple)) * multiple
    if side < least or side >= tile[longer]:
        return None
    return (side, tile[1]) if longer == 0 else (tile[0], side)
