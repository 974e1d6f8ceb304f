"""One chunk with tiles, colour and recovery from a full memory.

Runs the three stages of ``ChunkPipeline`` over all tiles of a chunk. When a stage runs out of memory, the settings are
backed off one step and that stage alone is run again; what earlier stages gave is kept. Only where the tiles or the
chunk itself have to shrink does the chunk start over (``GeometryChangedError``); finished chunks are never touched.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor

from sparkvsr.errors import ResourceError
from sparkvsr.models.cogvideox.colour_fix import transfer_colour
from sparkvsr.models.cogvideox.networks.tiles import Canvas, spans
from sparkvsr.models.cogvideox.networks.vae import FRAME_GROUP
from sparkvsr.models.cogvideox.pipeline import ChunkPipeline, Region
from sparkvsr.models.cogvideox.plan.geometry import SIDE_MULTIPLE, padded_size, upsample
from sparkvsr.models.cogvideox.plan.settings import TILE_OVERLAP_PX, Phase, RunSettings, back_off
from sparkvsr.models.device import is_out_of_memory

_log = logging.getLogger(__name__)
Result = TypeVar("Result")


class GeometryChangedError(Exception):
    """Tiles or chunk length changed after an out-of-memory error: the chunk has to start over. Internal."""


def release_memory() -> None:
    """Give cached blocks back, so that the next attempt starts from free memory."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


class ChunkRunner:
    """Restores chunks of one shot.

    Args:
        pipeline: the networks.
        size: ``(H, W)`` output.
        guidance_scale: see the model interface.
        colour: see ``transfer_colour``.
        settings: how to run; replaced as memory runs out.
        can_swap: networks may be moved off the device.
        fixed_vae: the user fixed the autoencoder's tiling.
        seed: for posterior sampling.
    """

    def __init__(
        self,
        pipeline: ChunkPipeline,
        size: tuple[int, int],
        *,
        guidance_scale: float,
        colour: str,
        settings: RunSettings,
        can_swap: bool = False,
        fixed_vae: bool = False,
        seed: int = 42,
    ) -> None:
        self.settings = settings
        self.notes: list[str] = []
        self._pipeline, self._size, self._padded = pipeline, size, padded_size(size)
        self._guidance_scale, self._colour, self._seed = guidance_scale, colour, seed
        self._can_swap, self._fixed_vae = can_swap, fixed_vae

    def encode(self, lr: Tensor, start: int) -> list[Tensor]:
        """Encode the LR frames of a chunk, ``(L, 3, h, w)``: one ``(B, f, 16, th, tw)`` per batch of tiles.

        Args:
            lr: 8n + 1 frames in [0, 1].
            start: the chunk's first frame within the shot; only seeds the posterior draw.
        """

        def work(settings: RunSettings) -> list[Tensor]:
            batches = self._batches(settings)
            return [
                self._pipeline.encode(lr, self._size, regions, settings, self._generator(start, number))
                for number, regions in enumerate(batches)
            ]

        return self._attempt("encode", work)

    def restore(
        self, lr_latents: list[Tensor], keyframes: Mapping[int, tuple[Tensor, float]], start: int
    ) -> list[Tensor]:
        """Encode the keyframes and run the transformer over all batches of tiles.

        Args:
            lr_latents: from ``encode``.
            keyframes: ``(3, H, W)`` image and weight by frame index within the chunk.
            start: as in ``encode``.
        """

        def encode(settings: RunSettings) -> list[dict[int, Tensor]]:
            return [
                self._pipeline.encode_keyframes(keyframes, regions, settings, self._generator(start, -1 - number))
                for number, regions in enumerate(self._batches(settings))
            ]

        def transform(settings: RunSettings) -> list[Tensor]:
            return [
                self._pipeline.restore(latents, encoded, self._guidance_scale, settings)
                for latents, encoded in zip(lr_latents, keyframe_latents, strict=True)
            ]

        keyframe_latents = self._attempt("encode", encode)
        return self._attempt("transformer", transform)

    def decode(self, latents: list[Tensor], lr: Tensor) -> Tensor:
        """Decode, join tiles, crop the padding and fix the colour: ``(L, 3, H, W)`` float32 in [0, 1] on the CPU."""

        def work(settings: RunSettings) -> Tensor:
            rows, columns = self._grid(settings)
            height, width = self._size
            if len(rows) == len(columns) == 1:
                pieces = list(self._pipeline.decode(latents[0], settings.vae, settings.swap))
                return torch.cat(pieces, dim=1)[0, ..., :height, :width]
            canvas = Canvas(rows, columns, unit=1)
            batches = iter(self._tile_positions(settings))
            for batch in latents:
                decoded = torch.cat(list(self._pipeline.decode(batch, settings.vae, settings.swap)), dim=1)
                for tile in decoded:
                    row, column = next(batches)
                    canvas.add(tile[None], row, column)
            return canvas.result()[0, ..., :height, :width]

        return self._fix_colour(self._attempt("decode", work), lr)

    def decode_aside(self, latents: list[Tensor], lr: Tensor) -> Tensor:
        """``decode`` for a worker thread: on a CUDA stream of its own, after what the caller has queued; in [0, 1]."""
        if self._pipeline.device.type != "cuda":
            return self.decode(latents, lr)
        with torch.cuda.device(self._pipeline.device):
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.default_stream())
            with torch.cuda.stream(side):
                for batch in latents:
                    batch.record_stream(side)
                return self.decode(latents, lr)

    def _fix_colour(self, frames: Tensor, lr: Tensor) -> Tensor:
        if self._colour == "none":
            return frames
        device = self._pipeline.device
        parts = []
        for start in range(0, frames.shape[0], FRAME_GROUP):
            part = frames[start : start + FRAME_GROUP].to(device)
            reference = upsample(lr[start : start + FRAME_GROUP].to(device), self._size)
            parts.append(transfer_colour(part, reference, self._colour).cpu())
        return torch.cat(parts)

    # --- tiles ---

    def _grid(self, settings: RunSettings) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        tile = settings.tile_px or self._padded
        return (
            spans(self._padded[0], tile[0], TILE_OVERLAP_PX, SIDE_MULTIPLE),
            spans(self._padded[1], tile[1], TILE_OVERLAP_PX, SIDE_MULTIPLE),
        )

    def _tile_positions(self, settings: RunSettings) -> list[tuple[int, int]]:
        rows, columns = self._grid(settings)
        return [(i, j) for i in range(len(rows)) for j in range(len(columns))]

    def _batches(self, settings: RunSettings) -> list[list[Region]]:
        rows, columns = self._grid(settings)
        regions = [(*rows[i], *columns[j]) for i, j in self._tile_positions(settings)]
        return [regions[i : i + settings.tile_batch] for i in range(0, len(regions), settings.tile_batch)]

    def _generator(self, start: int, number: int) -> torch.Generator:
        """A stream of its own for each chunk and batch of tiles: results do not depend on what ran before."""
        mixed = (self._seed * 1_000_003 + start) * 1_000_003 + number
        return torch.Generator().manual_seed(mixed % (1 << 63))

    # --- memory ---

    def _attempt(self, phase: Phase, work: Callable[[RunSettings], Result]) -> Result:
        while True:
            try:
                return work(self.settings)
            except (RuntimeError, MemoryError) as exc:
                if not is_out_of_memory(exc):
                    raise
                self._shrink(phase, exc)
            # Outside the handler: the traceback that keeps the failed stage's tensors alive is gone by now.
            release_memory()

    def _shrink(self, phase: Phase, exc: BaseException) -> None:
        before = self.settings
        smaller = back_off(before, phase, self._padded, can_swap=self._can_swap, fixed_vae=self._fixed_vae)
        if smaller is None:
            msg = (
                f"out of memory in the {phase} stage with the smallest settings ({before.describe()}); "
                "use a smaller --scale, --offload sequential, --precision int8, or another device; the last error was: "
                f"{(str(exc).splitlines() or [type(exc).__name__])[0][:200]}"
            )
            raise ResourceError(msg) from exc
        note = f"out of memory in the {phase} stage: going on with {smaller.describe()}"
        self.notes.append(note)
        _log.warning(note)
        self.settings = smaller
        geometry = (before.tile_px, before.tile_batch, before.chunk_frames, before.overlap_stages)
        if geometry != (smaller.tile_px, smaller.tile_batch, smaller.chunk_frames, smaller.overlap_stages):
            raise GeometryChangedError from None
