"""SparkVSR as nodes of ComfyUI: put this folder into ComfyUI/custom_nodes (README.md beside this file)."""

from __future__ import annotations

from .nodes import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
