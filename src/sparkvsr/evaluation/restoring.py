"""Restores a bench clip with a model: LR frames in, 8-bit frames out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.bench_keyframes import GROUND_TRUTH, IMAGE_MODEL_SUFFIXES
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker, resize_image
from sparkvsr.metrics.colour import Frame, to_uint8
from sparkvsr.models.interface import Keyframe, RestorationModel, ShotRequest, needs_blind_pass

if TYPE_CHECKING:
    from sparkvsr.evaluation.bench_run import RunOptions

WHOLE_CLIP_BYTES = 2_000_000_000
"""Above this many bytes of output a clip goes through a session instead of ``restore``."""
_SESSION_MEMORY_BYTES = 4_000_000_000


class Restorer(Protocol):
    """Something that restores clips.

    Attributes:
        name: for titles.
        keyframe_multiple: see ``RestorationModel``.
    """

    name: str
    keyframe_multiple: int

    def restore_clip(
        self, lr: Tensor, keyframes: Sequence[tuple[int, Tensor]], size: tuple[int, int], guidance_scale: float
    ) -> Iterator[Tensor]:
        """``(F, 3, h, w)`` in, ``(3, H, W)`` float frames out, in order; keyframes are ``(3, H, W)``."""

    def fingerprint(self) -> str | None:
        """Changes with the weights; None when nobody can tell."""

    def describe(self) -> dict[str, str]:
        """For the record."""


class ModelRestorer:
    """A ``RestorationModel``: whole clips where they fit into memory, sessions otherwise."""

    def __init__(self, model: RestorationModel) -> None:
        self.name = model.name
        self.keyframe_multiple = model.keyframe_multiple
        self.wants_own_keyframes = model.wants_own_keyframes
        self.own_references = model.own_references
        self._model = model

    def restore_clip(
        self,
        lr: Tensor,
        keyframes: Sequence[tuple[int, Tensor]],
        size: tuple[int, int],
        guidance_scale: float,
        own: frozenset[int] = frozenset(),
    ) -> Iterator[Tensor]:
        """See ``Restorer``; ``own`` as in ``ShotRequest.own_keyframes``."""
        scale = size[0] / lr.shape[-2]
        if own or lr.shape[0] * 3 * size[0] * size[1] * 4 > WHOLE_CLIP_BYTES:
            yield from self._by_session(lr, keyframes, size, guidance_scale, own)
            return
        images = torch.stack([image for _, image in keyframes]) if keyframes else None
        indices = [index for index, _ in keyframes]
        yield from self._model.restore(lr, images, indices, scale=scale, guidance_scale=guidance_scale)

    def fingerprint(self) -> str | None:
        try:
            return self._model.fingerprint()
        except NotImplementedError:
            return None

    def describe(self) -> dict[str, str]:
        return {
            "name": self.name,
            "device": str(self._model.device),
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "fingerprint": self.fingerprint() or "unknown",
            **({} if self._model.look is None else {"look": self._model.look}),
        }

    def _by_session(
        self,
        lr: Tensor,
        keyframes: Sequence[tuple[int, Tensor]],
        size: tuple[int, int],
        guidance_scale: float,
        own: frozenset[int],
    ) -> Iterator[Tensor]:
        model, lr_size = self._model, (lr.shape[-2], lr.shape[-1])
        working = model.working_size(lr_size, size)
        passes = 2 if needs_blind_pass(guidance_scale, len(keyframes)) else 1
        plan = model.plan(lr_size, working, len(lr), guided_passes=passes, memory_bytes=_SESSION_MEMORY_BYTES)
        request = ShotRequest(
            num_frames=len(lr), lr_size=lr_size, size=working,
            keyframes={index: Keyframe(lr[index], resize_image(image, working)) for index, image in keyframes},
            own_keyframes=own, guidance_scale=guidance_scale, chunk_frames=plan.chunk_frames, tile=plan.tile,
        )  # fmt: skip
        session = model.open_session(request)
        for start in range(0, len(lr), plan.chunk_frames):
            for frame in session.push(lr[start : start + plan.chunk_frames]):
                yield resize_image(frame, size)
        for frame in session.finish():
            yield resize_image(frame, size)


class ImageRestorer:
    """An image upscaler run on every frame by itself; keyframes mean nothing to it."""

    keyframe_multiple = 1

    def __init__(self, path: Path, device: str | torch.device) -> None:
        self.name = path.stem
        self._maker = make_reference_maker(str(path), device)
        self._device = str(device)

    def restore_clip(
        self,
        lr: Tensor,
        keyframes: Sequence[tuple[int, Tensor]],  # noqa: ARG002
        size: tuple[int, int],
        guidance_scale: float,  # noqa: ARG002
    ) -> Iterator[Tensor]:
        """See ``Restorer``."""
        for index, frame in enumerate(lr):
            yield self._maker.make(frame, size, index)

    def fingerprint(self) -> str | None:
        return self._maker.identity(0)

    def describe(self) -> dict[str, str]:
        return {
            "name": self.name,
            "device": self._device,
            "dtype": str(getattr(self._maker, "dtype", torch.float32)).removeprefix("torch."),
            "fingerprint": self.fingerprint() or "unknown",
        }


def load_restorer(name: str, device: str, look: str | None = None, usual_look: str | None = None) -> Restorer:
    """What ``--model`` stands for: a model of ``sparkvsr.load_model``, or a weight file of an image upscaler.

    Args:
        name, device: as in ``RunOptions``.
        look: asked for.
        usual_look: where none was asked for, of models that know several.

    Raises:
        WeightsError, ConfigError: see ``load_model`` and ``make_reference_maker``.
    """
    from sparkvsr.models.registry import has_looks, load_model, resolve_device

    path = Path(name).expanduser()
    if path.suffix in IMAGE_MODEL_SUFFIXES and path.is_file():
        if look is not None:
            msg = f"--look {look} is for lite models, {path.name} has one look only; leave it out"
            raise ConfigError(msg)
        return ImageRestorer(path, resolve_device(device))
    if look is None and has_looks(name):
        look = usual_look
    return ModelRestorer(load_model(name, device=device, look=look))


def load_maker(options: RunOptions) -> ReferenceMaker | None:
    """What ``--references`` stands for; None for ``gt``."""
    if options.references == GROUND_TRUTH or options.references is None:
        return None
    from sparkvsr.models.registry import resolve_device

    return make_reference_maker(options.references, resolve_device(options.device))


def to_pixels(frames: Sequence[Frame]) -> Tensor:
    """``(H, W, 3)`` uint8 frames to ``(F, 3, H, W)`` float32 in [0, 1]."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float().div_(255.0)


def restored_frames(
    restorer: Restorer,
    lr_frames: Sequence[Frame],
    keyframe_indices: Sequence[int],
    keyframe_image: Callable[[int, Tensor], Tensor],
    size: tuple[int, int],
    guidance_scale: float,
    own: frozenset[int] = frozenset(),
) -> Iterator[tuple[Frame, Frame]]:
    """Restore one clip.

    Args:
        restorer: the model.
        lr_frames: ``(h, w, 3)`` uint8.
        keyframe_indices: which frames are keyframes.
        keyframe_image: gives the ``(3, H, W)`` image of one of them from its index and LR frame ``(3, h, w)``.
        size: ``(H, W)`` wanted.
        guidance_scale: as in ``RestorationModel.restore``.
        own: as in ``ShotRequest.own_keyframes``; only for restorers that want such keyframes.

    Yields:
        ``(H, W, 3)`` uint8 restored frame and the LR frame that it came from.
    """
    lr = to_pixels(lr_frames)
    keyframes = [(index, keyframe_image(index, lr[index])) for index in keyframe_indices]
    more = {"own": own} if own else {}
    frames = restorer.restore_clip(lr, keyframes, size, guidance_scale, **more)
    for pixels, lr_frame in zip(frames, lr_frames, strict=True):
        yield to_uint8(pixels), lr_frame
