"""The paper's model behind the common interface: CogVideoX1.5-5B-I2V in one step (docs/method.md 2, 3)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError, ResourceError
from sparkvsr.models.cogvideox.colour_fix import DEFAULT_COLOUR, check_colour
from sparkvsr.models.cogvideox.networks.conditioning import SlotRule, check_slots
from sparkvsr.models.cogvideox.networks.precision import Precision
from sparkvsr.models.cogvideox.networks.vae import WHOLE_FRAMES, VaeTiling
from sparkvsr.models.cogvideox.networks.weight_files import ModelFolder
from sparkvsr.models.cogvideox.offload import Residency
from sparkvsr.models.cogvideox.pipeline import ChunkPipeline
from sparkvsr.models.cogvideox.plan.choose import choose_settings, with_tile_batch
from sparkvsr.models.cogvideox.plan.chunks import largest_chunk, pad_frames, padded_length
from sparkvsr.models.cogvideox.plan.geometry import SIDE_MULTIPLE, padded_size
from sparkvsr.models.cogvideox.plan.memory import MemoryModel
from sparkvsr.models.cogvideox.plan.settings import MIN_TILE_PX, RunSettings
from sparkvsr.models.cogvideox.runner import ChunkRunner, GeometryChangedError
from sparkvsr.models.cogvideox.session import ChunkSession
from sparkvsr.models.device import free_memory
from sparkvsr.models.interface import (
    ModelPlan,
    RestorationModel,
    Session,
    ShotRequest,
    check_restore_arguments,
    needs_blind_pass,
)

REFERENCE_TILES = VaeTiling(reference=True)
VAE_TILINGS = ("auto", "on", "off")


class CogVideoXModel(RestorationModel):
    """See ``load_cogvideox``, which builds it.

    A session gives bit for bit what ``restore`` gives as long as the shot fits into one chunk without tiles. With
    more chunks or tiles every chunk is an independent run of the network over its own frames, as in the published code,
    so the result differs; how the shot is cut into ``push`` calls never matters.
    """

    keyframe_multiple = 4

    def __init__(
        self,
        name: str,
        folder: ModelFolder,
        pipeline: ChunkPipeline,
        residency: Residency,
        *,
        dtype: torch.dtype,
        precision: Precision,
        vae_tiling: str = "auto",
        colour: str = DEFAULT_COLOUR,
        carry: bool = True,
        weights: str = "",
        vae_layout: str = "contiguous",
        compiled: bool = False,
    ) -> None:
        check_colour(colour)
        if vae_tiling not in VAE_TILINGS:
            msg = f"vae_tiling={vae_tiling!r} is unknown; use {', '.join(VAE_TILINGS)}"
            raise ConfigError(msg)
        self.name, self.device, self.dtype = name, pipeline.device, dtype
        self.folder, self.pipeline, self.residency = folder, pipeline, residency
        self.precision, self.vae_tiling, self.colour, self.carry = precision, vae_tiling, colour, carry
        self.weights, self.vae_layout, self.compiled = weights, vae_layout, compiled
        self._planned: dict[tuple[tuple[int, int], int, int | None], RunSettings] = {}

    @property
    def slot(self) -> SlotRule:
        """Rule that finds a keyframe's latent frame."""
        return self.pipeline.slot

    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """The asked size itself: the network restores at any output size."""
        del lr_size
        return size

    def restore(
        self,
        lr: Tensor,
        keyframes: Tensor | None = None,
        keyframe_indices: Sequence[int] = (),
        *,
        scale: float = 4.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """See ``RestorationModel.restore``.

        Raises:
            KeyframeError: also when two keyframes fall into one latent frame.
            ResourceError: the whole clip does not fit into memory at once.
        """
        size = (round(lr.shape[-2] * scale), round(lr.shape[-1] * scale))
        check_restore_arguments(lr, keyframes, keyframe_indices, size)
        check_slots(keyframe_indices, self.slot)
        frames = lr.shape[0]
        padded = pad_frames(lr.detach().to("cpu", torch.float32), padded_length(frames))
        settings = RunSettings(
            chunk_frames=padded.shape[0],
            vae=REFERENCE_TILES if self.vae_tiling == "on" else WHOLE_FRAMES,
            swap=self.residency.mode == "model",
        )
        runner = self._runner(size, guidance_scale, settings, seed=42)
        # Scale 0 is blind: keyframes are not even encoded (docs/method.md 3.4).
        blind = keyframes is None or abs(guidance_scale) <= 1e-3
        images = {} if blind else {i: (keyframes[k], 1.0) for k, i in enumerate(keyframe_indices)}  # type: ignore[index]
        try:
            restored = runner.restore(runner.encode(padded, 0), images, 0)
            return runner.decode(restored, padded)[:frames]
        except GeometryChangedError as exc:
            # Tiles or chunks would be needed, and here there are none.
            msg = (
                f"restoring {frames} frames of {size[1]}x{size[0]} at once needs more memory than {self.device} has; "
                "call sparkvsr.upscale, which works in chunks and tiles, or use a smaller scale"
            )
            raise ResourceError(msg) from exc

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``.

        Settings that ``plan`` chose for the same size, chunk and tile are used; otherwise they are chosen here for the
        memory that is free, with the request's chunk as upper bound and its tile as given.

        Raises:
            KeyframeError: a keyframe is outside the shot, or two fall into one latent frame.
            ConfigError: a tile too small for the network.
            ResourceError: the memory is too small for the asked tile.
        """
        for index in request.keyframes:
            if not 0 <= index < request.num_frames:
                msg = (
                    f"keyframe {index} is outside the shot ({request.num_frames} frames, 0 to {request.num_frames - 1})"
                )
                raise KeyframeError(msg)
        check_slots(request.keyframes, self.slot)
        planned = self._planned.get((request.size, request.chunk_frames, request.tile))
        settings = planned or self._settings_for(request)
        settings = replace(settings, chunk_frames=min(settings.chunk_frames, largest_chunk(request.chunk_frames)))
        runner = self._runner(request.size, request.guidance_scale, settings, request.seed)
        return ChunkSession(runner, request, carry=self.carry)

    def plan(
        self, lr_size: tuple[int, int], size: tuple[int, int], num_frames: int, *, guided_passes: int, memory_bytes: int
    ) -> ModelPlan:
        """See ``RestorationModel.plan``. ``memory_bytes`` is what is free now; weights already loaded are not in it."""
        resident = self._resident_bytes()
        budget = memory_bytes + resident
        settings = choose_settings(
            self.memory_model,
            size,
            num_frames,
            budget,
            guided_passes=guided_passes,
            can_swap=self.residency.can_swap,
            swap=self.residency.mode == "model" and self.residency.can_swap,
            vae_tiling=self.vae_tiling,
        )
        settings = with_tile_batch(
            self.memory_model, settings, size, budget, guided_passes, aside=self.device.type == "cuda"
        )
        estimate = self.memory_model.estimate(settings, size, guided_passes=guided_passes)
        tile = None
        if settings.tile_px is not None:
            scale = max(size[0] / lr_size[0], size[1] / lr_size[1])
            tile = math.ceil(max(settings.tile_px) / scale)
        self._planned[(size, settings.chunk_frames, tile)] = settings
        gib = 2**30
        notes = (
            settings.describe(),
            f"memory: VAE encode {estimate.encode / gib:.1f} GiB, transformer {estimate.transformer / gib:.1f} GiB, "
            f"VAE decode {estimate.decode / gib:.1f} GiB, of {budget / gib:.1f} GiB",
            *self.residency.notes,
        )
        return ModelPlan(settings.chunk_frames, tile, max(estimate.peak - resident, 0), notes)

    def fingerprint(self) -> str:
        """Weights, LoRAs, prompt and every option that changes a pixel."""
        options = (
            f"{self.precision.name}/{self.dtype}/{self.vae_tiling}/{self.colour}/{self.carry}/{self.slot}"
            f"/{self.pipeline.vae.posterior}/{self.pipeline.coefficients}"
            f"/{self.pipeline.attention}/{self.vae_layout}/{self.compiled}"
        )
        return f"cogvideox-{self.weights}-{_short_hash(options.encode())}"

    @cached_property
    def memory_model(self) -> MemoryModel:
        """Memory by stage for this model's configs and precision."""
        return MemoryModel(
            self.folder.transformer,
            self.folder.vae,
            self.precision,
            sequential=self.residency.mode == "sequential" and self.device.type != "cpu",
            vae_layout=self.vae_layout,
        )

    def _settings_for(self, request: ShotRequest) -> RunSettings:
        tile_px = None
        if request.tile is not None:
            scale = request.size[0] / request.lr_size[0]
            side = math.ceil(request.tile * scale / SIDE_MULTIPLE) * SIDE_MULTIPLE
            if side < MIN_TILE_PX:
                msg = (
                    f"tile={request.tile} is {side} pixels of the output; this model needs at least {MIN_TILE_PX}: "
                    f"use tile {math.ceil(MIN_TILE_PX / scale)} or more"
                )
                raise ConfigError(msg)
            padded = padded_size(request.size)
            if side < max(padded):
                tile_px = (min(side, padded[0]), min(side, padded[1]))
        passes = 2 if needs_blind_pass(request.guidance_scale, len(request.keyframes)) else 1
        budget = free_memory(self.device) + self._resident_bytes()
        settings = choose_settings(
            self.memory_model,
            request.size,
            request.num_frames,
            budget,
            guided_passes=passes,
            can_swap=self.residency.can_swap,
            swap=self.residency.mode == "model" and self.residency.can_swap,
            vae_tiling=self.vae_tiling,
            longest_chunk=largest_chunk(request.chunk_frames),
            tile_px=tile_px,
            fixed=True,
        )
        return with_tile_batch(
            self.memory_model, settings, request.size, budget, passes, aside=self.device.type == "cuda"
        )

    def _resident_bytes(self) -> int:
        """Bytes of the weights that are on the compute device already."""
        networks = (self.pipeline.transformer, self.pipeline.vae.vae)
        return sum(
            tensor.numel() * tensor.itemsize
            for network in networks
            for tensor in network.state_dict().values()
            if tensor.device.type == self.device.type
        )

    def _runner(self, size: tuple[int, int], guidance_scale: float, settings: RunSettings, seed: int) -> ChunkRunner:
        return ChunkRunner(
            self.pipeline,
            size,
            guidance_scale=guidance_scale,
            colour=self.colour,
            settings=settings,
            can_swap=self.residency.can_swap,
            fixed_vae=self.vae_tiling != "auto",
            seed=seed,
        )


def _short_hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
