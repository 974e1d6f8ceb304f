"""How much memory each stage needs.

The activations come from ``tracing`` on the meta device with the model's own configs and blocks, not from a table; the
weights are counted. On top: ``SAFETY`` for what a trace cannot see (allocator fragments, kernel workspaces).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from sparkvsr.models.cogvideox.networks.lean_vae import make_lean
from sparkvsr.models.cogvideox.networks.precision import Precision, is_quantised_layer
from sparkvsr.models.cogvideox.networks.tiles import spans
from sparkvsr.models.cogvideox.networks.transformer import predict_velocity
from sparkvsr.models.cogvideox.networks.vae import (
    FRAME_GROUP,
    LATENT_GROUP,
    TILE_OVERLAP_CELLS,
    VideoVAE,
    group_sizes,
    num_latent_frames,
)
from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, build_vae
from sparkvsr.models.cogvideox.plan.geometry import SIDE_MULTIPLE, padded_size
from sparkvsr.models.cogvideox.plan.settings import TILE_OVERLAP_PX, RunSettings
from sparkvsr.models.tracing import copied_layouts, flops, peak_bytes

SAFETY = 1.12
FIXED_BYTES = 400 << 20
"""Device context and small buffers."""


COUNTED_CELLS = 8


@dataclass(frozen=True)
class Estimate:
    """Bytes by stage, weights on the device included."""

    encode: int
    transformer: int
    decode: int

    @property
    def peak(self) -> int:
        """The largest stage."""
        return max(self.encode, self.transformer, self.decode)


class MemoryModel:
    """Memory of one model in one precision.

    Args:
        transformer_config: as in its ``config.json``.
        vae_config: likewise.
        precision: number types.
        sequential: the transformer visits the device layer by layer.
        vae_layout: of the autoencoder's weights; ``channels_last`` costs copies around its norms.
    """

    def __init__(
        self,
        transformer_config: dict[str, Any],
        vae_config: dict[str, Any],
        precision: Precision,
        *,
        sequential: bool = False,
        vae_layout: str = "contiguous",
    ) -> None:
        self.dtype = precision.dtype
        self._config = transformer_config
        whole = build_transformer(transformer_config)
        self.transformer_weights = sum(_weight_bytes(name, layer, precision) for name, layer in whole.named_modules())
        if sequential:
            self.transformer_weights //= transformer_config["num_layers"]
        # Activations are alike in every layer: two show the peak of all.
        self._transformer = _cast(build_transformer({**transformer_config, "num_layers": 2}), self.dtype)
        self._layout = copied_layouts if vae_layout == "channels_last" else nullcontext
        self._vae = VideoVAE(make_lean(_cast(build_vae(vae_config), self.dtype)))
        self.vae_weights = sum(p.numel() for p in self._vae.vae.parameters()) * self.dtype.itemsize
        self._traced: dict[tuple[Any, ...], int] = {}

    def encode_bytes(self, cells: tuple[int, int], batch: int = 1) -> int:
        """Peak of encoding frames of ``cells`` latent cells, any length (two groups show it)."""

        def frames(start: int, stop: int) -> Tensor:
            return self._meta(batch, stop - start, 3, cells[0] * 8, cells[1] * 8)

        def encode() -> None:
            with self._layout():
                self._vae.encode_from(frames, 17)

        return self._trace(("encode", cells, batch), lambda: peak_bytes(encode))

    def decode_bytes(self, cells: tuple[int, int], batch: int = 1) -> int:
        """Peak of decoding, frames leaving the device group by group."""
        latents = self._meta(batch, 5, 16, *cells)

        def drop_pieces() -> None:
            with self._layout():
                for _ in self._vae.decode_pieces(latents):
                    pass

        return self._trace(("decode", cells, batch), lambda: peak_bytes(drop_pieces))

    def transformer_bytes(self, latents: tuple[int, int, int], batch: int = 1) -> int:
        """Peak of one pass over ``(f, h, w)`` latent cells, leading copies not counted in f."""
        frames = latents[0] + latents[0] % 2
        noisy = self._meta(batch, frames, 32, *latents[1:])
        prompt = self._meta(self._config["max_text_seq_length"], self._config["text_embed_dim"])
        return self._trace(
            ("transformer", latents, batch),
            lambda: peak_bytes(lambda: predict_velocity(self._transformer, noisy, prompt)),
        )

    def encode_flops(self, cells: tuple[int, int], num_frames: int) -> int:
        """FLOPs of encoding ``num_frames`` frames of ``cells`` latent cells. Groups are alike but for the first."""
        first, *rest = group_sizes(num_frames, FRAME_GROUP)
        return self._encode_group(cells, first) + len(rest) * self._encode_group(cells, FRAME_GROUP)

    def decode_flops(self, cells: tuple[int, int], num_latents: int) -> int:
        """FLOPs of decoding ``num_latents`` latent frames of ``cells`` latent cells."""
        first, *rest = group_sizes(num_latents, LATENT_GROUP)
        return self._decode_group(cells, first) + len(rest) * self._decode_group(cells, LATENT_GROUP)

    def transformer_flops(self, latents: tuple[int, int, int]) -> int:
        """FLOPs of one pass over ``(f, h, w)`` latent cells, leading copies not counted in f."""
        frames, height, width = latents
        noisy = self._meta(1, frames + frames % 2, 32, height, width)
        prompt = self._meta(self._config["max_text_seq_length"], self._config["text_embed_dim"])

        def count(layers: int) -> int:
            network = _cast(build_transformer({**self._config, "num_layers": layers}), self.dtype)
            return flops(lambda: predict_velocity(network, noisy, prompt))

        # Every layer costs the same: two counts give all.
        one, two = (self._trace(("flops", latents, layers), partial(count, layers)) for layers in (1, 2))
        return one + (self._config["num_layers"] - 1) * (two - one)

    # Convolutions cost the same for every latent cell: groups are counted on a small plane and scaled by area.

    def _encode_group(self, cells: tuple[int, int], size: int) -> int:
        frames = self._meta(1, size, 3, COUNTED_CELLS * 8, COUNTED_CELLS * 8)
        counted = self._trace(("encode flops", size), lambda: flops(lambda: self._vae.encode(frames)))
        return counted * cells[0] * cells[1] // COUNTED_CELLS**2

    def _decode_group(self, cells: tuple[int, int], size: int) -> int:
        latents = self._meta(1, size, 16, COUNTED_CELLS, COUNTED_CELLS)
        counted = self._trace(("decode flops", size), lambda: flops(lambda: list(self._vae.decode_pieces(latents))))
        return counted * cells[0] * cells[1] // COUNTED_CELLS**2

    def estimate(self, settings: RunSettings, size: tuple[int, int], *, guided_passes: int = 1) -> Estimate:
        """Estimate the peak of each stage for output frames of ``size`` (before padding)."""
        padded = padded_size(size)
        region = tile_region(settings, padded)
        cells = (region[0] // 8, region[1] // 8)
        frames = num_latent_frames(settings.chunk_frames)
        batch = settings.tile_batch

        # 1. Autoencoder: one tile at a time. Peaks grow with the area, so one trace of the whole frame serves all.
        frame = (padded[0] // 8, padded[1] // 8)
        part = batch * cells[0] * cells[1] / (frame[0] * frame[1])
        if settings.vae.reference:
            part *= min(1.0, 30 * 45 / (cells[0] * cells[1]))
        elif settings.vae.tile is not None:
            row = spans(cells[0], settings.vae.tile[0], TILE_OVERLAP_CELLS)[0]
            column = spans(cells[1], settings.vae.tile[1], TILE_OVERLAP_CELLS)[0]
            part *= (row[1] * column[1]) / (cells[0] * cells[1])
        pixels = padded[0] * padded[1] * 3
        encode = self.encode_bytes(frame) * part + 2 * 9 * pixels * 4
        decode = self.decode_bytes(frame) * part
        if settings.vae.reference:
            encode += batch * settings.chunk_frames * pixels * (4 + 2 * self.dtype.itemsize)
            decode += 2 * batch * settings.chunk_frames * pixels * (4 + self.dtype.itemsize)

        # 2. Transformer.
        passes = 2 if guided_passes == 2 and settings.batch_guidance else 1
        # Linear in the tokens as attention is fused; one trace of ten latent frames serves all.
        text = self._config["max_text_seq_length"]
        tokens = (frames + frames % 2) // 2 * (cells[0] // 2) * (cells[1] // 2) + text
        traced_tokens = 5 * (frame[0] // 2) * (frame[1] // 2) + text
        transformer = self.transformer_bytes((10, *frame)) * batch * passes * tokens / traced_tokens

        # 3. What lies there all the time.
        latents = 8 * frames * 16 * padded[0] * padded[1] // 64 * self.dtype.itemsize
        vae_home = self.vae_weights if settings.swap else self.vae_weights + self.transformer_weights
        transformer_home = self.transformer_weights if settings.swap else vae_home
        beside = decode if settings.overlap_stages else 0
        return Estimate(
            encode=int(SAFETY * (encode + beside + latents)) + vae_home + FIXED_BYTES,
            transformer=int(SAFETY * (transformer + beside + latents)) + transformer_home + FIXED_BYTES,
            decode=int(SAFETY * (decode + latents)) + vae_home + FIXED_BYTES,
        )

    def _meta(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.dtype, device="meta")

    def _trace(self, key: tuple[Any, ...], work: Callable[[], int]) -> int:
        if key not in self._traced:
            self._traced[key] = work()
        return self._traced[key]


def _cast(network: nn.Module, dtype: torch.dtype) -> nn.Module:
    """Cast without the library's override of ``to``, which logs a warning about nothing."""
    return nn.Module.to(network, dtype)


def tile_region(settings: RunSettings, padded: tuple[int, int]) -> tuple[int, int]:
    """Pixels of one tile of the whole model (the frame itself without tiles)."""
    if settings.tile_px is None:
        return padded
    rows = spans(padded[0], settings.tile_px[0], TILE_OVERLAP_PX, SIDE_MULTIPLE)
    columns = spans(padded[1], settings.tile_px[1], TILE_OVERLAP_PX, SIDE_MULTIPLE)
    return (rows[0][1], columns[0][1])


def _weight_bytes(name: str, layer: nn.Module, precision: Precision) -> int:
    itemsize = precision.dtype.itemsize
    own = sum(parameter.numel() for parameter in layer.parameters(recurse=False)) * itemsize
    if precision.storage != "full" and is_quantised_layer(name, layer):
        weight: Tensor = layer.weight  # type: ignore[assignment]
        own -= weight.numel() * (itemsize - 1)
    return own
