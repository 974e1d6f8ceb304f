"""The project folder of one clip, `in.studio/`: everything that the studio knows lies here.

refs/             HR images by frame number and keyframes.json, as `sparkvsr keyframes` writes them
candidates/       every image that was ever made, uploaded or painted, by its hash
masks/            painted masks, by their hash
store/            rendered segments, the work folder of `sparkvsr upscale --work`
previews/         frames rendered around a place, until their segment is there
out/              finished videos
history.json      all versions of the keyframes, for undo and redo
state.json        what is shown where, and what still is to be rendered
analysis.json     cuts and hashes of the clip's frames
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.studio.files import inside, read_json, write_file, write_json

FORMAT, VERSION = "sparkvsr-studio", 1
MARKER = "studio.json"
FOLDERS = ("refs", "candidates", "masks", "store", "previews", "out")

MAX_UPLOAD_BYTES = 64 * 2**20
Ask = Callable[..., Any]
"""``Pictures.ask``, here or in the render process."""

LOCK_WAIT_SECONDS = 6.0
"""A process that was killed takes a moment to let go."""


def default_folder(clip: Path) -> Path:
    """``in.mp4`` to ``in.studio`` beside it."""
    if "%" in clip.name:
        return clip.parent.with_name(f"{clip.parent.name}.studio")
    return clip.with_name(f"{clip.stem if clip.suffix else clip.name}.studio")


class Project:
    """The folder of one clip, held by one process.

    Args:
        folder: made if missing.
        clip: the video.
        ask: see ``Pictures.ask``.

    Raises:
        ConfigError: the folder holds something else, belongs to another clip, or another studio has it open.
    """

    def __init__(self, folder: Path, clip: Path, ask: Ask) -> None:
        self._ask = ask
        self.folder = folder
        self.clip = clip
        self._lock: FileLock | None = None
        self._open()

    def _open(self) -> None:
        folder = self.folder
        try:
            if folder.is_dir() and not (folder / MARKER).exists():
                strange = {entry.name for entry in folder.iterdir()} - {*FOLDERS, "lock"}
                if strange:
                    msg = (
                        f"{folder} holds other files ({sorted(strange)[0]}); give a new or empty folder with --project"
                    )
                    raise ConfigError(msg)
            folder.mkdir(parents=True, exist_ok=True)
            for name in FOLDERS:
                inside(folder, name).mkdir(exist_ok=True)
            self._take_lock()
            self._check_marker(read_json(folder / MARKER))
            write_json(folder / MARKER, {"format": FORMAT, "version": VERSION, "clip": self.clip.name})
        except OSError as exc:
            msg = f"the project folder {folder} cannot be used ({exc.strerror}); give another one with --project"
            raise ConfigError(msg) from exc

    def _check_marker(self, marker: Any) -> None:
        """Refuse what another clip or a later release has made: it would be taken for damaged, and lost.

        Raises:
            ConfigError: it is not ours to open.
        """
        if not isinstance(marker, dict):
            return
        version, clip = marker.get("version"), marker.get("clip")
        if isinstance(version, int) and version > VERSION:
            msg = (
                f"{self.folder} is of a newer sparkvsr (version {version}, this one writes {VERSION}); update, or give "
                "another folder with --project"
            )
            raise ConfigError(msg)
        if clip not in (None, self.clip.name):
            msg = f"{self.folder} belongs to {clip}, not to {self.clip.name}; give another folder with --project"
            raise ConfigError(msg)

    def _take_lock(self) -> None:
        lock = FileLock(self.path("lock"), timeout=LOCK_WAIT_SECONDS, thread_local=False)
        try:
            lock.acquire()
        except Timeout as exc:
            msg = f"another sparkvsr studio has {self.folder} open; use that one, or stop it first"
            raise ConfigError(msg) from exc
        self._lock = lock

    def close(self) -> None:
        """Let others have the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def path(self, *names: str) -> Path:
        """A path inside the folder, see ``files.inside``."""
        return inside(self.folder, *names)

    def load(self, name: str) -> Any:
        """One of the JSON files, None if it is not there."""
        return read_json(self.path(name))

    def save(self, name: str, value: Any) -> None:
        """Replace one of the JSON files."""
        write_json(self.path(name), value)

    # Images, by their hash

    def image_path(self, image: str) -> Path:
        """Where an image lies.

        Raises:
            KeyframeError: it is not one of the project's.
        """
        path = self.path("candidates", f"{image}.png")
        if not path.is_file():
            msg = f"image {image[:12]} is not in {self.folder / 'candidates'} any more; choose another one"
            raise KeyframeError(msg)
        return path

    def keep_bytes(self, data: bytes, lr_size: tuple[int, int] | None = None) -> str:
        """Keep an image file that somebody sent, see ``images.keep_file``; its name.

        Raises:
            KeyframeError: too large, not an image, or of another shape than the clip.
        """
        if len(data) > MAX_UPLOAD_BYTES:
            msg = f"the image has {len(data) >> 20} MB; up to {MAX_UPLOAD_BYTES >> 20} MB are taken"
            raise KeyframeError(msg)
        waiting = self.path("candidates", f"upload-{os.getpid()}-{time.monotonic_ns()}.part")
        write_file(waiting, data)
        try:
            name: str = self._ask(
                "keep",
                project=str(self.folder),
                waiting=str(waiting),
                lr_size=None if lr_size is None else list(lr_size),
            )
        finally:
            waiting.unlink(missing_ok=True)
        return name
