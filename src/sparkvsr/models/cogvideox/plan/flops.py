"""Useful and executed FLOPs of a plan, by flop counter on the meta device.

*Executed* is what a session with these settings runs: padding, overlaps of chunks and of tiles, tiles of the
autoencoder, keyframes. *Useful* is the same chunks run on whole frames without tiles, counted only for the frames and
pixels that come out. The ratio is what cutting costs (docs/method.md 7.2).
"""

from __future__ import annotations

from dataclasses import dataclass

from sparkvsr.models.cogvideox.networks.tiles import spans
from sparkvsr.models.cogvideox.networks.vae import TILE_OVERLAP_CELLS, num_latent_frames
from sparkvsr.models.cogvideox.plan.chunks import plan_chunks
from sparkvsr.models.cogvideox.plan.geometry import SIDE_MULTIPLE, padded_size
from sparkvsr.models.cogvideox.plan.memory import MemoryModel
from sparkvsr.models.cogvideox.plan.settings import TILE_OVERLAP_PX, RunSettings

REFERENCE_TILE = (30, 45)
REFERENCE_STEPS = (25, 36)
"""Latent cells of the library's tiles and of their steps (docs/method.md 2.4), for the real autoencoder's config."""


@dataclass(frozen=True)
class PlanFlops:
    """FLOPs of one shot.

    Attributes:
        encode: executed in VAE encoding.
        transformer: executed in the transformer.
        decode: executed in VAE decoding.
        useful: see the module.
    """

    encode: int
    transformer: int
    decode: int
    useful: int

    @property
    def executed(self) -> int:
        """Sum of the stages."""
        return self.encode + self.transformer + self.decode

    @property
    def ratio(self) -> float:
        """Executed over useful."""
        return self.executed / self.useful


def plan_flops(
    memory: MemoryModel,
    settings: RunSettings,
    size: tuple[int, int],
    num_frames: int,
    *,
    num_keyframes: int = 0,
    guided_passes: int = 1,
) -> PlanFlops:
    """Count the FLOPs of restoring a shot.

    Args:
        memory: holds the meta networks.
        settings: of the run.
        size: ``(H, W)`` output.
        num_frames: of the shot.
        num_keyframes: encoded keyframes over all chunks (each chunk encodes its own).
        guided_passes: 1 or 2.
    """
    padded = padded_size(size)
    chunks = plan_chunks(num_frames, settings.chunk_frames)
    lengths = [chunk.stop - chunk.start for chunk in chunks]
    tile = settings.tile_px or padded
    rows = spans(padded[0], tile[0], TILE_OVERLAP_PX, SIDE_MULTIPLE)
    columns = spans(padded[1], tile[1], TILE_OVERLAP_PX, SIDE_MULTIPLE)
    region, frame = (rows[0][1] // 8, columns[0][1] // 8), (padded[0] // 8, padded[1] // 8)
    tiles = len(rows) * len(columns)

    # 1. Executed.
    encode = decode = transformer = 0
    for cells, count in _vae_tiles(settings, region).items():
        encode += count * tiles * sum(memory.encode_flops(cells, length) for length in lengths)
        encode += count * tiles * num_keyframes * memory.encode_flops(cells, 1)
        decode += count * tiles * sum(memory.decode_flops(cells, num_latent_frames(length)) for length in lengths)
    for length in lengths:
        transformer += tiles * guided_passes * memory.transformer_flops((num_latent_frames(length), *region))

    # 2. Useful: whole frames, and only what comes out.
    whole = sum(
        memory.encode_flops(frame, length)
        + memory.transformer_flops((num_latent_frames(length), *frame)) * guided_passes
        + memory.decode_flops(frame, num_latent_frames(length))
        for length in lengths
    )
    share = num_frames / sum(lengths) * (size[0] * size[1]) / (padded[0] * padded[1])
    useful = int(whole * share) + num_keyframes * memory.encode_flops(frame, 1)
    return PlanFlops(encode, transformer, decode, useful)


def _vae_tiles(settings: RunSettings, region: tuple[int, int]) -> dict[tuple[int, int], int]:
    """Sizes of the autoencoder's tiles in latent cells, with how often each occurs."""
    if settings.vae.reference and (region[0] > REFERENCE_TILE[0] or region[1] > REFERENCE_TILE[1]):
        found: dict[tuple[int, int], int] = {}
        for top in range(0, region[0], REFERENCE_STEPS[0]):
            for left in range(0, region[1], REFERENCE_STEPS[1]):
                cells = (min(REFERENCE_TILE[0], region[0] - top), min(REFERENCE_TILE[1], region[1] - left))
                found[cells] = found.get(cells, 0) + 1
        return found
    if settings.vae.tile is None:
        return {region: 1}
    rows = spans(region[0], settings.vae.tile[0], TILE_OVERLAP_CELLS)
    columns = spans(region[1], settings.vae.tile[1], TILE_OVERLAP_CELLS)
    return {(rows[0][1], columns[0][1]): len(rows) * len(columns)}
