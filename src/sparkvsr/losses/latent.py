"""Distance of restored latents to the latents of the ground truth (docs/method.md 4.5)."""

from __future__ import annotations

from torch import Tensor, nn

from sparkvsr.losses.fidelity import fidelity


class LatentLoss(nn.Module):
    """Mean distance over all latent frames, in float32.

    The leading copies that make the number of latent frames even are dropped before, by the model: the published
    code counts the first frame twice (docs/method.md 4.5).

    Args:
        kind: ``mse`` (paper) or ``charbonnier``.

    Raises:
        ConfigError: unknown ``kind``.
    """

    domain = "latent"

    def __init__(self, kind: str = "mse") -> None:
        super().__init__()
        self._distance = fidelity(kind)
        self._kind = kind

    def forward(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms by name; ``loss`` is what to minimise.

        Args:
            restored: ``(B, f, C, h, w)`` latents.
            target: same shape.
        """
        value = self._distance(restored.float(), target.float())
        return {f"latent_{self._kind}": value, "loss": value}
