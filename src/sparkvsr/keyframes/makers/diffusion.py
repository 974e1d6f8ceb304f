"""A diffusion pipeline with words as a reference maker: ``diffusers:PATH`` with ``--prompt``.

``diffusers:PATH#strength=0.4&steps=30&guidance=6`` sets what is behind ``#``.
"""

from __future__ import annotations

import inspect
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker, fit_answer
from sparkvsr.video.pixels import resize_image

DEFAULT_PROMPT = "sharp, clean, highly detailed photograph"
DEFAULT_STRENGTH = 0.3
"""How much an image-to-image pipeline may change: enough for detail, little enough to stay on the frame."""

SIDE_MULTIPLE = 8
"""Latents are an eighth of the image; other sides would be cut."""

# name behind '#' -> parameter of the pipeline, type, lowest and highest value
_SETTINGS: dict[str, tuple[str, type, float, float]] = {
    "strength": ("strength", float, 0.01, 1.0),
    "steps": ("num_inference_steps", int, 1, 1000),
    "guidance": ("guidance_scale", float, 0.0, 50.0),
    "noise": ("noise_level", int, 0, 350),
}


class DiffusionMaker(ReferenceMaker):
    """Runs an image-to-image pipeline on the upscaled frame, or an upscaling pipeline on the frame itself.

    Args:
        pipeline: of diffusers, or anything that is called like one and takes ``image``.
        name: what the plan shows.
        options: prompts and seed; the noise of a keyframe depends on the seed and its index only.
        settings: parameters for the call.
    """

    def __init__(
        self, pipeline: Any, name: str, options: MakerOptions | None = None, settings: dict[str, float] | None = None
    ) -> None:
        self._pipeline = pipeline
        self._options = options or MakerOptions()
        self._settings = settings or {}
        self._parameters = set(inspect.signature(pipeline.__call__).parameters)
        unknown = sorted(set(self._settings) - self._parameters)
        if unknown:
            msg = f"{name}: a {type(pipeline).__name__} has no {unknown[0]}; leave it out"
            raise ConfigError(msg)
        # Only image-to-image pipelines have a strength; upscalers decide the size themselves.
        self._upscales = "strength" not in self._parameters
        self.name = name

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        start = lr if self._upscales else resize_image(lr, size)
        h, w = start.shape[-2:]
        sides = (_up(h), _up(w))
        # Filled up by repeated pixels instead of stretched: the content must not move.
        padded = torch.nn.functional.pad(start[None], (0, sides[1] - w, 0, sides[0] - h), mode="replicate")
        arguments: dict[str, Any] = {
            "prompt": self._options.prompt_for(index) or DEFAULT_PROMPT,
            "image": padded,
            "generator": torch.Generator().manual_seed(self._options.seed * 1_000_003 + index),
            "output_type": "np",
            "strength": DEFAULT_STRENGTH,
            "height": sides[0],
            "width": sides[1],
        } | self._settings
        if self._upscales:
            arguments = {name: value for name, value in arguments.items() if name not in ("height", "width")}
        arguments = {name: value for name, value in arguments.items() if name in self._parameters}
        try:
            with torch.inference_mode():
                images = self._pipeline(**arguments).images
            image = torch.from_numpy(np.asarray(images[0], np.float32)).permute(2, 0, 1)
        except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as exc:
            lines = str(exc).strip().splitlines() or [type(exc).__name__]
            msg = f"{self.name} failed for keyframe {index}: {lines[0][:200]}"
            raise KeyframeError(msg) from exc
        if not torch.isfinite(image).all() or image.shape[0] != 3:
            msg = f"{self.name} gave no picture for keyframe {index} (values that are no numbers); try another dtype"
            raise KeyframeError(msg)
        factor_h, factor_w = image.shape[-2] / sides[0], image.shape[-1] / sides[1]
        image = image[:, : max(1, round(h * factor_h)), : max(1, round(w * factor_w))].clamp(0, 1)
        return fit_answer(image, lr, size, f"{self.name}, keyframe {index},")

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``; a folder whose files are replaced counts as the same."""
        return f"{self.name}\0{sorted(self._settings.items())}\0{self._options.seed}\0{self._options.prompt_for(index)}"


def _up(side: int) -> int:
    return -(-side // SIDE_MULTIPLE) * SIDE_MULTIPLE


def parse_settings(text: str, where: str) -> dict[str, float]:
    """``"strength=0.4&steps=30"`` to parameters of the call.

    Raises:
        ConfigError: unknown name, or a value out of range.
    """
    settings: dict[str, float] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        if name not in _SETTINGS:
            msg = f"--references {where}: unknown setting {name!r} behind '#'; use {', '.join(_SETTINGS)}"
            raise ConfigError(msg)
        parameter, kind, low, high = _SETTINGS[name]
        try:
            number = kind(value)
        except ValueError:
            number = None
        if number is None or not low <= number <= high:
            msg = f"--references {where}: {name}={value} is not a number from {low:g} to {high:g}"
            raise ConfigError(msg)
        settings[parameter] = number
    return settings


def make_diffusion(argument: str, options: MakerOptions) -> DiffusionMaker:
    """Factory of ``diffusers:PATH``.

    Raises:
        ConfigError: the path is empty, or a setting is unknown.
    """
    path, _, fragment = argument.partition("#")
    if not path:
        msg = "--references diffusers: needs the folder or hub id of a pipeline, like diffusers:models/my-pipeline"
        raise ConfigError(msg)
    settings = parse_settings(fragment, f"diffusers:{path}")
    from sparkvsr.models.image_pipeline import load_image_pipeline

    return DiffusionMaker(load_image_pipeline(path, options.device), f"diffusers {path}", options, settings)
