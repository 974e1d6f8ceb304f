"""What must never happen to a file that is read: that the result takes its place."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from sparkvsr.errors import ConfigError
from sparkvsr.suffixes import IMAGE_SUFFIXES

from .images import is_pattern, pattern_number
from .options import check_name

_READ_IN_FOLDERS = {*IMAGE_SUFFIXES, ".json"}


def refuse_source(output: Path, sources: Iterable[Path], *, option: str = "-o") -> None:
    """Refuse an output that is one of the inputs, under whatever name (links and hard links included).

    Args:
        output: file, folder or pattern to be written.
        sources: files, folders and patterns that are read.
        option: how the user named the output.

    Raises:
        ConfigError: with both names.
        EncodeError: the output's name is too long for any file system.
    """
    check_name(output)
    for source in sources:
        if is_same(output, source) or _writes_into(output, source) or _is_part_of(output, source):
            what = "is the input itself" if str(output) == str(source) else f"is the input {source} itself"
            msg = f"{option} {output} {what}: it would be destroyed; give another name"
            raise ConfigError(msg)


def is_same(one: Path, other: Path) -> bool:
    """Whether two names lead to one file or folder."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return os.path.abspath(one) == os.path.abspath(other)  # noqa: PTH100 (resolves .. where nothing exists)


def _is_part_of(output: Path, source: Path) -> bool:
    """Whether a single output is there already as an image (or the notes) of a folder or sequence that is read."""
    if output.suffix.lower() not in _READ_IN_FOLDERS or not output.is_file():
        return False
    if is_pattern(source):
        return is_same(output.parent, source.parent) and pattern_number(source.name, output.name) is not None
    return source.is_dir() and any(is_same(folder, source) for folder in output.resolve().parents[:2])


def _writes_into(output: Path, source: Path) -> bool:
    """Whether images of a sequence would take the place of those that are read."""
    if not is_pattern(output) and not output.is_dir():
        return False
    folder = output.parent if is_pattern(output) else output
    name = output.name if is_pattern(output) else "%05d.png"
    try:
        files = [source] if source.is_file() else list((source if source.is_dir() else source.parent).iterdir())
    except OSError:
        return False
    if is_pattern(source):
        files = [file for file in files if pattern_number(source.name, file.name) is not None]
    return any(is_same(file.parent, folder) and pattern_number(name, file.name) is not None for file in files)
