"""Loading an image pipeline of diffusers that starts from an image: image-to-image or upscaling."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import torch

from sparkvsr.errors import WeightsError
from sparkvsr.home import expanded
from sparkvsr.plain_json import read_object
from sparkvsr.unpickling import weights_only

# Packages whose classes a pipeline may be made of.
_LIBRARIES = ("diffusers", "transformers")


def load_image_pipeline(path: str, device: str | torch.device = "cpu") -> Any:
    """Load a pipeline whose call takes ``image``.

    A text-to-image pipeline is turned into its image-to-image counterpart where diffusers has one.

    Args:
        path: a folder with ``model_index.json``, or a hub id.
        device: where it runs; half precision on CUDA.

    Raises:
        WeightsError: no such folder or id, a component is missing, it brings code of its own, or it does not start from
            an image.
    """
    try:
        from diffusers import AutoPipelineForImage2Image, DiffusionPipeline
    except ImportError as exc:
        msg = f"diffusers:{path} needs the packages diffusers and transformers; run: pip install diffusers transformers"
        raise WeightsError(msg) from exc
    local = expanded(path)
    if local.exists() and not (local / "model_index.json").is_file():
        msg = f"{local} is not the folder of a diffusers pipeline: it has no model_index.json"
        raise WeightsError(msg)
    if local.exists():
        _refuse_own_code(local)
    # Half precision from the start where it is used, so that a large pipeline is not loaded twice as large.
    options = {"torch_dtype": torch.float16} if torch.device(device).type == "cuda" else {}
    try:
        with weights_only():
            pipeline = DiffusionPipeline.from_pretrained(str(local) if local.exists() else path, **options)
        if not takes_image(pipeline):
            pipeline = AutoPipelineForImage2Image.from_pipe(pipeline)
        pipeline = pipeline.to(device)
    except Exception as exc:  # whatever a missing file, a network or a wrong component makes diffusers raise
        lines = str(exc).strip().splitlines()
        reason = lines[0][:200] if lines else type(exc).__name__
        msg = f"diffusers:{path} cannot be loaded: {reason}; give the folder or hub id of an image-to-image pipeline"
        raise WeightsError(msg) from exc
    if not takes_image(pipeline):
        msg = f"diffusers:{path} is a {type(pipeline).__name__}, which does not start from an image"
        raise WeightsError(msg)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _refuse_own_code(folder: Path) -> None:
    """A pipeline may name classes in Python files that it brings along; releases of diffusers differ in what they run.

    Raises:
        WeightsError: it names anything outside diffusers and transformers, or its list cannot be read.
    """
    file = folder / "model_index.json"
    try:
        entries = list(read_object(file).items())
    except (OSError, ValueError) as exc:
        msg = f"{file} cannot be read as the list of a pipeline's parts ({type(exc).__name__}); copy it again"
        raise WeightsError(msg) from exc
    for name, entry in entries:
        is_part = isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) and name[:1] != "_"
        is_foreign = is_part and entry[0] not in _LIBRARIES and not hasattr(_pipelines_of_diffusers(), entry[0])
        if is_foreign or (name == "_class_name" and isinstance(entry, list)):
            msg = (
                f"{file}: {name} is {entry!r}, code that the folder brings along; only parts of diffusers and "
                "transformers are loaded"
            )
            raise WeightsError(msg)


def _pipelines_of_diffusers() -> Any:
    """Where diffusers keeps the parts that belong to one pipeline."""
    from diffusers import pipelines

    return pipelines


def takes_image(pipeline: Any) -> bool:
    """Whether a pipeline's call has a parameter ``image``."""
    return "image" in inspect.signature(pipeline.__call__).parameters
