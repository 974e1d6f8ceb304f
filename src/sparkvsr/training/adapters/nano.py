"""CogVideoX's real structure at nano size: for tests, and for trying configurations in seconds.

2 heads x 16, because the rotary embedding splits a head 1/4, 3/8, 3/8 and needs even parts; 2 layers, so that text and
video streams meet twice; the autoencoder's 4 blocks are the diffusers default, as are all keys that are not named.
16 latent channels and 2x2x2 patches are what every SparkVSR model has.
"""

from __future__ import annotations

from typing import Any, Literal

import torch

from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, build_vae
from sparkvsr.training.adapters.cogvideox import CogVideoXAdapter

NANO_TRANSFORMER: dict[str, Any] = {
    "_class_name": "CogVideoXTransformer3DModel",
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
    "use_rotary_positional_embeddings": True,
}
"""``transformer/config.json``."""

NANO_VAE: dict[str, Any] = {
    "_class_name": "AutoencoderKLCogVideoX",
    "block_out_channels": [8, 8, 16, 16],
    "latent_channels": 16,
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "scaling_factor": 0.7,
    "sample_height": 96,
    "sample_width": 128,
}
"""``vae/config.json``."""

SCHEDULER: dict[str, Any] = {
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
"""``scheduler/scheduler_config.json``, that of the real model."""


def build_nano_adapter(
    *, seed: int = 0, gradient_checkpointing: bool = False, posterior: Literal["mode", "sample"] = "sample"
) -> CogVideoXAdapter:
    """An adapter with random weights, the same for the same seed.

    Raises:
        ConfigError: unknown ``posterior``.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = build_transformer(NANO_TRANSFORMER, "cpu")
        vae = build_vae(NANO_VAE, "cpu")
        prompt = torch.randn(NANO_TRANSFORMER["max_text_seq_length"], NANO_TRANSFORMER["text_embed_dim"])
    return CogVideoXAdapter(
        transformer, vae, prompt, SCHEDULER, posterior=posterior, gradient_checkpointing=gradient_checkpointing
    )
