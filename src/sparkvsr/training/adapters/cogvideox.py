"""CogVideoX for training: VAE latents with gradient through the decoder, v-prediction at one timestep.

Shapes: B batch, F pixel frames, f latent frames, h w latent cells (H / 8). Everything outside this file and
``sparkvsr.models.cogvideox`` sees pixels in [0, 1] and scaled latents ``(B, f, 16, h, w)``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.models.cogvideox.networks.conditioning import keyframe_slot
from sparkvsr.models.cogvideox.networks.schedule import VelocityCoefficients, velocity_coefficients
from sparkvsr.models.cogvideox.networks.transformer import restore_latents
from sparkvsr.models.cogvideox.networks.vae import num_latent_frames
from sparkvsr.training.adapters.interface import LatentBatch, TrainingAdapter

EMPTY_PROMPT_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


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

    def __init__(
        self,
        transformer: Any,
        vae: Any,
        prompt: Tensor,
        scheduler_config: Mapping[str, Any],
        *,
        posterior: str = "sample",
        gradient_checkpointing: bool = True,
        vae_tiling: bool = False,
        source: Path | None = None,
    ) -> None:
        super().__init__()
        if posterior not in ("sample", "mode"):
            msg = f"model.posterior={posterior} is unknown; use sample (as published) or mode"
            raise ConfigError(msg)
        self.network = transformer
        # Outside the module tree: what is never trained belongs to no checkpoint, is not shared out by FSDP and not
        # compared by DDP. It follows the module to its device by `_apply`.
        self._frozen = [vae.requires_grad_(False).eval()]
        if vae_tiling:
            self.vae.enable_tiling()
        self.register_buffer("prompt", prompt, persistent=False)
        self._scheduler_config = dict(scheduler_config)
        self._coefficients: dict[torch.dtype, VelocityCoefficients] = {}
        self._posterior, self._checkpointing, self._source = posterior, gradient_checkpointing, source
        self._vae_scale = float(vae.config.scaling_factor)
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
        """See ``TrainingAdapter``: crops are multiples of 16, clips of stage 1 have 8n + 1 frames (guide 1.6)."""
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

    @torch.no_grad()
    def encode(self, batch: TrainBatch, *, framewise: bool, with_hr: bool) -> LatentBatch:
        """See ``TrainingAdapter``. LR is brought to HR size bilinearly first (guide 2.2)."""
        if "lr_latents" in batch.extras:
            lr_latents = batch.extras["lr_latents"]
            hr_latents: Tensor | None = batch.extras["hr_latents"]
        else:
            size = batch.hr.shape[-2:]
            flat = F.interpolate(batch.lr.flatten(0, 1), size=size, mode="bilinear", align_corners=False)
            lr_pixels = flat.unflatten(0, batch.lr.shape[:2])
            lr_latents = self._encode_pixels(lr_pixels, batch.numbers, 0, framewise=framewise)
            hr_latents = self._encode_pixels(batch.hr, batch.numbers, 1, framewise=framewise) if with_hr else None
        placed = torch.zeros_like(lr_latents)
        for row, indices in enumerate(batch.keyframe_indices.tolist()):
            for column, index in enumerate(indices):
                if index < 0:
                    continue
                image = batch.keyframes[row : row + 1, column : column + 1]
                latents = self._encode_pixels(image, batch.numbers[row : row + 1], 2 + column, framewise=True)
                slot = index if framewise else min(keyframe_slot(index), placed.shape[1] - 1)
                placed[row, slot] = latents[0, 0]
        return LatentBatch(lr_latents, placed, hr_latents if with_hr else None)

    def restore(self, latents: LatentBatch) -> Tensor:
        """See ``TrainingAdapter``: guide 2.7; the leading copies are dropped before the loss (guide 10.1 no. 10)."""
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
        """See ``TrainingAdapter``. Each latent by itself where each frame was encoded by itself (guide 5.4)."""
        pieces = latents.flatten(0, 1)[:, None] if framewise else latents
        decoded = []
        for piece in pieces.split(1):
            if self._checkpointing and piece.requires_grad:
                decoded.append(checkpoint(self._decode_one, piece, use_reentrant=False))
            else:
                decoded.append(self._decode_one(piece))
        frames = torch.cat(decoded)
        return frames[:, 0].unflatten(0, latents.shape[:2]) if framewise else frames

    def _decode_one(self, latents: Tensor) -> Tensor:
        scaled = (latents / self._vae_scale).to(next(self.vae.parameters()).dtype).transpose(1, 2)
        frames: Tensor = self.vae.decode(scaled, return_dict=False)[0]
        # Not clamped: a clamp would cut the gradient of what lies outside.
        return frames.transpose(1, 2).float() * 0.5 + 0.5

    def _encode_pixels(self, pixels: Tensor, numbers: Tensor, stream: int, *, framewise: bool) -> Tensor:
        """``(B, F, 3, H, W)`` to ``(B, f, 16, h, w)``; one clip at a time, so that memory stays that of one."""
        rows = []
        dtype = next(self.vae.parameters()).dtype
        for row, number in zip(pixels, numbers.tolist(), strict=True):
            clips = row[:, None] if framewise else row[None]
            moments = []
            for clip in clips.split(1):
                network_pixels = (clip.clamp(-0.5, 1.5) * 2 - 1).to(dtype).transpose(1, 2)
                moments.append(self.vae.encode(network_pixels).latent_dist)
            # Drawn on the CPU from the sample's own number: the same on every device, process and batch size.
            generator = torch.Generator().manual_seed((int(number) * 64 + stream) % 2**63)
            latents = [self._draw(moment, generator) for moment in moments]
            joined = torch.cat(latents) if framewise else latents[0].transpose(1, 2)[0]
            rows.append(joined[:, :, 0] if framewise else joined)
        return torch.stack(rows) * self._vae_scale

    def _draw(self, posterior: Any, generator: torch.Generator) -> Tensor:
        mean: Tensor = posterior.mean
        if self._posterior == "mode":
            return mean
        noise = torch.randn(mean.shape, generator=generator, dtype=torch.float32).to(mean)
        return mean + posterior.std * noise

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
        prompts = folder / "prompt_embeddings"
        prompts.mkdir(exist_ok=True)
        from safetensors.torch import save_file

        prompt: Any = self.prompt
        save_file(
            {"prompt_embedding": prompt.detach().cpu().contiguous()}, prompts / f"{EMPTY_PROMPT_SHA256}.safetensors"
        )
        index = folder / "model_index.json"
        if self._source is not None and (self._source / "model_index.json").is_file():
            shutil.copyfile(self._source / "model_index.json", index)
        else:
            index.write_text(json.dumps(_MODEL_INDEX, indent=2) + "\n")

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """See ``TrainingAdapter``."""
        return build_cogvideox_adapter(folder, gradient_checkpointing=False).network.state_dict()


_MODEL_INDEX = {
    "_class_name": "CogVideoXImageToVideoPipeline",
    "scheduler": ["diffusers", "CogVideoXDPMScheduler"],
    "text_encoder": [None, None],
    "tokenizer": [None, None],
    "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
    "vae": ["diffusers", "AutoencoderKLCogVideoX"],
}

_NANO_TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 32,
    "out_channels": 16,
    "num_layers": 2,
    "patch_size": 2,
    "patch_size_t": 2,
    "patch_bias": False,
    "text_embed_dim": 32,
    "time_embed_dim": 32,
    "ofs_embed_dim": 32,
    "max_text_seq_length": 8,
    "sample_frames": 81,
    "sample_height": 12,
    "sample_width": 16,
    "spatial_interpolation_scale": 1.875,
    "attention_bias": True,
    "norm_eps": 1e-5,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": False,
}
_BLOCKS = 4
_NANO_VAE = {
    "block_out_channels": (8, 8, 16, 16),
    "down_block_types": ("CogVideoXDownBlock3D",) * _BLOCKS,
    "up_block_types": ("CogVideoXUpBlock3D",) * _BLOCKS,
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.7,
    "sample_height": 96,
    "sample_width": 128,
}
_SCHEDULER = {
    "_class_name": "CogVideoXDPMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "snr_shift_scale": 1.0,
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}


def build_cogvideox_adapter(
    path: str | Path,
    *,
    gradient_checkpointing: bool = True,
    posterior: str = "sample",
    vae_tiling: bool = False,
) -> CogVideoXAdapter:
    """Load a model folder for training; the transformer as a float32 master copy (guide 3).

    Raises:
        WeightsError: a part of the folder is missing or cannot be read.
    """
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    folder = Path(path).expanduser()
    for part in ("transformer", "vae", "scheduler/scheduler_config.json", "prompt_embeddings"):
        if not (folder / part).exists():
            msg = (
                f"model.path={path} has no {part}; it needs transformer/, vae/, scheduler/ of CogVideoX1.5-5B-I2V and "
                "prompt_embeddings/ (see docs/training.md)"
            )
            raise WeightsError(msg)
    try:
        transformer = CogVideoXTransformer3DModel.from_pretrained(
            folder / "transformer", torch_dtype=torch.float32, use_safetensors=True
        )
        vae = AutoencoderKLCogVideoX.from_pretrained(folder / "vae", torch_dtype=torch.float32, use_safetensors=True)
    except (OSError, ValueError, RuntimeError) as exc:
        msg = f"model.path={path} cannot be loaded: {str(exc).splitlines()[0]}"
        raise WeightsError(msg) from exc
    if transformer.config.in_channels != 32:
        msg = (
            f"model.path={path}: the transformer takes {transformer.config.in_channels} channels, not 32 (LR and "
            "keyframe latents); start from CogVideoX1.5-5B-I2V or a SparkVSR checkpoint"
        )
        raise WeightsError(msg)
    return CogVideoXAdapter(
        transformer,
        vae,
        _read_prompt(folder / "prompt_embeddings"),
        json.loads((folder / "scheduler" / "scheduler_config.json").read_text()),
        posterior=posterior,
        gradient_checkpointing=gradient_checkpointing,
        vae_tiling=vae_tiling,
        source=folder,
    )


def build_nano_adapter(
    *, seed: int = 0, gradient_checkpointing: bool = False, posterior: str = "sample"
) -> CogVideoXAdapter:
    """The real structure at nano size with random weights; the same weights for the same seed."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = CogVideoXTransformer3DModel(**_NANO_TRANSFORMER)
        vae = AutoencoderKLCogVideoX(**_NANO_VAE)
        prompt = torch.randn(8, 32)
    return CogVideoXAdapter(
        transformer, vae, prompt, _SCHEDULER, posterior=posterior, gradient_checkpointing=gradient_checkpointing
    )


def _read_prompt(folder: Path) -> Tensor:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    preferred = folder / f"{EMPTY_PROMPT_SHA256}.safetensors"
    file = preferred if preferred.is_file() else (files[0] if files else preferred)
    try:
        return load_file(file)["prompt_embedding"].float()
    except (OSError, SafetensorError, KeyError) as exc:
        msg = f"{file} does not hold the embedding of the empty prompt (key prompt_embedding): {exc}"
        raise WeightsError(msg) from exc


def latent_shape(num_frames: int, crop: tuple[int, int]) -> tuple[int, int, int, int]:
    """``(f, 16, h, w)`` of a clip's latents."""
    return num_latent_frames(num_frames), 16, crop[0] // 8, crop[1] // 8
