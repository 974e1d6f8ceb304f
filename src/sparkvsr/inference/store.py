"""The work folder: encoded segments and model states of one output, kept until they are not needed.

Layout: ``segments/KEY.mkv`` with ``KEY.json`` (format, frames, bytes, SHA-256; written last, so a segment without it
is unfinished) and ``KEY.safetensors`` (the model's state after it). Whatever does not match its record is deleted
and rendered again. Nothing here is ever unpickled.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from sparkvsr.errors import ConfigError, EncodeError

STORE_FORMAT = 1
MARKER = "sparkvsr-work.json"


def default_work_folder(output: Path) -> Path:
    """The hidden folder beside an output."""
    return output.with_name(f".{output.name}.work")


class WorkStore:
    """Segments on disk. Used as a context manager: one process at a time.

    Args:
        folder: made if missing; an existing folder must be a work folder or empty.
        limit_bytes: when more is stored, segments that the current job does not use are dropped, oldest first.

    Raises:
        EncodeError: the folder cannot be made, is something else, or another process works in it.
    """

    def __init__(self, folder: Path, limit_bytes: int | None = None) -> None:
        self.folder = folder
        self._segments = folder / "segments"
        self._limit = limit_bytes
        self._lock: int | None = None

    def __enter__(self) -> WorkStore:
        marker = self.folder / MARKER
        try:
            if self.folder.exists() and not marker.is_file() and any(self.folder.iterdir()):
                msg = f"work folder {self.folder} holds other files; give an empty or new folder with --work"
                raise EncodeError(msg)
            self._segments.mkdir(parents=True, exist_ok=True)
            marker.write_text(json.dumps({"format": STORE_FORMAT}) + "\n")
            self._lock = os.open(self.folder / "lock", os.O_CREAT | os.O_RDWR)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            os.close(self._lock or -1)
            self._lock = None
            msg = f"another sparkvsr works in {self.folder}; wait for it, or give another folder with --work"
            raise EncodeError(msg) from exc
        except OSError as exc:
            msg = f"work folder {self.folder} cannot be used ({exc.strerror}); give another with --work"
            raise EncodeError(msg) from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @property
    def is_empty(self) -> bool:
        """Whether no finished segment is there."""
        return not any(self._segments.glob("*.json"))

    def path(self, key: str) -> Path:
        """Where the segment of a key lies or will lie."""
        return self._segments / f"{key}.mkv"

    def has(self, key: str, num_frames: int) -> bool:
        """Whether a segment is there, complete and undamaged; a damaged one is deleted."""
        record = self._read_record(key)
        if record is None:
            return False
        path = self.path(key)
        if (
            record.get("format") == STORE_FORMAT
            and record.get("frames") == num_frames
            and path.is_file()
            and path.stat().st_size == record.get("bytes")
            and file_digest(path) == record.get("sha256")
        ):
            return True
        self.drop(key)
        return False

    def commit(self, key: str, num_frames: int, state: Mapping[str, Tensor] | None) -> None:
        """Record a segment whose file was written to ``path(key)``; it counts only from now on.

        Raises:
            EncodeError: the disk is full.
        """
        path = self.path(key)
        record = {
            "format": STORE_FORMAT,
            "frames": num_frames,
            "bytes": path.stat().st_size,
            "sha256": file_digest(path),
            "state": state is not None,
        }
        partial = self._segments / f".{key}.partial"
        try:
            if state is not None:
                # A copy without views: safetensors refuses tensors that share memory.
                save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, partial)
                partial.replace(path.with_suffix(".safetensors"))
            partial.write_text(json.dumps(record))
            partial.replace(path.with_suffix(".json"))
        except (OSError, SafetensorError) as exc:
            partial.unlink(missing_ok=True)
            msg = f"the work folder {self.folder} cannot be written ({exc}); free some space and run the same again"
            raise EncodeError(msg) from exc

    def state(self, key: str) -> dict[str, Tensor] | None:
        """The model's state after a segment; None if there is none or it is damaged."""
        path = self.path(key).with_suffix(".safetensors")
        record = self._read_record(key)
        if record is None or not record.get("state") or not path.is_file():
            return None
        try:
            return load_file(path)
        except (OSError, SafetensorError):
            return None

    def drop(self, key: str) -> None:
        """Delete a segment and all that belongs to it."""
        for suffix in (".json", ".mkv", ".safetensors"):
            self.path(key).with_suffix(suffix).unlink(missing_ok=True)

    def prune(self, used: set[str]) -> int:
        """Keep within the size limit by dropping segments that are not in ``used``, oldest first.

        Returns:
            How many were dropped.
        """
        if self._limit is None:
            return 0
        total = sum(path.stat().st_size for path in self._segments.iterdir())
        dropped = 0
        for record in sorted(self._segments.glob("*.json"), key=lambda path: path.stat().st_mtime):
            if total <= self._limit:
                break
            if record.stem in used:
                continue
            files = [record, record.with_suffix(".mkv"), record.with_suffix(".safetensors")]
            total -= sum(path.stat().st_size for path in files if path.is_file())
            self.drop(record.stem)
            dropped += 1
        return dropped

    def remove(self) -> None:
        """Delete the whole folder."""
        remove_work_folder(self.folder)

    def _read_record(self, key: str) -> dict[str, object] | None:
        path = self.path(key).with_suffix(".json")
        if not path.is_file():
            return None
        with suppress(OSError, ValueError):
            record = json.loads(path.read_text())
            if isinstance(record, dict):
                return record
        return {}


def remove_work_folder(folder: Path) -> int:
    """Delete a work folder, and nothing that is not one.

    Returns:
        Bytes that were freed.

    Raises:
        ConfigError: the folder is not a work folder.
    """
    if not (folder / MARKER).is_file():
        msg = f"{folder} is not a work folder of sparkvsr (no {MARKER} in it); nothing was deleted"
        raise ConfigError(msg)
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    shutil.rmtree(folder)
    return size


def find_work_folders(path: Path) -> list[Path]:
    """Work folders at or directly below a path (hidden ones beside outputs included)."""
    if (path / MARKER).is_file():
        return [path]
    if path.is_dir():
        return sorted(entry.parent for entry in path.glob(f"*/{MARKER}"))
    beside = default_work_folder(path)
    return [beside] if (beside / MARKER).is_file() else []


def file_digest(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
