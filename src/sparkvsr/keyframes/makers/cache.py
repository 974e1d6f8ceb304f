"""Images that were paid for, kept by what they were made from."""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import SparkVSRError
from sparkvsr.user_cache import user_cache

_log = logging.getLogger(__name__)


def user_cache_folder() -> Path:
    """Where references that were paid for are kept, see ``user_cache``."""
    return user_cache("references")


def content_key(*parts: str | bytes) -> str:
    """SHA-256 over parts; which part a byte belongs to matters."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


class ImageCache:
    """A folder of PNG files named by key. Failing to read or write it never fails the work, but is said once.

    Args:
        folder: made when first written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._is_told = False

    def get(self, key: str) -> Tensor | None:
        """``(3, h, w)`` in [0, 1], or None when it is not there or damaged."""
        from sparkvsr.video import read_image

        path = self.folder / f"{key}.png"
        if not path.is_file():
            return None
        try:
            return read_image(path)
        except SparkVSRError:
            return None

    def put(self, key: str, image: Tensor) -> None:
        """Keep an image ``(3, H, W)`` in [0, 1]; others never see a half-written file."""
        from sparkvsr.video.images import encode_image

        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(suffix=".tmp", dir=self.folder)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(encode_image(image, ".png", bits=16))
                temporary.replace(self.folder / f"{key}.png")
            finally:
                temporary.unlink(missing_ok=True)
        except OSError as exc:
            if not self._is_told:
                _log.warning("%s: answers cannot be kept (%s) and are asked for again", self.folder, exc.strerror)
            self._is_told = True
