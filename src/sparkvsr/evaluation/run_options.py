"""How a bench is run and which metrics are computed: plain values, no torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class MetricChoice:
    """Which metrics, and how to provide what they need.

    Attributes:
        names: group and metric names, separated by commas.
        every: slow metrics score every N-th frame.
        weights_dir: searched first for weights.
        allow_download: fetch missing weights that have an address and a checksum.
        strict: a metric of a group that cannot be computed is an error.
        device: where networks of metrics run: ``auto``, ``cpu``, ``cuda``.
    """

    names: str = "default"
    every: int = 1
    weights_dir: Path | None = None
    allow_download: bool = False
    strict: bool = False
    device: str = "auto"


@dataclass(frozen=True)
class RunOptions:
    """How a bench is run.

    Attributes:
        model: as for ``sparkvsr.load_model``, or a weight file of an image upscaler.
        look: as for ``sparkvsr.load_model``; None for what the bench says, where the model knows looks.
        keyframes: ``auto``, ``none``, ``first``, ``every:N``, ``iframes`` or frame numbers; None for ``auto`` where the
            model gains from keyframes of its own kind, as in ``sparkvsr upscale``, else ``none``.
        references: ``gt`` or what ``make_reference_maker`` takes; a folder holds a folder of images for each clip,
            whose frames are the keyframes when ``keyframes`` is None or ``none``. None for what fits the look.
        guidance_scale: as in ``RestorationModel.restore``.
        device, dtype: of the model, see ``sparkvsr.load_model``.
        chunk_frames, tile: as for ``sparkvsr upscale``: None lets the model choose, a tile of 0 means whole frames.
        clips: only these; empty for all.
        max_frames: only the first N frames of each clip.
        save_frames: keep the restored frames as PNG.
    """

    model: str = "lite"
    look: str | None = None
    keyframes: str | None = None
    references: str | None = None
    guidance_scale: float = 1.0
    device: str = "auto"
    dtype: str = "auto"
    chunk_frames: int | None = None
    tile: int | None = None
    clips: tuple[str, ...] = ()
    max_frames: int | None = None
    save_frames: bool = False
