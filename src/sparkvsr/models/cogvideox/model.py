"""The paper's model behind the common interface: CogVideoX1.5-5B-I2V with SparkVSR weights, one step (guide 1 and 2)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError, ResourceError
from sparkvsr.models.cogvideox.chunks import MIN_CHUNK, largest_chunk, pad_frames, padded_length
from sparkvsr.models.cogvideox.colour import DEFAULT_COLOUR, check_colour
from sparkvsr.models.cogvideox.conditioning import SlotRule, check_slots, keyframe_slot
from sparkvsr.models.cogvideox.loading import ModelFolder
from sparkvsr.models.cogvideox.offload import Residency
from sparkvsr.models.cogvideox.pipeline import ChunkPipeline
from sparkvsr.models.cogvideox.runner import ChunkRunner, is_out_of_memory
from sparkvsr.models.cogvideox.session import ChunkSession
from sparkvsr.models.cogvideox.settings import RunSettings
from sparkvsr.models.cogvideox.vae import WHOLE_FRAMES, VaeTiling
from sparkvsr.models.interface import ModelPlan, RestorationModel, Session, ShotRequest, check_restore_arguments

REFERENCE_TILES = VaeTiling(reference=True)
VAE_TILINGS = ("auto", "on", "off")


class CogVideoXModel(RestorationModel):
    """See ``load_cogvideox``, which builds it.

    A session gives bit for bit what ``restore`` gives as long as the shot fits into one chunk without tiles. With
    more chunks or tiles every chunk is an independent run of the network over its own frames, as in the reference, so
    the result differs; how the shot is cut into ``push`` calls never matters.
    """

    def __init__(
        self,
        name: str,
        folder: ModelFolder,
        pipeline: ChunkPipeline,
        residency: Residency,
        *,
        dtype: torch.dtype,
        precision: str,
        vae_tiling: str = "auto",
        colour: str = DEFAULT_COLOUR,
        carry: bool = True,
        loras: Sequence[Path] = (),
    ) -> None:
        check_colour(colour)
        if vae_tiling not in VAE_TILINGS:
            msg = f"vae_tiling={vae_tiling!r} is unknown; use {', '.join(VAE_TILINGS)}"
            raise ConfigError(msg)
        self.name, self.device, self.dtype = name, pipeline.device, dtype
        self.folder, self.pipeline, self.residency = folder, pipeline, residency
        self.precision, self.vae_tiling, self.colour, self.carry = precision, vae_tiling, colour, carry
        self.loras = tuple(loras)
        self.memory_bytes: int | None = None

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
        # Scale 0 is blind: keyframes are not even encoded (guide 2.8).
        blind = keyframes is None or abs(guidance_scale) <= 1e-3
        images = {} if blind else {i: (keyframes[k], 1.0) for k, i in enumerate(keyframe_indices)}  # type: ignore[index]
        try:
            restored = runner.restore(runner.encode(padded, 0), images, 0)
            return runner.decode(restored, padded)[:frames]
        except (RuntimeError, MemoryError) as exc:
            if not is_out_of_memory(exc):
                raise
            msg = (
                f"restoring {frames} frames of {size[1]}x{size[0]} at once needs more memory than {self.device} has; "
                "open a session, which works in chunks and tiles, or use a smaller scale"
            )
            raise ResourceError(msg) from exc

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``.

        Raises:
            KeyframeError: a keyframe is outside the shot, or two fall into one latent frame.
            ConfigError: a chunk or tile too small for the network.
        """
        for index in request.keyframes:
            if not 0 <= index < request.num_frames:
                msg = f"keyframe {index} is outside the shot ({request.num_frames} frames, 0 to {request.num_frames - 1})"
                raise KeyframeError(msg)
        check_slots(request.keyframes, self.slot)
        settings = RunSettings(chunk_frames=largest_chunk(request.chunk_frames))
        runner = self._runner(request.size, request.guidance_scale, settings, request.seed)
        return ChunkSession(runner, request, carry=self.carry)

    def plan(
        self, lr_size: tuple[int, int], size: tuple[int, int], num_frames: int, *, guided_passes: int, memory_bytes: int
    ) -> ModelPlan:
        raise NotImplementedError

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
