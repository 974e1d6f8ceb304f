"""SparkVSR: keyframe-driven video super-resolution.

    import sparkvsr
    result = sparkvsr.upscale("in.mp4", "out.mp4", keyframes="iframes")
    sr = sparkvsr.upscale_frames(lr)  # (F, 3, h, w) to (F, 3, H, W), float in [0, 1]

The public names are loaded on first use, so that importing sparkvsr imports no torch.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from sparkvsr.version import __version__

if TYPE_CHECKING:
    from sparkvsr.inference.frames import MadeKeyframes, make_keyframes, upscale_frames
    from sparkvsr.inference.options import UpscaleOptions
    from sparkvsr.inference.upscale import UpscaleResult, upscale
    from sparkvsr.models.interface import RestorationModel
    from sparkvsr.models.registry import load_model

# A library stays silent until the program that uses it chooses where its log goes.
logging.getLogger("sparkvsr").addHandler(logging.NullHandler())

_HOMES = {
    "MadeKeyframes": "sparkvsr.inference.frames",
    "RestorationModel": "sparkvsr.models.interface",
    "UpscaleOptions": "sparkvsr.inference.options",
    "UpscaleResult": "sparkvsr.inference.upscale",
    "load_model": "sparkvsr.models.registry",
    "make_keyframes": "sparkvsr.inference.frames",
    "upscale": "sparkvsr.inference.upscale",
    "upscale_frames": "sparkvsr.inference.frames",
}

__all__ = [
    "MadeKeyframes",
    "RestorationModel",
    "UpscaleOptions",
    "UpscaleResult",
    "__version__",
    "load_model",
    "make_keyframes",
    "upscale",
    "upscale_frames",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        msg = f"module 'sparkvsr' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
