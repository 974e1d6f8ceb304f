"""The folder `refs/` kept in step with the current version of the keyframes, in both directions.

What the studio decides is written there as `sparkvsr keyframes` writes it, so that `sparkvsr upscale --references` can
use it. What another program changes there (an image that was edited, replaced, added or deleted, a weight in
keyframes.json) is seen and becomes a version of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparkvsr.errors import SparkVSRError
from sparkvsr.keyframes.manifest import MANIFEST_NAME, KeyframeEntry, Manifest, read_manifest, write_manifest
from sparkvsr.studio.files import write_file
from sparkvsr.studio.history import Table
from sparkvsr.studio.project import Project

WRITTEN = "refs.json"


def image_name(index: int) -> str:
    """``48`` to ``00048.png``."""
    return f"{index:05d}.png"


class ReferenceFolder:
    """Writes `refs/` and notices what others change in it.

    Args:
        project: whose folder.
        lr_size: ``(h, w)`` of the clip.
        num_frames: of the clip.
        facts: time in seconds and shot number of a frame, for keyframes.json.
        fingerprint: of the clip.
    """

    def __init__(
        self,
        project: Project,
        lr_size: tuple[int, int],
        num_frames: int,
        facts: Callable[[int], tuple[float | None, int | None]],
        fingerprint: str | None,
    ) -> None:
        self._project = project
        self._lr_size = lr_size
        self._num_frames = num_frames
        self._facts = facts
        self._fingerprint = fingerprint
        kept = project.load(WRITTEN)
        self._written: dict[str, str] = kept if isinstance(kept, dict) else {}
        self._seen: dict[str, tuple[int, int]] = {}

    @property
    def folder(self) -> Path:
        """Where the images lie."""
        return self._project.path("refs")

    def write(self, table: Table) -> None:
        """Make the folder show a version."""
        wanted: dict[str, bytes] = {}
        for index, entry in table["keyframes"].items():
            wanted[image_name(int(index))] = self._project.image_path(entry["image"]).read_bytes()
        for name, data in wanted.items():
            path = self._project.path("refs", name)
            digest = hashlib.sha256(data).hexdigest()
            if not path.is_file() or _digest(path) != digest:
                write_file(path, data)
            self._written[name] = digest
        for name in [name for name in self._written if name not in wanted and name != MANIFEST_NAME]:
            self._project.path("refs", name).unlink(missing_ok=True)
            del self._written[name]
        manifest = self._project.path("refs", MANIFEST_NAME)
        if wanted:
            write_manifest(self.folder, self._manifest(table))
            self._written[MANIFEST_NAME] = _digest(manifest)
        else:
            # Without a keyframe there is nothing to list, and an empty list would be refused.
            manifest.unlink(missing_ok=True)
            self._written.pop(MANIFEST_NAME, None)
        self._project.save(WRITTEN, self._written)
        self._seen = self._look()

    def changed(self, table: Table) -> tuple[Table, list[str], list[str]] | None:
        """What another program did to the folder since it was last looked at.

        Returns:
            The table with it, what was done in words, and what could not be taken over; None when nothing was done.
        """
        if not self.folder.is_dir():
            if not self._seen:
                return None
            self._seen = {}
            return table, [], [f"{self.folder} is gone; what is edited now cannot be kept, put the folder back"]
        now = self._look()
        if now == self._seen:
            return None
        self._seen = now
        done: list[str] = []
        problems: list[str] = []
        keyframes = table["keyframes"]
        for name in sorted(now):
            index = _index(name)
            if index is None or index >= self._num_frames:
                continue
            path = self._project.path("refs", name)
            try:
                digest = _digest(path)
                if self._written.get(name) == digest:
                    continue
                image = self._project.keep_bytes(path.read_bytes(), self._lr_size)
            except OSError:
                self._seen.pop(name, None)  # still being written: looked at again
                continue
            except SparkVSRError as exc:
                problems.append(f"{name}: {exc}")
                continue
            self._written[name] = digest
            old = keyframes.get(str(index))
            if old is None or old["image"] != image:
                new = {"weight": 1.0, "enabled": True, **(old or {}), "image": image, "maker": "edited outside"}
                new.pop("mask", None)
                keyframes[str(index)] = new
                done.append(f"{'add' if old is None else 'edit'} {index} outside")
        for index in [index for index in keyframes if image_name(int(index)) not in now]:
            if self._written.pop(image_name(int(index)), None) is not None:
                del keyframes[index]
                done.append(f"remove {index} outside")
        self._read_weights(keyframes, done, problems)
        return table, done, problems

    def _read_weights(self, keyframes: dict[str, Any], done: list[str], problems: list[str]) -> None:
        path = self._project.path("refs", MANIFEST_NAME)
        if not path.is_file() or self._written.get(MANIFEST_NAME) == _digest(path):
            return
        try:
            manifest = read_manifest(self.folder)
        except SparkVSRError as exc:
            problems.append(str(exc))
            return
        self._written[MANIFEST_NAME] = _digest(path)
        for entry in manifest.keyframes if manifest else ():
            own = keyframes.get(str(entry.index))
            if own is None:
                continue
            if entry.weight == 0 and own["enabled"]:
                own["enabled"] = False
                done.append(f"disable {entry.index} outside")
            elif entry.weight > 0 and (entry.weight != own["weight"] or not own["enabled"]):
                own["weight"], own["enabled"] = entry.weight, True
                done.append(f"weight of {entry.index} outside")
            if entry.maker and own.get("maker") == "edited outside":
                own["maker"] = entry.maker

    def _look(self) -> dict[str, tuple[int, int]]:
        seen = {}
        for path in self.folder.iterdir():
            if path.is_symlink() or not (_index(path.name) is not None or path.name == MANIFEST_NAME):
                continue
            try:
                status = path.stat()
            except OSError:
                continue
            seen[path.name] = (status.st_mtime_ns, status.st_size)
        return seen

    def _manifest(self, table: Table) -> Manifest:
        entries = []
        for index, entry in sorted((int(index), entry) for index, entry in table["keyframes"].items()):
            seconds, shot = self._facts(index)
            entries.append(
                KeyframeEntry(
                    index=index,
                    time_seconds=None if seconds is None else round(seconds, 4),
                    shot=shot,
                    maker=entry.get("maker"),
                    weight=float(entry["weight"]) if entry["enabled"] else 0.0,
                    prompt=entry.get("prompt") or None,
                    file=image_name(index),
                )
            )
        return Manifest(tuple(entries), self._fingerprint, self._project.clip.name, self._num_frames)


def used_indices(table: Table) -> list[int]:
    """Frames whose keyframe has an influence."""
    entries = table["keyframes"].items()
    return sorted(int(index) for index, entry in entries if entry["enabled"] and entry["weight"] > 0)


def _index(name: str) -> int | None:
    stem, _, suffix = name.rpartition(".")
    return int(stem) if suffix == "png" and stem.isascii() and stem.isdigit() and len(stem) < 10 else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
