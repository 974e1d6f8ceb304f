"""Clips that could not be used: counted, written down, and too many of them are an error."""

from __future__ import annotations

import logging
from pathlib import Path

logger = logging.getLogger(__name__)

MAX_SKIPS = 20
SKIP_FILE = "skipped.tsv"


class SkipReport:
    """Clips that could not be used: one line each in a file, so that nothing is skipped in silence.

    Args:
        path: text file, appended to; None only logs.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._seen: set[str] = set()

    def add(self, name: str, reason: str) -> None:
        """Note a clip once."""
        if name in self._seen:
            return
        self._seen.add(name)
        # Each loader process has its own report, the file is theirs together.
        if self._path is not None and name in skipped_clips(self._path):
            return
        logger.warning("skipped %s: %s", name, reason)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{name}\t{reason}\n")


def skipped_clips(path: Path) -> set[str]:
    """Names of the clips in a report; none if there is no such file."""
    if not path.is_file():
        return set()
    return {line.partition("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()}
