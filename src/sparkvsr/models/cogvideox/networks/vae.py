"""Pixels to latents and back. The one module that permutes axes and leaves the [0, 1] range.

Shapes: B batch, F pixel frames, f latent frames, H W pixels, h = H / 8, w = W / 8. Outside this module pixels are
``(B, F, 3, H, W)`` in [0, 1] and latents ``(B, f, 16, h, w)``, already multiplied by the VAE's factor; the autoencoder
itself wants ``(B, C, F, H, W)`` in [-1, 1].

The autoencoder is causal in time and works in groups of 8 frames (2 latent frames), the first group also taking the
remainder (docs/method.md 2.4). The library walks the groups inside one call and so needs the whole clip at once;
``EncodeStream`` and ``DecodeStream`` walk the same groups with the same cache, piece by piece, and give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sparkvsr.models.cogvideox.networks.tiles import Canvas, spans

SPATIAL_RATIO = 8
FRAME_GROUP = 8
LATENT_GROUP = 2
LATENT_CHANNELS = 16
TILE_OVERLAP_CELLS = 6

FrameSource = Callable[[int, int], Tensor]
"""``(start, stop)`` to ``(B, stop - start, 3, H, W)`` in [0, 1] on the device."""


@dataclass(frozen=True)
class VaeTiling:
    """How the autoencoder cuts a frame.

    Attributes:
        tile: ``(rows, columns)`` in latent cells of the largest tile; None for whole frames.
        reference: use the library's own tile geometry (240x360 pixels, 1.43 times the work): what the published
            commands run, for pixel comparisons with them.
    """

    tile: tuple[int, int] | None = None
    reference: bool = False


WHOLE_FRAMES = VaeTiling()


def _drawn(shape: tuple[int, ...], generator: torch.Generator | Sequence[torch.Generator] | None) -> Tensor:
    """Normal noise on the CPU; with a generator for each clip, that of a clip does not depend on its neighbours."""
    if isinstance(generator, Sequence):
        return torch.cat([torch.randn(1, *shape[1:], generator=one) for one in generator])
    return torch.randn(shape, generator=generator, dtype=torch.float32)


def group_sizes(length: int, group: int) -> list[int]:
    """Lengths of the groups the autoencoder walks: the first one also takes the remainder."""
    count = max(length // group, 1)
    return [length - (count - 1) * group] + [group] * (count - 1)


def num_latent_frames(num_frames: int) -> int:
    """Latent frames of a clip of 8n + 1 (or 8n) frames."""
    return (num_frames - 1) // 4 + 1


class _Stream:
    """Hold items back until the next group is complete, then run it with the cache of the one before."""

    def __init__(self, network: nn.Module, length: int, group: int) -> None:
        self._network = network
        self._groups = group_sizes(length, group)
        self._held: Tensor | None = None
        self._cache: Any = None

    def push(self, items: Tensor) -> Iterator[Tensor]:
        """Take ``(B, C, n, H, W)`` and yield the result of each group that is now complete, ``(B, C', m, H', W')``."""
        self._held = items if self._held is None else torch.cat([self._held, items], dim=2)
        while self._groups and self._held.shape[2] >= self._groups[0]:
            size = self._groups.pop(0)
            piece, self._held = self._held[:, :, :size], self._held[:, :, size:]
            result, self._cache = self._network(piece, conv_cache=self._cache)
            yield result
        if not self._groups:
            self._cache = None


class EncodeStream:
    """Encode a clip of known length piece by piece.

    Args:
        codec: the autoencoder.
        num_frames: length of the clip, 1 or 8n or 8n + 1.
    """

    def __init__(self, codec: VideoVAE, num_frames: int) -> None:
        self._codec = codec
        self._stream = _Stream(codec.vae.encoder, num_frames, FRAME_GROUP)

    def push(self, frames: Tensor) -> Iterator[Tensor]:
        """Take ``(B, n, 3, H, W)`` in [0, 1]; yield moments ``(B, m, 32, h, w)`` as groups complete."""
        for moments in self._stream.push(self._codec.to_network(frames)):
            yield moments.transpose(1, 2)


class DecodeStream:
    """Decode latents of known count piece by piece.

    Args:
        codec: the autoencoder.
        num_latents: latent frames of the clip.
    """

    def __init__(self, codec: VideoVAE, num_latents: int) -> None:
        self._codec = codec
        self._stream = _Stream(codec.vae.decoder, num_latents, LATENT_GROUP)

    def push(self, latents: Tensor) -> Iterator[Tensor]:
        """Take ``(B, n, 16, h, w)`` scaled latents; yield ``(B, m, 3, H, W)`` float32 in [0, 1] as groups complete."""
        scaled = (latents / self._codec.scaling_factor).to(self._codec.dtype).transpose(1, 2)
        for frames in self._stream.push(scaled):
            yield self._codec.from_network(frames)


class VideoVAE:
    """The autoencoder behind house conventions.

    Args:
        vae: an ``AutoencoderKLCogVideoX``.
        posterior: ``mode`` is deterministic; ``sample`` draws, as the published code does (docs/method.md 2.4), from
            the generator given to ``encode``.
        for_training: ``encode`` gives ordinary tensors, which a backward pass may keep, and ``decode`` has a gradient
            and does not clamp, because a clamp would cut the gradient of what lies outside [0, 1].
    """

    def __init__(self, vae: Any, posterior: Literal["mode", "sample"] = "mode", *, for_training: bool = False) -> None:
        self.vae = vae
        self.posterior = posterior
        self.for_training = for_training
        # `invert_scale_latents` is ignored on purpose: the weights were trained without it (docs/method.md 2.4).
        self.scaling_factor = float(vae.config.scaling_factor)

    @property
    def dtype(self) -> torch.dtype:
        """Parameter type."""
        return next(self.vae.parameters()).dtype

    def to_network(self, frames: Tensor) -> Tensor:
        """``(B, n, 3, H, W)`` in [0, 1] to ``(B, 3, n, H, W)`` in [-1, 1] of the network's dtype."""
        return (frames * 2 - 1).to(self.dtype).transpose(1, 2)

    def from_network(self, frames: Tensor) -> Tensor:
        """``(B, 3, n, H, W)`` to ``(B, n, 3, H, W)`` float32, clamped to [0, 1] unless it is for training."""
        pixels = frames.transpose(1, 2).float() * 0.5 + 0.5
        return pixels if self.for_training else pixels.clamp_(0, 1)

    def encode(
        self,
        frames: Tensor,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        tiling: VaeTiling = WHOLE_FRAMES,
    ) -> Tensor:
        """Encode whole clips as causal clips.

        Args:
            frames: ``(B, F, 3, H, W)`` in [0, 1]; F is 1, 8n or 8n + 1, H and W multiples of 8.
            generator: for ``posterior="sample"``, on the CPU, so that draws do not depend on the device; one for
                all clips or one for each.
            tiling: how to cut the frames.

        Returns:
            ``(B, f, 16, h, w)``, multiplied by the VAE's factor.
        """
        return self.encode_from(lambda start, stop: frames[:, start:stop], frames.shape[1], generator, tiling)

    def encode_from(
        self,
        frames: FrameSource,
        num_frames: int,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        tiling: VaeTiling = WHOLE_FRAMES,
    ) -> Tensor:
        """Like ``encode``, for frames that are made when they are needed: ``frames(start, stop)``."""
        with torch.no_grad() if self.for_training else torch.inference_mode():
            return self._encode(frames, num_frames, generator, tiling)

    def _encode(
        self,
        frames: FrameSource,
        num_frames: int,
        generator: torch.Generator | Sequence[torch.Generator] | None,
        tiling: VaeTiling,
    ) -> Tensor:
        if tiling.reference:
            moments = self._with_library_tiles(frames(0, num_frames), encode=True)
        elif tiling.tile is None:
            moments = self._encode_stream(frames, num_frames)
        else:
            moments = self._encode_tiles(frames, num_frames, tiling.tile)
        mean, log_variance = moments.chunk(2, dim=2)
        if self.posterior == "sample":
            deviation = torch.exp(0.5 * log_variance.clamp(-30, 20))
            mean = mean + deviation * _drawn(tuple(mean.shape), generator).to(mean)
        return mean * self.scaling_factor

    def _encode_stream(self, frames: FrameSource, num_frames: int) -> Tensor:
        stream, start = EncodeStream(self, num_frames), 0
        moments: list[Tensor] = []
        for size in group_sizes(num_frames, FRAME_GROUP):
            moments.extend(stream.push(frames(start, start + size)))
            start += size
        return torch.cat(moments, dim=1)

    def decode(self, latents: Tensor, tiling: VaeTiling = WHOLE_FRAMES, device: torch.device | None = None) -> Tensor:
        """Decode whole clips.

        Args:
            latents: ``(B, f, 16, h, w)`` scaled latents.
            tiling: how to cut the frames.
            device: where the frames are gathered; None leaves them where they are computed.

        Returns:
            ``(B, F, 3, H, W)`` float32 in [0, 1] (for training: about that range); F = 4 (f - 1) + 1 for odd f.
        """
        pieces = [piece.to(device or piece.device) for piece in self.decode_pieces(latents, tiling)]
        return torch.cat(pieces, dim=1)

    def decode_pieces(self, latents: Tensor, tiling: VaeTiling = WHOLE_FRAMES) -> Iterator[Tensor]:
        """Like ``decode``, but yield the frames group by group, so that they can leave the device early."""
        decode = self._decode_pieces if self.for_training else torch.inference_mode()(self._decode_pieces)
        return decode(latents, tiling)

    def _decode_pieces(self, latents: Tensor, tiling: VaeTiling) -> Iterator[Tensor]:
        if tiling.reference:
            yield self.from_network(self._with_library_tiles(latents, encode=False))
        elif tiling.tile is None:
            yield from DecodeStream(self, latents.shape[1]).push(latents)
        else:
            yield self._decode_tiles(latents, tiling.tile)

    def _with_library_tiles(self, items: Tensor, *, encode: bool) -> Tensor:
        self.vae.enable_tiling()
        try:
            if encode:
                return self.vae._encode(self.to_network(items)).transpose(1, 2)
            scaled = (items / self.scaling_factor).to(self.dtype).transpose(1, 2)
            return self.vae.decode(scaled, return_dict=False)[0]
        finally:
            self.vae.use_tiling = False

    def _encode_tiles(self, frames: FrameSource, num_frames: int, tile: tuple[int, int]) -> Tensor:
        """Encode tile by tile, the whole time of each, so that one tile's cache lives; moments ``(B, f, 32, h, w)``."""
        unit = SPATIAL_RATIO
        height, width = frames(0, 1).shape[-2:]
        rows = spans(height // unit, tile[0], TILE_OVERLAP_CELLS)
        columns = spans(width // unit, tile[1], TILE_OVERLAP_CELLS)
        canvas = Canvas(rows, columns, unit=1)
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                window = (..., slice(top * unit, bottom * unit), slice(left * unit, right * unit))

                def part(start: int, stop: int, window: Any = window) -> Tensor:
                    return frames(start, stop)[window]

                canvas.add(self._encode_stream(part, num_frames), i, j)
        return canvas.result().to(self.dtype)

    def _decode_tiles(self, latents: Tensor, tile: tuple[int, int]) -> Tensor:
        """Decode tile by tile into a canvas in main memory, ``(B, F, 3, H, W)``."""
        rows = spans(latents.shape[-2], tile[0], TILE_OVERLAP_CELLS)
        columns = spans(latents.shape[-1], tile[1], TILE_OVERLAP_CELLS)
        canvas = Canvas(rows, columns, unit=SPATIAL_RATIO, device=torch.device("cpu"))
        for i, (top, bottom) in enumerate(rows):
            for j, (left, right) in enumerate(columns):
                stream = DecodeStream(self, latents.shape[1])
                part = latents[..., top:bottom, left:right]
                pieces = [frames.to("cpu") for frames in stream.push(part)]
                canvas.add(torch.cat(pieces, dim=1), i, j)
        return canvas.result()
