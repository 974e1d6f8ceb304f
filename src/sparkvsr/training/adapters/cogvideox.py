"""CogVideoX for training: VAE latents with gradient through the decoder, v-prediction at one timestep.

Shapes: B batch, F pixel frames, f latent frames, h w latent cells (H / 8). Everything outside this file and
``sparkvsr.models.cogvideox`` sees pixels in [0, 1] and scaled latents ``(B, f, 16, h, w)``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError
from sparkvsr.models.cogvideox.networks.conditioning import check_slots, one_per_slot, place_keyframes
from sparkvsr.models.cogvideox.networks.hub import resolve_folder
from sparkvsr.models.cogvideox.networks.prompt import EMBEDDING_FOLDER, load_prompt_embedding, save_prompt_embedding
from sparkvsr.models.cogvideox.networks.schedule import VelocityCoefficients, velocity_coefficients
from sparkvsr.models.cogvideox.networks.transformer import restore_latents
from sparkvsr.models.cogvideox.networks.vae import WHOLE_FRAMES, VaeTiling, VideoVAE
from sparkvsr.models.cogvideox.networks.weight_files import (
    ModelFolder,
    build_transformer,
    build_vae,
    load_weights,
    open_folder,
)
from sparkvsr.training.adapters.interface import LatentBatch, TrainingAdapter

KEYFRAME_BATCH = 9
"""Keyframes encoded at once: no more memory than the clip of 33 frames takes, which is encoded in groups of 9 and 8."""


class CogVideoXAdapter(TrainingAdapter):
    """The paper's model.

    Args:
        transformer: ``CogVideoXTransformer3DModel`` with 32 input channels; trained.
        vae: ``AutoencoderKLCogVideoX``; frozen.
        prompt: ``(tokens, dim)``, embedding of the empty prompt.
        scheduler_config: content of ``scheduler_config.json``.
        posterior: ``sample`` (as published) or ``mode``.
        gradient_checkpointing: of transformer and decoder.
        vae_tiling: tile the VAE as the published training does.
        source: folder whose other files an export copies.

    Raises:
        ConfigError: unknown ``posterior``.
    """

    family = "cogvideox"
    has_codec = True

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        prompt: Tensor,
        scheduler_config: Mapping[str, Any],
        *,
        posterior: Literal["mode", "sample"] = "sample",
        gradient_checkpointing: bool = True,
        vae_tiling: bool = False,
        source: Path | None = None,
    ) -> None:
        super().__init__()
        if posterior not in ("sample", "mode"):
            msg = f"model.posterior={posterior} is unknown; use sample (as published) or mode"
            raise ConfigError(msg)
        self.network = transformer.requires_grad_(True)
        # Outside the module tree: what is never trained belongs to no checkpoint, is not shared out by FSDP and not
        # compared by DDP. It follows the module to its device by `_apply`.
        self._frozen = [vae.requires_grad_(False).eval()]
        self._codec = VideoVAE(vae, posterior, for_training=True)
        self._tiling = VaeTiling(reference=True) if vae_tiling else WHOLE_FRAMES
        self.register_buffer("prompt", prompt, persistent=False)
        self._scheduler_config = dict(scheduler_config)
        self._coefficients: dict[torch.dtype, VelocityCoefficients] = {}
        self._checkpointing, self._source = gradient_checkpointing, source
        if gradient_checkpointing:
            self.enable_gradient_checkpointing()

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations of the transformer's blocks in the backward pass."""
        self._checkpointing = True
        network: Any = self.network
        if hasattr(network, "enable_gradient_checkpointing"):
            network.enable_gradient_checkpointing()

    @property
    def vae(self) -> Any:
        """The frozen autoencoder."""
        return self._frozen[0]

    def _apply(self, fn: Any, recurse: bool = True) -> CogVideoXAdapter:
        self.vae._apply(fn)
        return super()._apply(fn, recurse)

    def sharded_blocks(self) -> tuple[type[nn.Module], ...]:
        """See ``TrainingAdapter``."""
        from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock

        return (CogVideoXBlock,)

    def check_data(self, num_frames: int, crop: tuple[int, int], *, framewise: bool) -> None:
        """See ``TrainingAdapter``: crops in multiples of 16, 8n + 1 frames in stage 1 (docs/method.md 4.2)."""
        if any(side % 16 for side in crop):
            msg = f"data.crop={list(crop)} must be multiples of 16 for this model (8 of the VAE, 2 of the patches)"
            raise ConfigError(msg)
        if not framewise and num_frames % 8 not in (0, 1):
            lower = max(1, (num_frames - 1) // 8 * 8 + 1)
            msg = (
                f"data.num_frames={num_frames} is not kept by the VAE, which works in groups of 8; "
                f"use 8n + 1, for example {lower} or {lower + 8}"
            )
            raise ConfigError(msg)

    def usable_keyframes(self, indices: Sequence[int], *, framewise: bool) -> list[int]:
        """See ``TrainingAdapter``: one keyframe a latent frame, as inference demands; frames alone have one each."""
        return list(indices) if framewise else one_per_slot(indices)

    @torch.no_grad()
    def encode(self, batch: TrainBatch, *, framewise: bool, with_hr: bool) -> LatentBatch:
        """See ``TrainingAdapter``. LR is brought to HR size bilinearly first (docs/method.md 4.2)."""
        if "lr_latents" in batch.extras:
            lr_latents = batch.extras["lr_latents"]
            hr_latents = batch.extras.get("hr_latents")
        else:
            size = batch.hr.shape[-2:]
            flat = F.interpolate(batch.lr.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
            lr_pixels = flat.unflatten(0, batch.lr.shape[:2])
            lr_latents = self._encode_pixels(lr_pixels, batch.numbers, 0, framewise=framewise)
            hr_latents = batch.extras.get("hr_latents")
            if with_hr and hr_latents is None:
                hr_latents = self._encode_hr(batch, framewise=framewise)
        given = self._encode_keyframes(batch)
        placed = torch.cat(
            [
                self._place_keyframes(given[row], lr_latents[row : row + 1], framewise=framewise)
                for row in range(len(given))
            ]
        )
        return LatentBatch(lr_latents, placed, hr_latents if with_hr else None)

    def encoder_to(self, device: torch.device) -> None:
        """See ``TrainingAdapter``: the VAE alone."""
        self.vae.to(device)

    @torch.no_grad()
    def encode_target(self, batch: TrainBatch, *, framewise: bool) -> Tensor:
        """See ``TrainingAdapter``."""
        return self._encode_hr(batch, framewise=framewise)

    def _encode_hr(self, batch: TrainBatch, *, framewise: bool) -> Tensor:
        return self._encode_pixels(batch.hr, batch.numbers, 1, framewise=framewise)

    def _encode_keyframes(self, batch: TrainBatch) -> list[dict[int, Tensor]]:
        """Latents ``(1, 1, 16, h, w)`` of every keyframe by frame, a dictionary per sample; all in one batch."""
        places = [
            (row, column, index)
            for row, indices in enumerate(batch.keyframe_indices.tolist())
            for column, index in enumerate(indices)
            if index >= 0
        ]
        given: list[dict[int, Tensor]] = [{} for _ in range(batch.size)]
        numbers = batch.numbers.tolist()
        for start in range(0, len(places), KEYFRAME_BATCH):
            part = places[start : start + KEYFRAME_BATCH]
            rows, columns = [row for row, _, _ in part], [column for _, column, _ in part]
            images = batch.keyframes[rows, columns][:, None].clamp(-0.5, 1.5)
            generators = [_generator(numbers[row], 2 + column) for row, column, _ in part]
            latents = self._codec.encode(images, generators, self._tiling).split(1)
            for (row, _, index), one in zip(part, latents, strict=True):
                given[row][index] = one
        return given

    @staticmethod
    def _place_keyframes(keyframes: Mapping[int, Tensor], lr_latents: Tensor, *, framewise: bool) -> Tensor:
        """Keyframe latents ``(1, f, 16, h, w)`` of one sample, by the model's own rules for slots."""
        if not framewise:
            check_slots(keyframes)
            return place_keyframes(lr_latents, keyframes)
        frames = lr_latents.split(1, dim=1)
        clips = [{0: keyframes[t]} if t in keyframes else {} for t in range(len(frames))]
        return torch.cat([place_keyframes(one, given) for one, given in zip(frames, clips, strict=True)], dim=1)

    def restore(self, latents: LatentBatch) -> Tensor:
        """See ``TrainingAdapter``: docs/method.md 3.3; the leading copies are dropped before the loss (4.5)."""
        lr, keyframes = latents.lr, latents.keyframes
        if lr.device.type != "meta" and torch.is_autocast_enabled(lr.device.type):
            dtype = torch.get_autocast_dtype(lr.device.type)
        else:
            # DeepSpeed keeps the network itself in bf16 and has no autocast.
            dtype = next(self.network.parameters()).dtype
            lr, keyframes = lr.to(dtype), keyframes.to(dtype)
        if dtype not in self._coefficients:
            self._coefficients[dtype] = velocity_coefficients(self._scheduler_config, dtype)
        coefficients = self._coefficients[dtype]
        prompt: Any = self.prompt
        return restore_latents(self.network, lr, keyframes, prompt, coefficients)

    def decode(self, latents: Tensor, *, framewise: bool) -> Tensor:
        """See ``TrainingAdapter``. Latent by latent where frames were encoded one by one (docs/method.md 4.8)."""
        pieces = latents.flatten(0, 1)[:, None] if framewise else latents
        frames = torch.cat([self._decode(piece) for piece in pieces.split(1)])
        return frames[:, 0].unflatten(0, latents.shape[:2]) if framewise else frames

    def _decode(self, latents: Tensor) -> Tensor:
        if self._checkpointing and latents.requires_grad:
            frames: Any = checkpoint(self._codec.decode, latents, self._tiling, use_reentrant=False)
            return frames
        return self._codec.decode(latents, self._tiling)

    def _encode_pixels(self, pixels: Tensor, numbers: Tensor, stream: int, *, framewise: bool) -> Tensor:
        """``(B, F, 3, H, W)`` to ``(B, f, 16, h, w)``; one clip at a time, so that memory stays that of one."""
        rows = []
        for row, number in zip(pixels.clamp(-0.5, 1.5), numbers.tolist(), strict=True):
            generator = _generator(number, stream)
            clips = row[:, None] if framewise else row[None]
            latents = torch.cat([self._codec.encode(clip, generator, self._tiling) for clip in clips.split(1)])
            rows.append(latents[:, 0] if framewise else latents[0])
        return torch.stack(rows)

    def target_frames(self, hr: Tensor, decoded: Tensor) -> Tensor:
        """See ``TrainingAdapter``."""
        return hr[:, : decoded.shape[1]]

    def save_folder(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """See ``TrainingAdapter``: diffusers layout."""
        folder.mkdir(parents=True, exist_ok=True)
        network: Any = self.network
        network.save_pretrained(folder / "transformer", state_dict=None if state is None else dict(state))
        self.vae.save_pretrained(folder / "vae")
        (folder / "scheduler").mkdir(exist_ok=True)
        (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(self._scheduler_config, indent=2) + "\n")
        prompt: Any = self.prompt
        save_prompt_embedding(folder / EMBEDDING_FOLDER, prompt)
        index = folder / "model_index.json"
        if self._source is not None and (self._source / "model_index.json").is_file():
            shutil.copyfile(self._source / "model_index.json", index)
        else:
            index.write_text(json.dumps(_MODEL_INDEX, indent=2) + "\n")

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """See ``TrainingAdapter``."""
        return _load_transformer(open_folder(folder)).state_dict()


def _generator(number: int, stream: int) -> torch.Generator:
    """Draws on the CPU from the sample's own number: the same on every device, process and batch size."""
    return torch.Generator().manual_seed((int(number) * 64 + stream) % 2**63)


_MODEL_INDEX = {
    "_class_name": "CogVideoXImageToVideoPipeline",
    "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
    "text_encoder": [None, None],
    "tokenizer": [None, None],
    "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLCogVideoX"],
}


def build_cogvideox_adapter(
    path: str | Path,
    *,
    gradient_checkpointing: bool = True,
    posterior: Literal["mode", "sample"] = "sample",
    vae_tiling: bool = False,
) -> CogVideoXAdapter:
    """Load a model for training; the transformer as a float32 master copy (docs/method.md 4.1).

    Args:
        path: folder in diffusers layout, or a hub id; the prompt's embedding is found or computed as for ``upscale``.
        gradient_checkpointing, posterior, vae_tiling: see ``CogVideoXAdapter``.

    Raises:
        WeightsError: a part of the folder is missing or cannot be read, or the hub cannot be reached.
    """
    folder = open_folder(resolve_folder(path))
    tokens, width = folder.transformer.get("max_text_seq_length", 226), folder.transformer.get("text_embed_dim", 4096)
    return CogVideoXAdapter(
        _load_transformer(folder),
        load_weights(build_vae(folder.vae), folder.shards["vae"], torch.float32),
        load_prompt_embedding(folder.path, tokens, width).float().clone(),  # computed ones are of inference mode
        folder.scheduler,
        posterior=posterior,
        gradient_checkpointing=gradient_checkpointing,
        vae_tiling=vae_tiling,
        source=folder.path,
    )


def _load_transformer(folder: ModelFolder) -> nn.Module:
    return load_weights(build_transformer(folder.transformer), folder.shards["transformer"], torch.float32)
