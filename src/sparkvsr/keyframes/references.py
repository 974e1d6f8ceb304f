"""Where the HR image of a keyframe comes from: the maker that a ``--references`` value stands for.

Makers live in ``makers/``, the folder of images in ``folder.py``. Other packages add makers through the entry point
group ``sparkvsr.reference_makers``: a name, and a factory ``(argument: str, options: MakerOptions) -> ReferenceMaker``
that gets what follows the colon in ``name:argument``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

import torch

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded, is_there
from sparkvsr.keyframes.folder import IMAGE_SUFFIXES, FolderMaker
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker
from sparkvsr.keyframes.makers.networks import BicubicMaker, LiteMaker, SpandrelMaker
from sparkvsr.keyframes.makers.video import VideoMaker
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.suffixes import VIDEO_SUFFIXES
from sparkvsr.video.pixels import resize_image

__all__ = [
    "ASPECT_TOLERANCE",
    "ENTRY_POINT_GROUP",
    "IMAGE_SUFFIXES",
    "BicubicMaker",
    "FolderMaker",
    "LiteMaker",
    "MakerOptions",
    "ReferenceMaker",
    "SpandrelMaker",
    "check_maker_name",
    "make_reference_maker",
    "maker_names",
    "resize_image",
]

ENTRY_POINT_GROUP = "sparkvsr.reference_makers"

Factory = Callable[[str, MakerOptions], ReferenceMaker]

# The package's own makers do not go through entry points, so that they are there in a checkout that was not installed
# again, and cannot be replaced behind the user's back.
_BUILT_IN = {
    "lite": "sparkvsr.keyframes.makers.networks:make_lite",
    "detail": "sparkvsr.keyframes.makers.networks:make_detail",
    "bicubic": "sparkvsr.keyframes.makers.networks:make_bicubic",
    "realesrgan": "sparkvsr.keyframes.makers.realesrgan:make_realesrgan",
    "video": "sparkvsr.keyframes.makers.video:make_video",
    "command": "sparkvsr.keyframes.makers.command:make_command",
    "diffusers": "sparkvsr.keyframes.makers.diffusion:make_diffusion",
    "http": "sparkvsr.keyframes.makers.endpoint:make_http",
    "https": "sparkvsr.keyframes.makers.endpoint:make_https",
}


def maker_names() -> list[str]:
    """Names of all makers, the package's own first, then those of other packages."""
    return [*_BUILT_IN, *sorted(set(_plugins()) - set(_BUILT_IN))]


def make_reference_maker(
    name: str, device: str | torch.device = "cpu", options: MakerOptions | None = None
) -> ReferenceMaker:
    """The maker a ``--references`` value stands for.

    Args:
        name: ``lite``, ``detail``, ``bicubic``, ``realesrgan``, ``command:PROGRAM ...``, ``diffusers:PATH``, an
            endpoint's URL, the name of another package's maker, a folder of images, another video of the clip, or
            a weight file that spandrel reads.
        device: where networks run.
        options: further settings; their device is replaced by ``device``.

    Raises:
        ConfigError: no such maker, file or folder, or a setting of the maker is wrong.
        KeyframeError, WeightsError: the folder or file cannot be used.
    """
    options = replace(options or MakerOptions(), device=device)
    kind, _, argument = name.partition(":")
    factory = _factory(kind)
    if factory is not None:
        return factory(argument, options)
    path = expanded(name)
    if not is_there(path):
        raise _unknown(name, "--references")
    if path.is_dir():
        return FolderMaker(path)
    if path.is_file() and path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoMaker(path)
    if path.is_file():
        return SpandrelMaker(path, device)
    raise _unknown(name, "--references")


def check_maker_name(name: str, option: str = "--references") -> None:
    """Refuse a name that stands for no maker at all, without loading anything.

    Args:
        name: as for ``make_reference_maker``.
        option: that it was given with, for the message.

    Raises:
        ConfigError: no such maker, file or folder.
    """
    kind, path = name.partition(":")[0], expanded(name)
    if not (kind in _BUILT_IN or is_there(path) or kind in _plugins()):
        raise _unknown(name, option)


def place_of(name: str) -> Path | None:
    """The file or folder that a ``--references`` value reads, None where it names none that is there."""
    kind, colon, argument = name.partition(":")
    is_maker = bool(colon) and kind in _BUILT_IN
    # A video may be followed by its offset.
    words = (argument, argument.rpartition("@")[0]) if is_maker else (name,)
    return next((expanded(word) for word in words if word and is_there(expanded(word))), None)


def _unknown(name: str, option: str) -> ConfigError:
    return ConfigError(
        f"{option} {name!r} is neither {', '.join(maker_names())}, nor an existing folder of images, nor an "
        f"existing video or weight file"
    )


def _factory(kind: str) -> Factory | None:
    if kind in _BUILT_IN:
        module, _, attribute = _BUILT_IN[kind].partition(":")
        factory: Factory = getattr(importlib.import_module(module), attribute)
        return factory
    plugin = _plugins().get(kind)
    if plugin is None:
        return None
    try:
        loaded: Factory = plugin.load()
    except Exception as exc:  # another package
        msg = f"--references {kind}: the maker {plugin.value} cannot be loaded ({type(exc).__name__}: {exc})"
        raise ConfigError(msg) from exc
    return loaded


def _plugins() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}
