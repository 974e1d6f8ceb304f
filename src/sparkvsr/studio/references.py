"""The folder `refs/` kept in step with the current version of the keyframes, in both directions.

What the studio decides is written there as `sparkvsr keyframes` writes it, so that `sparkvsr upscale --references` can
use it. What another program changes there (an image that was edited, replaced, added or deleted, a weight in
keyframes.json) is seen and becomes a version of its own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sparkvsr.errors import SparkVSRError
from sparkvsr.keyframes.frame_names import frame_of_name
from sparkvsr.keyframes.manifest import MANIFEST_NAME, KeyframeEntry, Manifest, read_manifest, write_manifest
from sparkvsr.studio.files import write_file
from sparkvsr.studio.history import Table
from sparkvsr.studio.project import Project
from sparkvsr.suffixes import IMAGE_SUFFIXES

WRITTEN = "refs.json"
SETTLE_SECONDS = 0.4
ORIGINALS = "originals"
"""Inside `refs/`: images that others put there under other names, once the studio has its own of them."""


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

    def write(self, table: Table) -> list[tuple[int, str]]:
        """Make the folder show a version.

        Returns:
            Frames and images that another program had just put in the way; they are kept among the candidates.
        """
        in_the_way = self._foreign_images()
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
        # What the studio did not write is still to be taken over.
        self._seen = {name: seen for name, seen in self._look().items() if name in self._written}
        used = {entry["image"] for entry in table["keyframes"].values()}
        return [(index, image) for index, image in in_the_way if image not in used]

    def _foreign_images(self) -> list[tuple[int, str]]:
        found = []
        for name in self._look():
            index = _index(name)
            if index is None or index >= self._num_frames or name != image_name(index):
                continue
            path = self.folder / name
            try:
                if self._written.get(name) != _digest(path):
                    found.append((index, self._project.keep_bytes(path.read_bytes(), self._lr_size)))
            except (OSError, SparkVSRError):
                continue  # no image that could be used
        return found

    def changed(
        self, table: Table, settle_seconds: float = SETTLE_SECONDS
    ) -> tuple[Table, list[str], list[str]] | None:
        """What another program did to the folder since it was last looked at.

        Args:
            table: the current version.
            settle_seconds: a file that is younger may still be being written and waits for the next look.

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
        done: list[str] = []
        problems: list[str] = []
        keyframes = table["keyframes"]
        clock = time.time_ns()
        young = {name for name, (written, _) in now.items() if 0 <= clock - written < settle_seconds * 1e9}
        young = {name for name in young if self._seen.get(name) != now[name]}
        self._seen = {name: seen for name, seen in now.items() if name not in young}
        for name in sorted(self._seen):
            index = _index(name)
            if index is None or index >= self._num_frames:
                continue
            path = self.folder / name
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
            self._written[image_name(index)] = digest if name == image_name(index) else ""
            self._put_aside(name, index)
            old = keyframes.get(str(index))
            if old is None or old["image"] != image:
                new = {"weight": 1.0, "enabled": True, **(old or {}), "image": image, "maker": "edited outside"}
                new.pop("mask", None)
                keyframes[str(index)] = new
                done.append(f"{'add' if old is None else 'edit'} {index} outside")
        for index in [index for index in keyframes if image_name(int(index)) not in now]:
            if self._written.get(image_name(int(index))):  # not one that was just put aside
                del self._written[image_name(int(index))]
                del keyframes[index]
                done.append(f"remove {index} outside")
        if MANIFEST_NAME not in young:
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
            if entry.guidance != own.get("guidance"):
                own.pop("guidance", None)
                if entry.guidance is not None:
                    own["guidance"] = entry.guidance
                done.append(f"guidance of {entry.index} outside")
            if entry.maker and own.get("maker") == "edited outside":
                own["maker"] = entry.maker

    def _put_aside(self, name: str, index: int) -> None:
        """Two images for one frame would be refused by `upscale`; the studio's own has the plain name."""
        if name != image_name(index):
            folder = self._project.path("refs", ORIGINALS)
            folder.mkdir(exist_ok=True)
            (self.folder / name).replace(folder / name)
            self._seen.pop(name, None)

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
                    guidance=entry.get("guidance"),
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
    """The frame that `upscale` would use an image of this name for."""
    path = Path(name)
    return frame_of_name(path) if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith(".") else None


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
