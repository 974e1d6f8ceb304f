"""Files of a project: names that stay inside it, and writing that survives a power cut."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from sparkvsr.durable import give_name
from sparkvsr.errors import ConfigError, EncodeError

_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,150}")
MAX_JSON_BYTES = 64 * 2**20


class OutsideError(ConfigError):
    """A name that leads out of the project folder."""


def inside(root: Path, *names: str) -> Path:
    """A path below ``root``, of plain names, with no link on the way.

    Raises:
        OutsideError: a name holds anything but letters, digits, dot, dash and underscore, or something on the way is
            a link.
    """
    path = root
    for name in names:
        if not _PLAIN.fullmatch(name):
            msg = f"{name[:60]!r} is not a plain file name; use letters, digits, dot, dash and underscore"
            raise OutsideError(msg)
        path = path / name
        if path.is_symlink():
            msg = f"{path} is a link to somewhere else; a project holds only its own files, remove the link"
            raise OutsideError(msg)
    return path


def write_file(path: Path, data: bytes) -> None:
    """Replace a file as a whole: after a crash it holds the old or the new bytes.

    Raises:
        EncodeError: the disk is full or the folder may not be written.
    """
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            give_name(Path(name), path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except OSError as exc:
        msg = f"{path} cannot be written ({exc.strerror}); free some space or check the folder's permissions"
        raise EncodeError(msg) from exc


def write_json(path: Path, value: Any) -> None:
    """Replace a JSON file as a whole."""
    write_file(path, (json.dumps(value, separators=(",", ":")) + "\n").encode())


def read_json(path: Path) -> Any:
    """The contents of a JSON file; None if it is missing or not readable as such (it is data of this program's own)."""
    try:
        if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_JSON_BYTES:
            return None
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
