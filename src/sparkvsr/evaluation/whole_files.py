"""Files that are whole or not there: a full disk leaves no cut picture or table under its final name."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from sparkvsr.errors import EncodeError


def write_whole(path: Path, data: bytes | str) -> None:
    """Write a file aside and give it its name when it is complete.

    Args:
        path: of the file; what is there is replaced.
        data: text is written as UTF-8; what is no text in a name is written out.

    Raises:
        EncodeError: the disk is full, or the folder cannot be written.
    """
    content = data.encode("utf-8", errors="backslashreplace") if isinstance(data, str) else data
    aside = path.with_name(f".{path.name[:40]}.partial")
    try:
        aside.write_bytes(content)
        aside.replace(path)
    except OSError as exc:
        with suppress(OSError):
            aside.unlink()
        msg = f"{path} cannot be written ({exc.strerror}); free some space, or give another -o"
        raise EncodeError(msg) from exc
