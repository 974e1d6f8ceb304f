"""One forward pass of the CogVideoX1.5 transformer as SparkVSR uses it (docs/method.md 2.2, 2.3, 3.3).

Shapes: B batch, f latent frames, C channels, h w latent cells, all latents ``(B, f, C, h, w)`` and VAE-scaled.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from sparkvsr.models.cogvideox.networks.schedule import TIMESTEP, VelocityCoefficients

OFS = 2.0


def rotary_embedding(
    grid: tuple[int, int, int], base: tuple[int, int], head_dim: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return cos and sin of the rotary embedding on the integer grid.

    The "slice" helper fails when its bound is smaller than the grid, which is what happens to both published trainers
    above 768x1360; the values do not depend on the bound, so the larger of both is taken (docs/method.md 2.3).

    Args:
        grid: tokens ``(time, height, width)``; time counted after the leading copies.
        base: ``(height, width)`` of the config in tokens.
        head_dim: channels of one attention head.
        device: where the result lies.

    Returns:
        Two ``(time * height * width, head_dim)`` float32 tensors.
    """
    cos, sin = _rotary_tables(grid, base, head_dim)
    return cos.to(device), sin.to(device)


@lru_cache(maxsize=8)
def _rotary_tables(grid: tuple[int, int, int], base: tuple[int, int], head_dim: int) -> tuple[Tensor, Tensor]:
    """The tables in main memory, where they cost a GPU nothing."""
    from diffusers.models.embeddings import get_3d_rotary_pos_embed

    time, height, width = grid
    bound = (max(base[0], height), max(base[1], width))
    # Kept for whoever asks next: tensors of inference mode could not be used in training.
    with torch.inference_mode(False):
        return get_3d_rotary_pos_embed(  # type: ignore[return-value]
            head_dim, None, (height, width), time, grid_type="slice", max_size=bound, device=torch.device("cpu")
        )


def predict_velocity(transformer: nn.Module, latents: Tensor, prompt: Tensor) -> Tensor:
    """Run the transformer once.

    Args:
        transformer: a ``CogVideoXTransformer3DModel`` with 32 input channels.
        latents: ``(B, f, 32, h, w)``, f even, h and w even: LR latents and keyframe latents on the channel axis.
        prompt: ``(tokens, dim)``, embedding of the empty prompt.

    Returns:
        ``(B, f, 16, h, w)`` velocity.
    """
    config: Any = transformer.config
    batch, frames, _, height, width = latents.shape
    patch, patch_t = config.patch_size, config.patch_size_t
    rotary = rotary_embedding(
        ((frames + patch_t - 1) // patch_t, height // patch, width // patch),
        (config.sample_height // patch, config.sample_width // patch),
        config.attention_head_dim,
        latents.device,
    )
    ofs = None if config.ofs_embed_dim is None else latents.new_full((1,), OFS)
    velocity: Tensor = transformer(
        hidden_states=latents,
        encoder_hidden_states=prompt.to(latents).expand(batch, -1, -1),
        # An integer timestep: a float one in bf16 would round 399 to 400.
        timestep=torch.full((batch,), TIMESTEP, dtype=torch.long, device=latents.device),
        ofs=ofs,
        image_rotary_emb=rotary,
        return_dict=False,
    )[0]
    return velocity[:, :, :16]


def restore_latents(
    transformer: nn.Module,
    lr_latents: Tensor,
    keyframe_latents: Tensor | None,
    prompt: Tensor,
    coefficients: VelocityCoefficients,
    *,
    guidance_scale: float = 1.0,
    batch_guidance: bool = True,
) -> Tensor:
    """Turn LR latents into restored latents: docs/method.md 3.3, and 3.4 where the scale asks for it.

    Args:
        transformer: see ``predict_velocity``.
        lr_latents: ``(B, f, 16, h, w)``.
        keyframe_latents: same shape, zeros where there is no keyframe; None runs blind.
        prompt: ``(tokens, dim)``.
        coefficients: of the scheduler.
        guidance_scale: 0 blind, 1 plain keyframe conditioning (one pass each), anything else mixes both passes.
        batch_guidance: both passes as a batch of two; False runs them one after the other in half the memory.

    Returns:
        ``(B, f, 16, h, w)``.
    """
    # 1. Even number of latent frames: copies of the first one lead (both halves), docs/method.md 3.3.
    config: Any = transformer.config
    copies = -lr_latents.shape[1] % config.patch_size_t

    def lead(latents: Tensor) -> Tensor:
        return torch.cat([latents[:, :1]] * copies + [latents], dim=1) if copies else latents

    noisy = lead(lr_latents)
    blind = torch.cat([noisy, torch.zeros_like(noisy)], dim=2)

    # 2. Velocity. Scale 0 needs no keyed pass, scale 1 no blind one.
    if keyframe_latents is None or abs(guidance_scale) <= 1e-3:
        velocity = predict_velocity(transformer, blind, prompt)
    else:
        keyed = torch.cat([noisy, lead(keyframe_latents)], dim=2)
        if abs(guidance_scale - 1.0) <= 1e-3:
            velocity = predict_velocity(transformer, keyed, prompt)
        else:
            if batch_guidance:
                both = predict_velocity(transformer, torch.cat([blind, keyed]), prompt)
                without, with_keyframes = both.chunk(2)
            else:
                without = predict_velocity(transformer, blind, prompt)
                with_keyframes = predict_velocity(transformer, keyed, prompt)
            velocity = without + guidance_scale * (with_keyframes - without)

    # 3. Velocity to x0, copies dropped.
    return coefficients.restore(noisy, velocity)[:, copies:]
