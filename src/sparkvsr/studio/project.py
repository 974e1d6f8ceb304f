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

import hashlib
import os
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from sparkvsr.errors import ConfigError, DecodeError, KeyframeError
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.studio.files import inside, read_json, write_file, write_json
from sparkvsr.video import read_image
from sparkvsr.video.images import encode_image

FORMAT, VERSION = "sparkvsr-studio", 1
MARKER = "studio.json"
FOLDERS = ("refs", "candidates", "masks", "store", "previews", "out")

MAX_UPLOAD_BYTES = 64 * 2**20
MAX_UPLOAD_PIXELS = 40_000_000
"""8K has 33 million; decoding takes 12 bytes of memory for each."""

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

    Raises:
        ConfigError: the folder holds something else, belongs to another clip, or another studio has it open.
    """

    def __init__(self, folder: Path, clip: Path) -> None:
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
            marker = read_json(folder / MARKER)
            if isinstance(marker, dict) and marker.get("clip") not in (None, self.clip.name):
                msg = (
                    f"{folder} belongs to {marker['clip']}, not to {self.clip.name}; give another folder with --project"
                )
                raise ConfigError(msg)
            write_json(folder / MARKER, {"format": FORMAT, "version": VERSION, "clip": self.clip.name})
        except OSError as exc:
            msg = f"the project folder {folder} cannot be used ({exc.strerror}); give another one with --project"
            raise ConfigError(msg) from exc

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

    def load_image(self, image: str) -> Tensor:
        """``(3, a, b)`` float32 in [0, 1]."""
        return read_image(self.image_path(image), MAX_UPLOAD_PIXELS)

    def keep_tensor(self, pixels: Tensor) -> str:
        """Keep an image ``(3, a, b)`` in [0, 1]; its name."""
        return keep_png(self.folder, "candidates", encode_image(pixels, ".png", bits=8))

    def keep_bytes(self, data: bytes, lr_size: tuple[int, int] | None = None) -> str:
        """Keep an image file that somebody sent: decoded within bounds, PNG as it is, others made PNG.

        Args:
            data: PNG, JPEG, WebP, TIFF or BMP.
            lr_size: ``(h, w)`` of the clip, whose aspect ratio the image must have; None keeps any (masks).

        Raises:
            KeyframeError: too large, not an image, or of another shape than the clip.
        """
        if len(data) > MAX_UPLOAD_BYTES:
            msg = f"the image has {len(data) >> 20} MB; up to {MAX_UPLOAD_BYTES >> 20} MB are taken"
            raise KeyframeError(msg)
        waiting = self.path("candidates", f"upload-{os.getpid()}-{time.monotonic_ns()}.part")
        write_file(waiting, data)
        try:
            pixels = read_image(waiting, MAX_UPLOAD_PIXELS)
        except DecodeError as exc:
            msg = (
                f"this is not an image that can be used: PNG, JPEG, WebP, TIFF or BMP of up to "
                f"{MAX_UPLOAD_PIXELS // 10**6} million pixels; save it as PNG"
            )
            raise KeyframeError(msg) from exc
        finally:
            waiting.unlink(missing_ok=True)
        height, width = pixels.shape[-2:]
        if height * width > MAX_UPLOAD_PIXELS:
            msg = f"the image is {width}x{height}; up to {MAX_UPLOAD_PIXELS // 10**6} million pixels are taken"
            raise KeyframeError(msg)
        if lr_size is not None and abs(width / height / (lr_size[1] / lr_size[0]) - 1) > ASPECT_TOLERANCE:
            msg = (
                f"the image is {width}x{height}, the clip {lr_size[1]}x{lr_size[0]}: another shape; "
                f"crop or pad it, for example to {4 * lr_size[1]}x{4 * lr_size[0]}"
            )
            raise KeyframeError(msg)
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            data = encode_image(pixels, ".png", bits=8)
        return keep_png(self.folder, "candidates" if lr_size is not None else "masks", data)

    def mask(self, name: str) -> Tensor:
        """A mask ``(1, a, b)`` in [0, 1]."""
        return read_image(self.path("masks", f"{name}.png"), MAX_UPLOAD_PIXELS)[:1]


def keep_png(project: Path, folder: str, data: bytes) -> str:
    """Keep a PNG file in one of a project's folders under its hash, which is given back."""
    name = hashlib.sha256(data).hexdigest()[:32]
    path = inside(project, folder, f"{name}.png")
    if not path.is_file():
        write_file(path, data)
    return name
