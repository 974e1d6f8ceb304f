"""Everything that can be chosen for one `sparkvsr upscale`, and what is wrong whatever the clip is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.manifest import MAX_GUIDANCE
from sparkvsr.models.interface import RestorationModel
from sparkvsr.models.registry import load_model
from sparkvsr.shapes import check_run_size
from sparkvsr.video import EncodeOptions


@dataclass(frozen=True)
class ModelChoice:
    """Which model, as ``load_model`` takes it; the device is for each process to say.

    Attributes:
        name: see ``load_model``.
        dtype: see ``load_model``.
        look: see ``load_model``.
        options: further keyword arguments of ``load_model``.
    """

    name: str = "lite"
    dtype: str = "auto"
    look: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def load(self, device: str) -> RestorationModel:
        """Load it.

        Raises:
            WeightsError, ConfigError: see ``load_model``.
        """
        return load_model(self.name, device=device, dtype=self.dtype, look=self.look, **self.options)


@dataclass(frozen=True)
class WorkPolicy:
    """What becomes of the work folder.

    Attributes:
        folder: named by the user, kept after success; None takes one beside the output.
        keep: False removes it in any case, also after a failure.
        limit_bytes: size above which segments of earlier runs are dropped from it.
    """

    folder: Path | None = None
    keep: bool = True
    limit_bytes: int | None = 20_000_000_000


@dataclass(frozen=True)
class UpscaleOptions:
    """Everything the user can choose; the defaults are those of ``sparkvsr upscale``.

    Attributes:
        scale, height, size: output size, see ``shapes.output_size``; at most one is given.
        keyframes: which frames guide the restoration.
        references: where their HR images come from: ``auto`` (what fits model and look), ``detail``, ``lite``,
            ``bicubic``, a folder or a weight file.
        guidance_scale: 0 blind, 1 plain, up to 10.
        model: see ``load_model``.
        look: of lite, ``vivid`` (its default) or ``faithful``; None leaves it to the model.
        model_options: further keyword arguments of ``load_model``.
        device, dtype: see ``load_model``.
        chunk_frames, tile: None lets the model choose; a tile of 0 means whole frames.
        seed: for random keyframes and models that sample.
        start, frames: the part of the clip, in frames; ``frames`` None goes to the end.
        preview: a few seconds around a moment, like ``3s@0:42``, instead of ``start`` and ``frames``.
        compare: also write a side-by-side video.
        overwrite: replace an existing output.
        deinterlace: ``auto``, ``on``, ``off``.
        stream: index of the video stream that is restored; None takes the main one.
        encode: codec settings.
        work: work folder, kept after success; None takes one beside the output, which is removed after success
            unless the references come from a folder (then the next edit renders only what it changes).
        keep_work: False removes the work folder in any case, also after a failure.
        work_limit_bytes: size above which segments of earlier runs are dropped from the work folder.
    """

    scale: float | None = None
    height: int | None = None
    size: tuple[int, int] | None = None
    keyframes: KeyframeChoice = field(default_factory=KeyframeChoice)
    references: str = "auto"
    guidance_scale: float = 1.0
    model: str = "lite"
    look: str | None = None
    model_options: Mapping[str, Any] = field(default_factory=dict)
    device: str = "auto"
    dtype: str = "auto"
    chunk_frames: int | None = None
    tile: int | None = None
    seed: int = 42
    start: int = 0
    frames: int | None = None
    preview: str | None = None
    compare: bool = False
    overwrite: bool = False
    deinterlace: str = "auto"
    stream: int | None = None
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    work: Path | None = None
    keep_work: bool = True
    work_limit_bytes: int | None = 20_000_000_000

    @property
    def model_choice(self) -> ModelChoice:
        """The model without its device."""
        return ModelChoice(self.model, self.dtype, self.look, self.model_options)

    @property
    def work_policy(self) -> WorkPolicy:
        """What becomes of the work folder."""
        return WorkPolicy(self.work, self.keep_work, self.work_limit_bytes)


def check_options(options: UpscaleOptions) -> None:
    """Refuse values that are wrong for any clip.

    Raises:
        ConfigError: with the option, its value and what is allowed.
    """
    if not 0.0 <= options.guidance_scale <= MAX_GUIDANCE:
        msg = f"--guidance {options.guidance_scale:g} is out of range; use 0 (blind) to {MAX_GUIDANCE:g}, 1 is plain"
        raise ConfigError(msg)
    if options.start < 0:
        msg = f"--start {options.start} is negative; frames are counted from 0"
        raise ConfigError(msg)
    if options.frames is not None and options.frames < 1:
        msg = f"--frames {options.frames} leaves nothing to do; give at least 1"
        raise ConfigError(msg)
    if options.preview is not None and (options.start or options.frames is not None):
        msg = f"--preview {options.preview} and --start or --frames exclude each other; give one of them"
        raise ConfigError(msg)
    if options.work is not None and not options.keep_work:
        msg = f"--work {options.work} and --no-work exclude each other; give one of them"
        raise ConfigError(msg)
    check_run_size(options.chunk_frames, options.tile)
