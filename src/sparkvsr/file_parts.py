"""Parts of files that are too large to be read whole for a name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def spread_parts(path: Path, size: int, count: int, length: int) -> Iterator[bytes]:
    """Parts spread evenly over a file, the first and the last bytes among them; a small file as a whole.

    Args:
        path: of the file.
        size: of it, in bytes.
        count: of parts, at least 2.
        length: of each, in bytes.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        if size <= count * length:
            yield file.read(count * length)
            return
        for k in range(count):
            file.seek((size - length) * k // (count - 1))
            yield file.read(length)
