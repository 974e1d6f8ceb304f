"""Which rendered pictures stand for which frames: fresh, old, or only previewed."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparkvsr.errors import KeyframeError
from sparkvsr.studio.project import Project

MAX_PREVIEWS = 400
"""Frames kept as pictures; at 1280x720 about 1.2 MB each."""

MAX_SHARES = 600
"""Segments whose reach is remembered."""

SHARES = "reach.json"


class Shown:
    """The segments as they would be now, what of them is in the store, and previews.

    Args:
        project: whose store and previews.
        kept: the part ``shown`` of state.json: key of the last rendered segment by ``START-STOP``.
    """

    def __init__(self, project: Project, kept: Any) -> None:
        self._project = project
        self.segments: list[tuple[int, int, str]] = []
        self._last: dict[str, str] = {}
        if isinstance(kept, dict):
            self._last = {name: key for name, key in kept.items() if isinstance(key, str)}
        self._starts: dict[str, int] = {}
        for name, key in self._last.items():
            with suppress(ValueError):
                self._starts[key] = int(name.partition("-")[0])
        self._previews: OrderedDict[int, str] = OrderedDict()
        shares = project.load(SHARES)
        self._shares: dict[str, list[float]] = shares if isinstance(shares, dict) else {}
        self._preview_shares: dict[int, float] = {}
        self._find_previews()

    def plan(self, segments: list[list[Any]]) -> None:
        """Take over what would be rendered now."""
        self.segments = [(int(start), int(stop), str(key)) for start, stop, key in segments]
        for start, stop, key in self.segments:
            self._starts[key] = start
            if self.is_stored(key):
                self._last[f"{start}-{stop}"] = key
        current = {key for _, _, key in self.segments} | set(self._last.values())
        self._starts = {key: start for key, start in self._starts.items() if key in current}

    def keys_between(self, start: int, stop: int) -> list[str]:
        """Keys of the segments that some frames lie in, as they would be now."""
        return [key for first, last, key in self.segments if first < stop and start < last]

    def segment_done(self, key: str, shares: list[float] | None) -> None:
        """A segment has entered the store."""
        for start, stop, own in self.segments:
            if own == key:
                self._last[f"{start}-{stop}"] = key
                for index in range(start, stop):
                    if self._previews.get(index) == key:
                        del self._previews[index]
                        self._preview_shares.pop(index, None)
        shutil.rmtree(self._project.path("previews", key), ignore_errors=True)
        if shares is not None:
            self._shares.pop(key, None)
            self._shares[key] = shares
            while len(self._shares) > MAX_SHARES:
                del self._shares[next(iter(self._shares))]
            self._project.save(SHARES, self._shares)

    def preview_done(self, index: int, key: str, share: float | None) -> None:
        """A picture of a frame was written."""
        old = self._previews.pop(index, None)
        if old is not None and old != key:
            self._remove_preview(index, old)
        self._previews[index] = key
        if share is not None:
            self._preview_shares[index] = share
        while len(self._previews) > MAX_PREVIEWS:
            gone, old = self._previews.popitem(last=False)
            self._remove_preview(gone, old)
            self._preview_shares.pop(gone, None)

    def is_stored(self, key: str) -> bool:
        """Whether a segment is in the store (its bytes are checked before they get into a result)."""
        return self.segment_path(key).is_file() and self._project.path("store", "segments", f"{key}.json").is_file()

    def segment_path(self, key: str) -> Path:
        """Where a segment lies."""
        return self._project.path("store", "segments", f"{key}.mkv")

    def segment_of(self, key: str) -> tuple[Path, int]:
        """File and first frame of a segment that is shown.

        Raises:
            KeyframeError: nothing of that name is shown.
        """
        start = self._starts.get(key)
        if start is None or not self.is_stored(key):
            msg = "this part is not rendered any more; the page will ask for what is there"
            raise KeyframeError(msg)
        return self.segment_path(key), start

    def preview_path(self, index: int, key: str) -> Path:
        """Picture of a previewed frame.

        Raises:
            KeyframeError: there is none.
        """
        path = self._project.path("previews", key, f"{index}.png")
        if not path.is_file():
            msg = f"frame {index} was not previewed"
            raise KeyframeError(msg)
        return path

    def listed(self) -> list[list[Any]]:
        """``[start, stop, key, is stored, key of an old one or None]`` for the page."""
        out = []
        for start, stop, key in self.segments:
            stored = self.is_stored(key)
            old = None if stored else self._last.get(f"{start}-{stop}")
            out.append([start, stop, key, stored, old if old and self.is_stored(old) else None])
        return out

    def previews(self) -> dict[str, str]:
        """Key by frame, for the page."""
        return {str(index): key for index, key in self._previews.items()}

    def best(self, index: int) -> tuple[str, str] | None:
        """What to show of a frame: kind (``segment``, ``preview``) and key; only what is not old."""
        for start, stop, key in self.segments:
            if start <= index < stop:
                if self.is_stored(key):
                    return "segment", key
                return ("preview", key) if self._previews.get(index) == key else None
        return None

    def shares(self, frames: int) -> list[float | None]:
        """How much keyframes cover of each frame; None where it is not known."""
        out: list[float | None] = [None] * frames
        for start, stop, key in self.segments:
            known = self._shares.get(key)
            if known is None and not self.is_stored(key):
                known = self._shares.get(self._last.get(f"{start}-{stop}", ""))
            if known is not None:
                for place, share in enumerate(known[: stop - start]):
                    out[start + place] = share
        for index, share in self._preview_shares.items():
            if index < frames and index in self._previews:
                out[index] = share
        return out

    def kept(self) -> dict[str, str]:
        """For state.json."""
        return dict(self._last)

    def _remove_preview(self, index: int, key: str) -> None:
        self._project.path("previews", key, f"{index}.png").unlink(missing_ok=True)
        with suppress(OSError):
            self._project.path("previews", key).rmdir()

    def _find_previews(self) -> None:
        """What an earlier run left; the newest of each frame."""
        found = []
        for folder in self._project.path("previews").iterdir():
            if folder.is_symlink() or not folder.is_dir():
                continue
            for path in folder.iterdir():
                if path.suffix == ".png" and path.stem.isascii() and path.stem.isdigit():
                    found.append((path.stat().st_mtime_ns, int(path.stem), folder.name))
                else:
                    path.unlink(missing_ok=True)
        for _, index, key in sorted(found):
            self.preview_done(index, key, None)
