"""The work folder: encoded segments and model states of one output, kept until they are not needed.

Layout: ``segments/KEY.mkv`` (images: ``KEY.zip``), ``KEY.safetensors`` (the model's state after it) and ``KEY.json``
(format, frames, and bytes and SHA-256 of both). The record is written last, after the data have reached the disk, so a
segment without it is unfinished. Whatever does not match its record, be it cut off by a power failure or garbled by a
broken disk, is deleted and rendered again. Nothing here is ever unpickled.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from filelock import FileLock, Timeout
from safetensors import SafetensorError
from safetensors.torch import load, save_file
from torch import Tensor

from sparkvsr.durable import flush_file, flush_folder, temporary_path
from sparkvsr.errors import ConfigError, EncodeError

STORE_FORMAT = 2
MARKER = "sparkvsr-work.json"
SEGMENTS = "segments"
LOCK = "lock"
JOINING = "joining"
"""Exists while outputs are written: what has their names may be incomplete, and is ours."""
MAX_RECORD_BYTES = 100_000
_FULL_DISK = (errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


def default_work_folder(output: Path) -> Path:
    """The hidden folder beside an output."""
    return temporary_path(output, "work")


class WorkStore:
    """Segments on disk. Used as a context manager: one process at a time.

    Args:
        folder: made if missing; an existing folder must be a work folder or empty.
        limit_bytes: when more is stored, segments that the current job does not use are dropped, oldest first.
        suffix: of the files of segments.
        is_lock_held: another process of the same job holds the folder; this one takes no lock.

    Attributes:
        damaged: keys of segments that were found damaged and deleted.

    Raises:
        EncodeError: the folder cannot be made, is something else, or another process works in it.
    """

    def __init__(
        self, folder: Path, limit_bytes: int | None = None, *, suffix: str = ".mkv", is_lock_held: bool = False
    ) -> None:
        self.folder = folder
        self.suffix = suffix
        self.damaged: list[str] = []
        self._segments = folder / SEGMENTS
        self._limit = limit_bytes
        self._is_lock_held = is_lock_held
        self._lock: FileLock | None = None

    def __enter__(self) -> WorkStore:
        if self._is_lock_held:
            return self
        try:
            if self.folder.exists() and not is_work_folder(self.folder) and any(self.folder.iterdir()):
                msg = f"work folder {self.folder} holds other files; give an empty or new folder with --work"
                raise EncodeError(msg)
            self._refuse_newer()
            self._segments.mkdir(parents=True, exist_ok=True)
            if self._segments.is_symlink():
                msg = f"{self._segments} is a link to another folder; give an empty or new folder with --work"
                raise EncodeError(msg)
            lock = FileLock(self.folder / LOCK, timeout=0, thread_local=False)
            lock.acquire()
            self._lock = lock
            (self.folder / MARKER).write_text(json.dumps({"format": STORE_FORMAT}) + "\n")
            # What a process that died was writing.
            for path in self._segments.glob(".*"):
                path.unlink()
        except Timeout as exc:
            msg = f"another sparkvsr works in {self.folder}; wait for it, or give another folder with --work"
            raise EncodeError(msg) from exc
        except (OSError, NotImplementedError) as exc:  # the latter: a file system without locks
            reason = getattr(exc, "strerror", None) or exc
            remedy = "free some space, or give" if getattr(exc, "errno", None) in _FULL_DISK else "give"
            msg = f"work folder {self.folder} cannot be used ({reason}); {remedy} another with --work"
            raise EncodeError(msg) from exc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _refuse_newer(self) -> None:
        """What a later release keeps must not be taken for damaged, and deleted.

        Raises:
            EncodeError: the folder's format is newer than ours.
        """
        try:
            known = json.loads((self.folder / MARKER).read_text())["format"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return
        if isinstance(known, int) and known > STORE_FORMAT:
            msg = (
                f"work folder {self.folder} is of a newer sparkvsr (format {known}, this one writes {STORE_FORMAT}); "
                "update, or give another folder with --work"
            )
            raise EncodeError(msg)

    @property
    def is_empty(self) -> bool:
        """Whether no finished segment is there."""
        return not any(self._segments.glob("*.json"))

    @property
    def stored_bytes(self) -> int:
        """Size of all that is stored."""
        return sum(_size(path) for path in self._segments.iterdir()) if self._segments.is_dir() else 0

    def path(self, key: str) -> Path:
        """Where the segment of a key lies or will lie."""
        return self._segments / f"{key}{self.suffix}"

    def partial_path(self) -> Path:
        """Where this process encodes a segment before it has its name."""
        return self._segments / f".encoding-{os.getpid()}{self.suffix}"

    def has(self, key: str, num_frames: int) -> bool:
        """Whether a segment is there, complete and undamaged; a damaged one is deleted."""
        record = self._read_record(key)
        if record is None:
            return False
        path = self.path(key)
        if record.get("format") == STORE_FORMAT and record.get("frames") == num_frames and _matches(path, record):
            return True
        _log.warning("segment %s in %s is damaged and is rendered again", key[:12], self.folder)
        self.damaged.append(key)
        self.drop(key)
        return False

    def take(self, key: str, partial: Path, num_frames: int, state: Mapping[str, Tensor] | None) -> None:
        """Take over a finished segment and the model's state after it; it counts only when this returns.

        Args:
            partial: the encoded segment, on the same disk; it is moved.
            state: None if the shot ends here or the model cannot save any.

        Raises:
            EncodeError: the disk is full.
        """
        path = self.path(key)
        states = path.with_suffix(".safetensors")
        unnamed = self._segments / f".{key}-{os.getpid()}.partial"
        try:
            flush_file(partial)
            record = {"format": STORE_FORMAT, "frames": num_frames, **_measured(partial)}
            partial.replace(path)
            if state is not None:
                # A copy without views: safetensors refuses tensors that share memory.
                save_file({name: tensor.detach().clone().contiguous() for name, tensor in state.items()}, unnamed)
                flush_file(unnamed)
                record["state"] = _measured(unnamed)
                unnamed.replace(states)
            self._write_record(key, record)
        except (OSError, SafetensorError) as exc:
            for left in (unnamed, partial, path, states):
                left.unlink(missing_ok=True)
            raise self._full(exc) from exc
        _log.debug("stored segment %s, %d frames, %d bytes", key[:12], num_frames, path.stat().st_size)

    def state(self, key: str) -> dict[str, Tensor] | None:
        """The model's state after a segment; None if there is none or it is damaged."""
        path = self.path(key).with_suffix(".safetensors")
        if not self.has_state(key):
            return None
        try:
            return load(path.read_bytes())  # no mapping: a file that is cut short would end the process
        except (OSError, SafetensorError):
            return None

    def has_state(self, key: str) -> bool:
        """Whether the model's state after a segment is there and undamaged."""
        record = self._read_record(key)
        measured = None if record is None else record.get("state")
        return isinstance(measured, dict) and _matches(self.path(key).with_suffix(".safetensors"), measured)

    def drop(self, key: str) -> None:
        """Delete a segment and all that belongs to it; the record first, so that a crash leaves no lie.

        Raises:
            EncodeError: a folder lies where a file of the segment would be.
        """
        for suffix in (".json", self.suffix, ".safetensors"):
            path = self.path(key).with_suffix(suffix)
            if path.is_dir() and not path.is_symlink():
                msg = f"{path} is a folder where the work folder keeps a file; delete it, or give another --work"
                raise EncodeError(msg)
            path.unlink(missing_ok=True)

    def prune(self, used: set[str]) -> int:
        """Keep within the size limit by dropping segments that are not in ``used``, oldest first.

        Returns:
            How many were dropped.
        """
        if self._limit is None:
            return 0
        total = self.stored_bytes
        dropped = 0
        for record in sorted(self._segments.glob("*.json"), key=lambda path: path.stat().st_mtime):
            if total <= self._limit:
                break
            if record.stem in used:
                continue
            total -= sum(_size(record.with_suffix(suffix)) for suffix in (".json", self.suffix, ".safetensors"))
            self.drop(record.stem)
            dropped += 1
        return dropped

    def begin_joining(self) -> None:
        """Say that outputs get their names from now on."""
        (self.folder / JOINING).touch()

    def end_joining(self) -> None:
        """Say that they are complete; leftovers of workers that died go, too."""
        (self.folder / JOINING).unlink(missing_ok=True)
        for path in self._segments.glob(".*"):
            path.unlink(missing_ok=True)

    def receive(self, key: str, segment: bytes, num_frames: int, state: bytes | None) -> None:
        """Take over a segment that was rendered elsewhere, with the state file as ``state_bytes`` gave it.

        Raises:
            EncodeError: the disk is full.
        """
        path, unnamed = self.path(key), self._segments / f".{key}.received"
        record: dict[str, object] = {"format": STORE_FORMAT, "frames": num_frames}
        try:
            for suffix, data in ((self.suffix, segment), (".safetensors", state)):
                if data is not None:
                    unnamed.write_bytes(data)
                    flush_file(unnamed)
                    measured = _measured(unnamed)
                    record |= measured if suffix == self.suffix else {"state": measured}
                    unnamed.replace(path.with_suffix(suffix))
            self._write_record(key, record)
        except OSError as exc:
            unnamed.unlink(missing_ok=True)
            self.drop(key)
            raise self._full(exc) from exc

    def put_state(self, key: str, data: bytes) -> None:
        """Store the model's state after a segment that lies elsewhere, as ``state_bytes`` gave it."""
        path = self.path(key).with_suffix(".safetensors")
        path.write_bytes(data)
        path.with_suffix(".json").write_text(json.dumps({"format": STORE_FORMAT, "state": _measured(path)}))

    def state_bytes(self, key: str) -> bytes | None:
        """The file of the model's state after a segment, None without an undamaged one."""
        return self.path(key).with_suffix(".safetensors").read_bytes() if self.has_state(key) else None

    def remove(self) -> None:
        """Delete the whole folder."""
        _remove(self.folder)

    def _write_record(self, key: str, record: Mapping[str, object]) -> None:
        unnamed = self._segments / f".{key}-{os.getpid()}.record"
        unnamed.write_text(json.dumps(record))
        flush_file(unnamed)
        unnamed.replace(self.path(key).with_suffix(".json"))
        flush_folder(self._segments)

    def _full(self, exc: Exception) -> EncodeError:
        msg = f"the work folder {self.folder} cannot be written ({exc}); free some space and run the same again"
        return EncodeError(msg)

    def _read_record(self, key: str) -> dict[str, object] | None:
        path = self.path(key).with_suffix(".json")
        if not path.is_file():
            if path.is_dir() or self.path(key).is_dir():
                self.drop(key)  # says so
            return None
        with suppress(OSError, ValueError, RecursionError):
            if path.stat().st_size > MAX_RECORD_BYTES:
                return {}
            record = json.loads(path.read_text())
            if isinstance(record, dict):
                return record
        return {}


def was_joining(folder: Path) -> bool:
    """Whether a run was interrupted while it gave outputs their names."""
    return is_work_folder(folder) and (folder / JOINING).exists()


def is_work_folder(folder: Path) -> bool:
    """Whether a folder is a work folder, even one whose marker a power failure took."""
    if (folder / MARKER).is_file():
        return True
    return (folder / SEGMENTS).is_dir() and {entry.name for entry in folder.iterdir()} <= {SEGMENTS, LOCK, JOINING}


def remove_work_folder(folder: Path) -> int:
    """Delete a work folder, and nothing that is not one.

    Returns:
        Bytes that were freed.

    Raises:
        ConfigError: the folder is not a work folder.
        EncodeError: a run works in it, or it cannot be deleted.
    """
    if is_work_folder(folder):
        try:
            with FileLock(folder / LOCK, timeout=0, thread_local=False):
                pass
        except Timeout as exc:
            msg = f"another sparkvsr works in {folder}; wait for it, or stop it first"
            raise EncodeError(msg) from exc
        except (OSError, NotImplementedError) as exc:  # a file system without locks, or one that may not be written
            _log.debug("%s cannot be locked: %s", folder, exc)
    return _remove(folder)


def _remove(folder: Path) -> int:
    if not is_work_folder(folder):
        msg = f"{folder} is not a work folder of sparkvsr (no {MARKER} in it); nothing was deleted"
        raise ConfigError(msg)
    size = sum(_size(path) for path in _files(folder))
    try:
        # A link may point to the folder on another disk; what it points to is emptied, the link goes.
        shutil.rmtree(folder.resolve())
        if folder.is_symlink():
            folder.unlink()
    except OSError as exc:
        msg = f"work folder {folder} cannot be deleted ({exc.strerror}); delete it by hand"
        raise EncodeError(msg) from exc
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


def _measured(path: Path) -> dict[str, object]:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path)}


def _matches(path: Path, record: Mapping[str, object]) -> bool:
    try:
        return path.stat().st_size == record.get("bytes") and file_digest(path) == record.get("sha256")
    except OSError:
        return False


def _size(path: Path) -> int:
    with suppress(OSError):
        return path.lstat().st_size
    return 0


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
