"""The paper's model over the diffusers CogVideoX1.5 classes. Importing this package loads no torch, no diffusers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparkvsr.models.cogvideox.load import load_cogvideox
    from sparkvsr.models.cogvideox.model import CogVideoXModel

__all__ = ["CogVideoXModel", "load_cogvideox"]


def __getattr__(name: str) -> Any:
    # Deferred: the command line imports this package to list options.
    if name == "load_cogvideox":
        from sparkvsr.models.cogvideox.load import load_cogvideox

        return load_cogvideox
    if name == "CogVideoXModel":
        from sparkvsr.models.cogvideox.model import CogVideoXModel

        return CogVideoXModel
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
