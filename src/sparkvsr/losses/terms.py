"""Single loss terms, to be weighted and summed by ``WeightedLoss``.

A term of your own is a class like these: derive from ``LossTerm`` and write ``forward`` for two batches of images, or
``measure`` where it needs more (neighbouring frames, LR, keyframes, the step). docs/training.md has an example.

Shapes: images ``(N, 3, H, W)`` float32; a term gives a scalar.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparkvsr.errors import ConfigError
from sparkvsr.losses.adversarial import artefact_map
from sparkvsr.losses.fidelity import charbonnier, fidelity, frame_difference, mse
from sparkvsr.losses.given import LossInputs
from sparkvsr.losses.perceptual import EdgeAware, dists_network
from sparkvsr.losses.pixel import lpips_network_checked

TARGETS = ("truth", "teacher")
_DISTS_LEAST = 32


class LossTerm(nn.Module):
    """A distance with its weight.

    ``domain`` says what it looks at: ``pixel`` or ``latent``.

    Args:
        weight: factor in the sum, not negative.
        target: what it measures against, ``truth`` or ``teacher``.
        every: taken in every so-manieth step only, then as many times as heavy; for costly terms.
        start_step: first step that it is taken in.

    Raises:
        ConfigError: a value is out of range.
    """

    domain = "pixel"

    def __init__(self, weight: float = 1.0, target: str = "truth", every: int = 1, start_step: int = 0) -> None:
        super().__init__()
        if weight < 0 or every < 1 or start_step < 0:
            msg = (
                f"loss term: weight={weight} and start_step={start_step} must not be negative, every={every} at least 1"
            )
            raise ConfigError(msg)
        if target not in TARGETS:
            msg = f"loss term: target={target} is unknown; use {' or '.join(TARGETS)}"
            raise ConfigError(msg)
        self.weight, self.target, self.every, self.start_step = weight, target, every, start_step
        self.step = 0
        """Of the run, set by the sum that the term is part of."""

    def is_due(self, step: int) -> bool:
        """Whether the term is taken in a step."""
        return self.weight > 0 and step >= self.start_step and step % self.every == 0

    def measure(self, given: LossInputs) -> Tensor:
        """Unweighted value for a micro-batch; here ``forward`` of all its frames in float32.

        Args:
            given: what there is; pixels for a term of that domain, latents for the other.
        """
        if self.domain == "latent":
            assert given.restored_latents is not None
            assert given.truth_latents is not None  # the sum asks for them
            return self(given.restored_latents.float(), given.truth_latents.float())
        return self(*(frames.flatten(0, 1) for frames in self.compared(given)))

    def compared(self, given: LossInputs) -> tuple[Tensor, Tensor]:
        """The restored clips and what this term measures them against, both ``(B, F, 3, H, W)`` float32."""
        against = given.truth if self.target == "truth" else given.teacher
        assert given.restored is not None
        assert against is not None  # the sum has checked
        return given.restored.float(), against.float()

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """Unweighted distance."""
        raise NotImplementedError


class L1(LossTerm):
    """Mean absolute difference."""

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        return (sr - target).abs().mean()


class Mse(LossTerm):
    """Mean squared difference."""

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        return mse(sr, target)


class Charbonnier(LossTerm):
    """Smooth absolute difference."""

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        return charbonnier(sr, target)


class FrameDifference(LossTerm):
    """Mean absolute error of the change from frame to frame (docs/method.md 4.7); 0 for stills."""

    def measure(self, given: LossInputs) -> Tensor:
        """See ``LossTerm``."""
        return frame_difference(*self.compared(given))


class Latent(LossTerm):
    """Distance of restored latents to those of the ground truth (docs/method.md 4.5).

    Args:
        kind: ``mse`` (paper) or ``charbonnier``.
        weight, every, start_step: see ``LossTerm``.

    Raises:
        ConfigError: unknown ``kind``.
    """

    domain = "latent"

    def __init__(self, kind: str = "mse", weight: float = 1.0, every: int = 1, start_step: int = 0) -> None:
        super().__init__(weight, "truth", every, start_step)
        self._distance = fidelity(kind)

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``; two batches of latents."""
        return self._distance(sr, target)


class FromModule(LossTerm):
    """Any module that maps two batches of images to a distance, such as those of ``kornia.losses``.

    Args:
        module: ``(N, 3, H, W)``, ``(N, 3, H, W)`` to a tensor, of which the mean is taken.
        weight, target, every, start_step: see ``LossTerm``.
    """

    def __init__(
        self, module: Any, weight: float = 1.0, target: str = "truth", every: int = 1, start_step: int = 0
    ) -> None:
        super().__init__(weight, target, every, start_step)
        self.module = module

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        value: Tensor = self.module(sr, target).mean()
        return value


class Frequency(LossTerm):
    """Mean absolute difference of the orthonormal 2D Fourier transforms, real and imaginary part each."""

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        difference = torch.fft.rfft2(sr - target, norm="ortho")  # linear, so that one transform does
        return torch.view_as_real(difference).abs().mean()


class Lpips(LossTerm):
    """LPIPS v0.1 (Zhang et al. 2018).

    Args:
        network: ``alex`` or ``vgg``.
        weights: folder searched first for backbone and heads.
        edge_aware: the mean of the images' distance and that of their edges (docs/method.md 4.7).
        weight, target, every, start_step: see ``LossTerm``.

    Raises:
        MetricError: the weights are missing; names the ways to get them.
    """

    def __init__(
        self,
        network: str = "alex",
        weights: str | Path | None = None,
        weight: float = 1.0,
        target: str = "truth",
        every: int = 1,
        start_step: int = 0,
        edge_aware: bool = False,
    ) -> None:
        super().__init__(weight, target, every, start_step)
        self.distance: nn.Module | None = lpips_network_checked(network, weights) if weight > 0 else None
        if edge_aware and self.distance is not None:
            self.distance = EdgeAware(self.distance)

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        assert self.distance is not None  # is_due
        value: Tensor = self.distance(sr, target).mean()
        return value


class Dists(LossTerm):
    """DISTS (Ding et al. 2020).

    Args:
        weights: folder searched first for VGG16 and the DISTS weights.
        edge_aware: see ``Lpips``.
        crop: side of a piece to compare, elsewhere in every step, for speed; None takes the whole images.
        weight, target, every, start_step: see ``LossTerm``.

    Raises:
        MetricError: the weights are missing; names the ways to get them.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        crop: int | None = None,
        weight: float = 1.0,
        target: str = "truth",
        every: int = 1,
        start_step: int = 0,
        edge_aware: bool = False,
    ) -> None:
        super().__init__(weight, target, every, start_step)
        if crop is not None and crop < _DISTS_LEAST:
            msg = f"loss term: crop={crop} must be at least {_DISTS_LEAST}, or null"
            raise ConfigError(msg)
        self.crop = crop
        self.distance: nn.Module | None = dists_network(weights) if weight > 0 else None
        if edge_aware and self.distance is not None:
            self.distance = EdgeAware(self.distance)

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        assert self.distance is not None  # is_due
        sr, target = piece(self.crop, self.step, sr, target)
        value: Tensor = self.distance(sr, target).mean()
        return value


def piece(side: int | None, step: int, *images: Tensor) -> list[Tensor]:
    """The same square of several images, elsewhere in every step; whole images where they are smaller.

    A function of the step alone: a run that goes on draws what it would have drawn.
    """
    height, width = images[0].shape[-2:]
    if side is None or side >= min(height, width):
        return list(images)
    rng = np.random.default_rng([11, step])
    top, left = (int(rng.integers(0, full - side + 1)) for full in (height, width))
    return [image[..., top : top + side, left : left + side] for image in images]


class Artefacts(LossTerm):
    """L1 where the result is wrong in a restless way (Liang et al. 2022, LDL, without its averaged second network)."""

    def forward(self, sr: Tensor, target: Tensor) -> Tensor:
        """See ``LossTerm``."""
        return (artefact_map(sr, target) * (sr - target).abs()).mean()
