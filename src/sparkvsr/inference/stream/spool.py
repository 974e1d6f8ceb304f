"""A container that comes through a pipe is kept in a file: MP4 has its index at the end, and a clip is read twice."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from sparkvsr.errors import ResourceError, SparkVSRError
from sparkvsr.hooks import Hook
from sparkvsr.units import human_bytes
from sparkvsr.video.pipes import PipeReader

_BLOCK = 1 << 22
LEFT_FREE_BYTES = 512 << 20
"""Of the disk: the result needs room as well."""


@contextmanager
def spooled(reader: PipeReader, hook: Hook) -> Iterator[Path]:
    """Everything that comes, in a file that is removed at the end.

    Raises:
        ResourceError: the disk is too small.
    """
    with TemporaryDirectory(prefix="sparkvsr-stdin-") as folder:
        path = Path(folder) / reader.name
        hook(
            {
                "event": "note",
                "text": f"{reader.name} holds a container, which is read more than once: it is kept below "
                f"{Path(folder).parent} until the end (TMPDIR chooses another folder)",
            }
        )
        with path.open("wb") as file:
            while block := reader.read(_BLOCK):
                free = shutil.disk_usage(folder).free
                if free < LEFT_FREE_BYTES:
                    msg = (
                        f"the disk of {Path(folder).parent} has {human_bytes(free)} left after "
                        f"{human_bytes(reader.num_bytes)} of {reader.name}; set TMPDIR to a larger one, or let ffmpeg "
                        "send y4m, which is not kept"
                    )
                    raise ResourceError(msg)
                file.write(block)
        try:
            yield path
        except SparkVSRError as exc:
            # What is wrong with the clip is wrong with what was sent, not with a file that nobody knows.
            if str(path) not in str(exc):
                raise
            raise type(exc)(str(exc).replace(str(path), reader.name)) from exc
