"""What the training step needs to know of a model, so that one step trains every model.

Shapes: B batch, F pixel frames, f latent frames, C latent channels, H W HR pixels. Pixels are float in [0, 1].

The words are the paper's: a codec turns pixels into latents, the network turns LR latents and keyframe latents into
restored latents, the codec turns those into pixels. For CogVideoX the codec is the VAE; for lite it is a
pixel-unshuffle, which loses nothing.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparkvsr.data.samples import TrainBatch


@dataclass
class LatentBatch:
    """A batch in latent space.

    Attributes:
        lr: ``(B, f, C, h, w)``.
        keyframes: same shape, zeros where there is no keyframe.
        hr: same shape, or None where the loss does not need it.
        extras: whatever else the model's network takes.
    """

    lr: Tensor
    keyframes: Tensor
    hr: Tensor | None
    extras: dict[str, Any] = field(default_factory=dict)


class TrainingAdapter(nn.Module, ABC):
    """A model as the training step sees it. ``network`` is what is trained; everything else stays frozen."""

    network: nn.Module
    #: what ``sparkvsr export`` writes into the model card
    family: str
    #: whether latents are costly to make and worth keeping; without a codec they are the pixels
    has_codec: bool = False
    #: whether ``prepare_clip`` computes something that depends on where the keyframes are
    keeps_motion: bool = False
    #: what the model card says of licences that come with the weights a run started from
    licence_notice: str = ""
    #: crops begin at multiples of so many LR pixels: what ``prepare_clip`` gives may be on a grid that coarse
    crop_step: int = 1
    #: HR over LR pixels that the model is for; None leaves that to ``check_data``
    data_scale: int | None = None

    @abstractmethod
    def encode(self, batch: TrainBatch, *, framewise: bool, with_hr: bool) -> LatentBatch:
        """Pixels to latents, without gradient.

        Args:
            batch: LR, HR and keyframes.
            framewise: every frame by itself (stage 2), instead of as a clip.
            with_hr: encode the ground truth too.
        """

    @abstractmethod
    def restore(self, latents: LatentBatch) -> Tensor:
        """One pass of the network, ``(B, f, C, h, w)``; copies that pad the time axis are already dropped."""

    @abstractmethod
    def decode(self, latents: Tensor, *, framewise: bool) -> Tensor:
        """Latents to pixels ``(B, F, 3, H, W)`` with gradient; ``framewise`` as in ``encode``."""

    @abstractmethod
    def check_data(self, num_frames: int, crop: tuple[int, int], *, framewise: bool) -> None:
        """Refuse clip sizes that the model cannot take.

        Raises:
            ConfigError: names the key, its value and what is allowed.
        """

    @abstractmethod
    def save_folder(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """Write a model folder that ``sparkvsr.load_model`` reads.

        Args:
            folder: created if need be.
            state: weights of ``network`` to write instead of the present ones.
        """

    @abstractmethod
    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """Weights of ``network`` out of a model folder.

        Raises:
            WeightsError: the folder cannot be read.
        """

    def encoder_to(self, device: torch.device) -> None:
        """Bring to a device what ``encode`` needs, and no more; the whole adapter where that is not told apart."""
        self.to(device)

    def encode_target(self, batch: TrainBatch, *, framewise: bool) -> Tensor:
        """Latents ``(B, f, C, h, w)`` of the ground truth alone, without gradient; the same as ``encode`` gives.

        Args:
            batch: only HR and numbers are used.
            framewise: as in ``encode``.
        """
        latents = self.encode(batch, framewise=framewise, with_hr=True).hr
        assert latents is not None  # asked for
        return latents

    def prepare_clip(self, lr: Tensor, keyframe_indices: Sequence[int]) -> dict[str, Tensor]:
        """What to compute with each clip in the loader's processes, before it is cropped; nothing by default.

        Args:
            lr: ``(F, 3, h, w)`` float in [0, 1].
            keyframe_indices: rising.

        Returns:
            By name, ``(F, C, h, w)`` (cropped with the clip; (x, y) vectors if the name ends in ``flow``) or ``(F,)``;
            h and w may be those of the LR frames over ``crop_step``.
        """
        del lr, keyframe_indices
        return {}

    def usable_keyframes(self, indices: Sequence[int], *, framewise: bool) -> list[int]:
        """Those of a clip's keyframes that the model can take together; all of them by default.

        Args:
            indices: rising, as the policy chose them.
            framewise: as in ``encode``.
        """
        del framewise
        return list(indices)

    def target_frames(self, hr: Tensor, decoded: Tensor) -> Tensor:
        """Ground truth that belongs to the decoded frames."""
        return hr[:, : decoded.shape[1]]

    def lora_targets(self, targets: Sequence[str]) -> list[str]:
        """Names of layers that get low-rank adapters."""
        return list(targets)

    def enable_gradient_checkpointing(self) -> None:
        """Recompute activations in the backward pass."""

    def sharded_blocks(self) -> tuple[type[nn.Module], ...]:
        """Classes of the network's repeated blocks, the pieces that FSDP shares out; none for a small model."""
        return ()


def parameter_count(module: nn.Module, *, trained: bool = False) -> int:
    """Number of parameters, or of those that are trained."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad or not trained)
