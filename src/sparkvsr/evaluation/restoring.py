"""Restores a bench clip as ``sparkvsr upscale`` does: the same plan, shots, chunks and sessions; 8-bit frames out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.bench_keyframes import GROUND_TRUTH, IMAGE_MODEL_SUFFIXES
from sparkvsr.evaluation.image_model import ImageModel
from sparkvsr.home import expanded
from sparkvsr.inference.clip.engine import KeyframeLoader, RestoreSettings, restore_shots
from sparkvsr.inference.clip.planning import RunPlan, plan_run
from sparkvsr.keyframes.references import ReferenceMaker, make_reference_maker
from sparkvsr.keyframes.shots import Shot
from sparkvsr.metrics.colour import Image8, to_pixels
from sparkvsr.models.device import resolve_device
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import has_looks, load_model
from sparkvsr.video.pixels import resize_image, to_uint8

if TYPE_CHECKING:
    from sparkvsr.evaluation.bench_clip import BenchClip, LrFrames
    from sparkvsr.evaluation.frames import FrameClip
    from sparkvsr.evaluation.run_options import RunOptions


class GroundTruthMaker(ReferenceMaker):
    """Keyframes that are ground-truth frames.

    Args:
        truth: the ground truth of one clip.
    """

    name = GROUND_TRUTH

    def __init__(self, truth: FrameClip) -> None:
        self._truth = truth

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        return resize_image(to_pixels(self._truth.frame(index)), size)


def load_restorer(options: RunOptions, usual_look: str | None = None) -> RestorationModel:
    """What ``--model`` stands for: a model of ``sparkvsr.load_model``, or a weight file of an image upscaler.

    Args:
        options: which model, on which device, in which look.
        usual_look: where no look was asked for, of models that know several.

    Raises:
        WeightsError, ConfigError: see ``load_model`` and ``make_reference_maker``.
    """
    path = expanded(options.model)
    if path.suffix in IMAGE_MODEL_SUFFIXES and path.is_file():
        if options.look is not None:
            msg = f"--look {options.look} is for lite models, {path.name} has one look only; leave it out"
            raise ConfigError(msg)
        device = resolve_device(options.device)
        return ImageModel(make_reference_maker(str(path), device), path.stem, device)
    look = usual_look if options.look is None and has_looks(options.model) else options.look
    return load_model(options.model, device=options.device, dtype=options.dtype, look=look)


def load_maker(options: RunOptions) -> ReferenceMaker | None:
    """What ``--references`` stands for, ``auto`` resolved already; None for ``gt``.

    Raises:
        ConfigError: it is one video, for many clips.
        SparkVSRError: see ``make_reference_maker``.
    """
    if options.references == GROUND_TRUTH or options.references is None:
        return None
    maker = make_reference_maker(options.references, resolve_device(options.device))
    if maker.covers_clip:
        msg = (
            f"--references {options.references} is one video, and eval has many clips; write its frames out with "
            "sparkvsr keyframes, or restore with sparkvsr upscale and measure the result"
        )
        raise ConfigError(msg)
    return maker


def describe_model(model: RestorationModel) -> dict[str, str]:
    """The model, for the record."""
    return {
        "name": model.name,
        "device": str(model.device),
        "dtype": str(model.dtype).removeprefix("torch."),
        "fingerprint": model.fingerprint(),
        **({} if model.look is None else {"look": model.look}),
    }


def plan_clip(model: RestorationModel, clip: BenchClip, num_keyframes: int, options: RunOptions) -> RunPlan:
    """How the model runs a clip; see ``plan_run``."""
    return plan_run(
        model,
        clip.lr_size,
        clip.size,
        clip.num_frames,
        num_keyframes=num_keyframes,
        guidance_scale=options.guidance_scale,
        chunk_frames=options.chunk_frames,
        tile=options.tile,
    )


def pixel_identity(model: RestorationModel, settings: RestoreSettings) -> str:
    """Text that changes when a plan of the same model gives other pixels."""
    # A model that cannot be continued in mid-shot may depend on where its chunks lie.
    return f"chunk {None if model.is_resumable else settings.chunk_frames} tile {settings.tile}"


def describe_run(settings: RestoreSettings, shots: Sequence[Shot]) -> dict[str, Any]:
    """How a clip was restored, for the record."""
    return {
        "chunk_frames": settings.chunk_frames,
        "tile": settings.tile,
        "shots": [[shot.start, shot.stop] for shot in shots],
        "grey": settings.is_grey,
    }


def restored_frames(
    model: RestorationModel,
    lr: LrFrames,
    shots: Sequence[Shot],
    keyframes: Sequence[int],
    maker: ReferenceMaker | None,
    settings: RestoreSettings,
) -> Iterator[tuple[Image8, Image8]]:
    """Restore one clip.

    Args:
        model: loaded.
        lr: its LR frames.
        shots: of the clip, from its first frame to its last.
        keyframes: frame numbers, strictly increasing.
        maker: gives their HR images; may be None when there are none.
        settings: as planned.

    Yields:
        ``(H, W, 3)`` uint8 restored frame, rounded as an encoder would, and the ``(h, w, 3)`` LR frame it came from.

    Raises:
        DecodeError: the LR frames end too early.
    """
    loader = None
    if maker is not None:
        loader = KeyframeLoader(lr.open, maker, settings.working_size)
    try:
        for frame, pixels in restore_shots(model, lr.open(), shots, keyframes, loader, settings):
            yield to_image8(pixels), to_image8(frame.pixels)
    finally:
        if loader is not None:
            loader.close()


def to_image8(pixels: Tensor) -> Image8:
    """``(3, H, W)`` float in [0, 1] to ``(H, W, 3)`` uint8, rounded as files are written."""
    return np.ascontiguousarray(to_uint8(pixels).permute(1, 2, 0).numpy())
