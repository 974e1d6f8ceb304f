"""Giving a finished file its name so that a power cut cannot leave an empty file there.

A rename may reach the disk before the data of the file does. So the data are flushed first, and the folder, which holds
the name, afterwards.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

_WAITS = (0.02, 0.05, 0.1, 0.2, 0.5)

_LONGEST_PLAIN_BYTES = 120
"""Of a name that is repeated in a temporary one; some encrypted file systems take 143 bytes in all."""


def temporary_path(path: Path, kind: str, suffix: str = "") -> Path:
    """The hidden name beside a file or folder under which it is made: ``.NAME.KIND``, with a hash for long names.

    Args:
        path: what is made.
        kind: such as ``partial``.
        suffix: put behind it, where a program looks at it.
    """
    name = path.name
    if len(os.fsencode(name)) > _LONGEST_PLAIN_BYTES:
        name = hashlib.sha256(os.fsencode(name)).hexdigest()[:24]
    return path.with_name(f".{name}.{kind}{suffix}")


def flush_file(path: Path) -> None:
    """Wait until the data of a file are on the disk.

    Raises:
        OSError: the disk is full or broken.
    """
    # Windows flushes only what may be written.
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Wait until the names in a folder are on the disk, where the system can."""
    with suppress(OSError):  # not on Windows, nor on some network disks
        flush_file(folder)


def replace_durably(partial: Path, final: Path) -> None:
    """Rename a complete file to its final name, replacing what is there.

    Raises:
        OSError: the data cannot be flushed or the name cannot be given.
    """
    flush_file(partial)
    give_name(partial, final)
    flush_folder(final.parent)


def give_name(partial: Path, final: Path) -> None:
    """Rename a file, replacing what is there.

    Windows refuses while another process reads the old file (the studio, a virus scanner), so that is waited for.

    Raises:
        OSError: the name cannot be given.
    """
    for seconds in _WAITS if os.name == "nt" else ():
        try:
            partial.replace(final)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    partial.replace(final)
