"""The pixel-space loss of stage 2 (docs/method.md 4.7)."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from sparkvsr.errors import ConfigError
from sparkvsr.losses.fidelity import fidelity, frame_difference
from sparkvsr.losses.perceptual import EdgeAware, dists_network, lpips_network
from sparkvsr.pretrained.perceptual import PerceptualDistance


class PixelLoss(nn.Module):
    """Fidelity, one perceptual term and the change from frame to frame.

    Args:
        kind: ``mse`` (paper) or ``charbonnier``.
        fidelity_weight: of that term.
        frame_difference_weight: of the temporal term.
        dists_weight, edge_aware_dists_weight, lpips_weight, edge_aware_lpips_weight: at most one above 0.
        lpips_network: ``alex`` or ``vgg``.
        weights: folder searched first for perceptual weights.

    Raises:
        ConfigError: a weight is negative or two perceptual terms are asked for (the published code silently takes one).
        MetricError: the perceptual network's weights are missing; names the ways to get them.
    """

    domain = "pixel"

    def __init__(
        self,
        kind: str = "mse",
        fidelity_weight: float = 1.0,
        frame_difference_weight: float = 1.0,
        dists_weight: float = 1.0,
        edge_aware_dists_weight: float = 0.0,
        lpips_weight: float = 0.0,
        edge_aware_lpips_weight: float = 0.0,
        lpips_network: str = "vgg",
        weights: str | Path | None = None,
    ) -> None:
        super().__init__()
        perceptual = {
            "edge_aware_dists": edge_aware_dists_weight,
            "dists": dists_weight,
            "edge_aware_lpips": edge_aware_lpips_weight,
            "lpips": lpips_weight,
        }
        every = {"fidelity": fidelity_weight, "frame_difference": frame_difference_weight, **perceptual}
        for name, value in every.items():
            if value < 0:
                msg = f"loss.{name}_weight={value} must not be negative; 0 leaves the term out"
                raise ConfigError(msg)
        chosen = [name for name, value in perceptual.items() if value > 0]
        if len(chosen) > 1:
            msg = (
                f"loss: {' and '.join(f'{name}_weight' for name in chosen)} exclude each other; "
                "set all but one of them to 0"
            )
            raise ConfigError(msg)
        self._kind, self._fidelity = kind, fidelity(kind)
        self._fidelity_weight, self._difference_weight = fidelity_weight, frame_difference_weight
        self._perceptual_name = chosen[0] if chosen else ""
        self._perceptual_weight = perceptual[chosen[0]] if chosen else 0.0
        self.perceptual: PerceptualDistance | EdgeAware | None = None
        if chosen:
            is_dists = "dists" in chosen[0]
            network = dists_network(weights) if is_dists else lpips_network_checked(lpips_network, weights)
            self.perceptual = EdgeAware(network) if chosen[0].startswith("edge") else network

    def forward(self, restored: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Terms by name, unweighted; ``loss`` is their weighted sum.

        Args:
            restored: ``(B, F, 3, H, W)`` in [0, 1].
            target: same shape.
        """
        sr, hr = restored.float(), target.float()
        terms = {self._kind: self._fidelity(sr, hr)}
        loss = self._fidelity_weight * terms[self._kind]
        if self.perceptual is not None:
            value = self.perceptual(sr.flatten(0, 1), hr.flatten(0, 1)).mean()
            terms[self._perceptual_name] = value
            loss = loss + self._perceptual_weight * value
        if sr.shape[1] > 1 and self._difference_weight > 0:
            terms["frame_difference"] = frame_difference(sr, hr)
            loss = loss + self._difference_weight * terms["frame_difference"]
        terms["loss"] = loss
        return terms


def lpips_network_checked(name: str, weights: str | Path | None) -> PerceptualDistance:
    """LPIPS by name.

    Raises:
        ConfigError: the name is neither ``alex`` nor ``vgg``.
    """
    if name not in ("alex", "vgg"):
        msg = f"loss.lpips_network={name} is unknown; use alex or vgg"
        raise ConfigError(msg)
    return lpips_network(name, weights)
