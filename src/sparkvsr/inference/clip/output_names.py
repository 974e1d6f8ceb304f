"""Where the result of a clip goes: names that follow from the input's."""

from __future__ import annotations

from pathlib import Path

from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.shapes import OutputSize
from sparkvsr.video import VideoInfo, output_kind
from sparkvsr.video.images import is_pattern

SEQUENCE_PATTERN = "%05d.png"
"""File names of an image sequence when the output is a folder."""


SAME_CONTAINER = (".mp4", ".mkv", ".mov")


def default_output(path: Path, info: VideoInfo, options: UpscaleOptions, size: OutputSize) -> Path:
    """``in.mp4`` to ``in_x4.mp4``; with ``--height`` or ``--size`` to ``in_1080p.mp4``.

    mp4, mkv and mov keep their container, so that what it carries can be kept; anything else becomes mp4.
    """
    by_factor = options.height is None and options.size is None
    tag = f"_x{size.scale:g}" if by_factor else f"_{size.height}p"
    if options.preview is not None:
        tag += "_preview"
    if info.kind == "sequence":
        folder = path if path.is_dir() else path.parent
        return folder.with_name(folder.name + tag) / SEQUENCE_PATTERN
    if info.kind == "image":
        derived = path.with_name(path.stem + tag + ".png")
        # In the name of a file that is there %d is only text; in that of a file that is not it would be a pattern.
        return derived.with_name(derived.name.replace("%", "_")) if is_pattern(derived) else derived
    suffix = path.suffix.lower() if path.suffix.lower() in SAME_CONTAINER else ".mp4"
    if options.encode.codec == "ffv1":
        suffix = ".mkv"
    elif options.encode.codec == "prores":
        suffix = ".mov" if suffix == ".mp4" else suffix
    return path.with_name(path.stem + tag + suffix)


def resolve_output(
    path: Path, output: Path | None, info: VideoInfo, options: UpscaleOptions, size: OutputSize, *, into_folder: bool
) -> Path:
    """The output path for one input.

    A video is written as an image sequence when ``output`` has no suffix, is an existing folder or holds
    ``%05d``; with several inputs (``into_folder``) each gets its default name inside the folder ``output``.
    """
    default = default_output(path, info, options, size)
    if output is None:
        return default
    if into_folder:
        return output / default.name
    names_a_folder = output.is_dir() or not output.suffix
    if info.kind == "image" and names_a_folder:
        return output / default.name
    if names_a_folder:
        return output / SEQUENCE_PATTERN
    return output


def compare_path(output: Path) -> Path:
    """Where the side-by-side video of an output goes: ``out_compare.mp4`` beside it."""
    if output_kind(output) == "sequence":
        return output.parent.with_name(f"{output.parent.name}_compare.mp4")
    keeps = output.suffix.lower() in (*SAME_CONTAINER, ".png")
    return output.with_name(f"{output.stem}_compare{output.suffix if keeps else '.mp4'}")
