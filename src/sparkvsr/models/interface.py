"""The one interface behind which every restoration model stands.

Shapes: F frames, K keyframes, h w LR pixels, H W output pixels. Pixels are float in [0, 1].

Two ways in:

* ``RestorationModel.restore``: one whole clip in memory, no chunks, no tiles. The reference result.
* ``RestorationModel.open_session``: one shot, front to back, in pieces of any size, with bounded memory.
  A session must give what ``restore`` gives for the same shot within the model's stated tolerance,
  however the frames are cut into ``push`` calls.

This module knows nothing about files, the detection of shots, progress or devices other than the model's own.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparkvsr.errors import KeyframeError


@dataclass(frozen=True)
class Keyframe:
    """One HR image that guides the restoration, with the LR frame that it belongs to.

    Attributes:
        lr: ``(3, h, w)`` float32 in [0, 1], the clip's own frame.
        hr: ``(3, H, W)`` float32 in [0, 1], at the model's working size (``RestorationModel.working_size``).
        weight: influence, 0 (none) to 1 (full, default).
        guidance: for this keyframe instead of the request's: 1 plain, above 1 closer to its picture; None for the
            request's. Only of models with ``has_keyframe_guidance``.
    """

    lr: Tensor
    hr: Tensor
    weight: float = 1.0
    guidance: float | None = None


@dataclass(frozen=True)
class ShotRequest:
    """What a session has to restore.

    Attributes:
        num_frames: frames of the shot.
        lr_size: ``(h, w)``.
        size: ``(H, W)``, as ``RestorationModel.working_size`` gave it.
        keyframes: by frame index within the shot, 0-based, in ``[0, num_frames)``. May load lazily on
            access, so a session should not hold on to more of them than it needs.
        own_keyframes: those of ``keyframes`` that are of the model's own kind: images that somebody gave beat them.
        guidance_scale: 0 blind, 1 plain keyframe conditioning, above 1 stronger adherence.
        chunk_frames: frames restored at once.
        tile: side of a tile in LR pixels; None restores whole frames.
        seed: for models that sample.
    """

    num_frames: int
    lr_size: tuple[int, int]
    size: tuple[int, int]
    keyframes: Mapping[int, Keyframe] = field(default_factory=dict)
    own_keyframes: frozenset[int] = frozenset()
    guidance_scale: float = 1.0
    chunk_frames: int = 8
    tile: int | None = None
    seed: int = 42


@dataclass(frozen=True)
class ModelPlan:
    """How a model will run a clip of a given size in a given memory.

    Attributes:
        chunk_frames: frames restored at once.
        tile: tile side in LR pixels, None for whole frames.
        memory_bytes: estimated peak of the model's own working memory with these settings.
        notes: one-line remarks for the user (what was chosen and why).
    """

    chunk_frames: int
    tile: int | None
    memory_bytes: int
    notes: tuple[str, ...] = ()


class Session(ABC):
    """Restores one shot in pieces, in order."""

    @abstractmethod
    def push(self, lr: Tensor) -> Tensor:
        """Take the next frames and return those that are finished.

        Args:
            lr: ``(n, 3, h, w)`` float32 in [0, 1], n >= 1.

        Returns:
            ``(m, 3, H, W)`` float32 in [0, 1] on the CPU, m >= 0: the next frames in order. All frames
            are returned once ``finish`` was called.
        """

    @abstractmethod
    def finish(self) -> Tensor:
        """Return the frames still held back, ``(m, 3, H, W)``; the session is over."""

    @property
    def keyframe_shares(self) -> list[float] | None:
        """Of every frame pushed to this object, how much of it given keyframes cover, 0 to 1; None if not known."""
        return None

    def export_state(self) -> dict[str, Tensor] | None:
        """State between two ``push`` calls as named CPU tensors, or None if it cannot be saved.

        With it, a new session of the same request gives bit-identical later frames (``import_state``).
        Saved only at points where all pushed frames have been returned.
        """
        return None

    def import_state(self, state: Mapping[str, Tensor], next_index: int) -> None:
        """Continue a shot: the next pushed frame has index ``next_index`` within the shot."""
        raise NotImplementedError


class RestorationModel(ABC):
    """A video restoration model. Subclasses are built by ``sparkvsr.load_model``.

    Attributes:
        name: what the user typed to get it, or the folder's name.
        device: where it computes.
        dtype: parameter and compute type.
        keyframe_lookahead: a keyframe changes no frame that lies more than this many frames before it; None if
            it may change any frame of its shot.
        keyframe_multiple: keyframes lie exactly only at multiples of this many frames after the shot's start.
        is_resumable: whether sessions export their state, so that a shot can be continued in its middle.
        is_thread_invariant: whether the result on a CPU is the same, bit for bit, with any number of threads.
        look: ``vivid`` or ``faithful`` (``LOOKS``); None for models that know only one.
        own_references: what ``--references auto`` stands for with this model.
        has_keyframe_guidance: whether single keyframes may have a guidance of their own.
        wants_own_keyframes: whether it gains from keyframes made by ``own_references`` on both sides of every frame.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    keyframe_lookahead: int | None = None
    keyframe_multiple: int = 1
    is_resumable: bool = False
    is_thread_invariant: bool = False
    look: str | None = None
    own_references: str = "lite"
    has_keyframe_guidance: bool = False
    wants_own_keyframes: bool = False

    @abstractmethod
    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """``(H, W)`` at which the model gives frames and wants keyframes, for an asked output size.

        A model with a fixed factor gives that factor; the caller resizes to the asked size afterwards.
        """

    @abstractmethod
    def restore(
        self,
        lr: Tensor,
        keyframes: Tensor | None = None,
        keyframe_indices: Sequence[int] = (),
        *,
        scale: float = 4.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """Restore one whole clip (one shot), no chunks, no tiles.

        Args:
            lr: ``(F, 3, h, w)`` float in [0, 1].
            keyframes: ``(K, 3, H, W)`` float in [0, 1] at the output size, or None.
            keyframe_indices: K frame indices in ``[0, F)``, strictly increasing.
            scale: output size over input size, 1 to 4.
            guidance_scale: see docs/method.md 3.4: 0 equals the blind result, 1 needs one pass.

        Returns:
            ``(F, 3, H, W)`` float32 in [0, 1], H = round(h * scale), W = round(w * scale).

        Raises:
            KeyframeError: shapes, counts or indices do not fit.
        """

    @abstractmethod
    def open_session(self, request: ShotRequest) -> Session:
        """Start restoring one shot piece by piece."""

    @abstractmethod
    def plan(
        self, lr_size: tuple[int, int], size: tuple[int, int], num_frames: int, *, guided_passes: int, memory_bytes: int
    ) -> ModelPlan:
        """Choose chunk and tile for a clip so that the model stays within ``memory_bytes``.

        Args:
            guided_passes: 1, or 2 when guidance needs a blind pass as well.

        Raises:
            ResourceError: not even the smallest setting fits.
        """

    def state_bytes(self, lr_size: tuple[int, int], size: tuple[int, int]) -> int:  # noqa: ARG002
        """About how large ``Session.export_state`` is for LR frames and a working size (h, w); 0 without a state."""
        return 0

    @abstractmethod
    def fingerprint(self) -> str:
        """Text that changes whenever the weights or the way they are run change (for caches)."""


def check_restore_arguments(
    lr: Tensor, keyframes: Tensor | None, keyframe_indices: Sequence[int], size: tuple[int, int]
) -> None:
    """Check the arguments of ``restore`` before any work.

    Raises:
        KeyframeError: with the argument, its value and what is allowed.
        ValueError: ``lr`` is not ``(F, 3, h, w)`` floating point.
    """
    if lr.ndim != 4 or lr.shape[1] != 3 or not lr.is_floating_point() or lr.shape[0] < 1:
        msg = f"`lr` must be float (F, 3, h, w) with F >= 1, got {lr.dtype} {tuple(lr.shape)}"
        raise ValueError(msg)
    indices = list(keyframe_indices)
    count = 0 if keyframes is None else keyframes.shape[0]
    if count != len(indices):
        msg = f"`keyframes` has {count} images but `keyframe_indices` has {len(indices)}; give one index per image"
        raise KeyframeError(msg)
    if indices != sorted(set(indices)):
        msg = f"`keyframe_indices` must be strictly increasing, got {indices}"
        raise KeyframeError(msg)
    for index in indices:
        if not 0 <= index < lr.shape[0]:
            msg = f"keyframe {index} is outside the clip ({lr.shape[0]} frames, 0 to {lr.shape[0] - 1})"
            raise KeyframeError(msg)
    if keyframes is not None and count and tuple(keyframes.shape[1:]) != (3, *size):
        msg = f"`keyframes` must be (K, 3, {size[0]}, {size[1]}) at the output size, got {tuple(keyframes.shape)}"
        raise KeyframeError(msg)


def needs_blind_pass(guidance_scale: float, num_keyframes: int) -> bool:
    """Whether a pass without keyframes is needed too: |g - 1| > 1e-3 and there are some (docs/method.md 3.4)."""
    return num_keyframes > 0 and abs(guidance_scale - 1.0) > 1e-3
