"""The second player of adversarial training: a discriminator that learns in the same step as the network.

It has its own optimiser, which Lightning does not know: Lightning counts a step for each optimiser it steps, and the
run's schedule, checkpoints and samples hang on that count. Both are kept in every checkpoint.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sparkvsr.errors import ConfigError
from sparkvsr.losses.adversarial import DISCRIMINATOR_UNIT, looks_fake, looks_real
from sparkvsr.losses.terms import piece
from sparkvsr.training.optimizer_values import hyperparameters, restore_hyperparameters


class Adversary:
    """A discriminator, its optimiser, and what the network loses to it.

    Args:
        discriminator: ``(N, 3, H, W)`` to logits ``(N, 1, H, W)``.
        weight: of the network's adversarial term.
        learning_rate: of the discriminator.
        start_step: first step that the network sees its judgement in; it learns from the first step on.
        crop: side of the piece that is judged, elsewhere in every step, for speed; None takes the whole images.

    Raises:
        ConfigError: a value is out of range.
    """

    def __init__(
        self,
        discriminator: nn.Module,
        weight: float = 0.1,
        learning_rate: float = 1.0e-4,
        start_step: int = 0,
        crop: int | None = None,
    ) -> None:
        if weight < 0 or learning_rate <= 0 or start_step < 0:
            msg = (
                f"adversary: weight={weight} and start_step={start_step} must not be negative, "
                f"learning_rate={learning_rate} must be above 0"
            )
            raise ConfigError(msg)
        if crop is not None and (crop < DISCRIMINATOR_UNIT or crop % DISCRIMINATOR_UNIT):
            msg = f"adversary.crop={crop} must be a multiple of {DISCRIMINATOR_UNIT}, or null"
            raise ConfigError(msg)
        self.discriminator = discriminator.train().to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(discriminator.parameters(), lr=learning_rate, betas=(0.9, 0.99))
        self.weight, self.start_step, self.crop = weight, start_step, crop

    def to(self, device: torch.device) -> None:
        """Move the discriminator, before its first step."""
        self.discriminator.to(device)

    def terms(self, sr: Tensor, hr: Tensor, step: int) -> dict[str, Tensor]:
        """Let the discriminator learn, then judge.

        Args:
            sr: ``(B, F, 3, H, W)`` with gradient.
            hr: same shape.
            step: of the run.

        Returns:
            ``adversarial``, the network's unweighted term (from ``start_step`` on); ``discriminator_real`` and
            ``discriminator_fake``, the discriminator's losses, without gradient.
        """
        fake, real = piece(self.crop, step, sr.float().flatten(0, 1), hr.float().flatten(0, 1))
        fake, real = (image.contiguous(memory_format=torch.channels_last) for image in (fake, real))
        self.discriminator.requires_grad_(True)
        self.optimizer.zero_grad(set_to_none=True)
        on_real, on_fake = looks_real(self.discriminator(real)), looks_fake(self.discriminator(fake.detach()))
        (on_real + on_fake).backward()
        self.optimizer.step()
        terms = {"discriminator_real": on_real.detach(), "discriminator_fake": on_fake.detach()}
        if step >= self.start_step and self.weight > 0:
            self.discriminator.requires_grad_(False)
            terms["adversarial"] = looks_real(self.discriminator(fake))
        return terms

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The inverse of ``state_dict``.

        Raises:
            ConfigError: it is of another discriminator.
        """
        try:
            self.discriminator.load_state_dict(state["discriminator"])
            typed = hyperparameters(self.optimizer)
            self.optimizer.load_state_dict(state["optimizer"])
            restore_hyperparameters(self.optimizer, typed)
        except (KeyError, RuntimeError, ValueError) as exc:
            msg = "the checkpoint holds another discriminator; go on with the adversary= that it was made with"
            raise ConfigError(msg) from exc
