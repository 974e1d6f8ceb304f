"""The one diffusion timestep: coefficients that turn a velocity into the restored latents.

The LR latents play the noisy sample at timestep 399 (docs/method.md 3.3): ``restored = a * lr - b * velocity`` with
``a = sqrt(abar)``, ``b = sqrt(1 - abar)``. No sampling loop, no added noise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sparkvsr.errors import WeightsError

TIMESTEP = 399
"""The only timestep the weights were trained at (docs/method.md 3.3)."""


@dataclass(frozen=True)
class VelocityCoefficients:
    """``restored = signal * noisy - noise * velocity``, as plain numbers."""

    signal: float
    noise: float

    def restore(self, lr_latents: Tensor, velocity: Tensor) -> Tensor:
        """Convert a velocity into restored latents; any shape, the dtype of the arguments is kept."""
        return self.signal * lr_latents - self.noise * velocity


def velocity_coefficients(
    config: Mapping[str, Any], dtype: torch.dtype, timestep: int = TIMESTEP
) -> VelocityCoefficients:
    """Compute the coefficients from a scheduler config, rounded as the library rounds them.

    The library casts the cumulative product to the sample's dtype *before* the square roots, so in bfloat16 they are
    0.625 and 0.78125 and the published weights were fitted to those (docs/method.md 2.5). Pass ``torch.float32`` for
    the exact ones (0.627331, 0.778753).

    Args:
        config: content of ``scheduler/scheduler_config.json``.
        dtype: sample dtype whose rounding to follow.
        timestep: in ``[0, num_train_timesteps)``.

    Raises:
        WeightsError: the scheduler is not a velocity one.
    """
    if config.get("prediction_type") != "v_prediction":
        msg = (
            f"scheduler_config.json has prediction_type={config.get('prediction_type')!r}; SparkVSR needs "
            "'v_prediction', use the scheduler folder of CogVideoX1.5-5B-I2V"
        )
        raise WeightsError(msg)
    from diffusers import CogVideoXDPMScheduler

    scheduler = CogVideoXDPMScheduler.from_config({k: v for k, v in config.items() if not k.startswith("_")})
    alpha = scheduler.alphas_cumprod.cpu()[timestep].to(dtype)
    return VelocityCoefficients(signal=float(alpha**0.5), noise=float((1 - alpha) ** 0.5))
