"""An image sequence or one image being written, first to a hidden folder beside its place."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import EncodeError

from .border import encoding
from .durable import flush_folder
from .images import DEEP_IMAGE_SUFFIXES, encode_image, is_pattern
from .info import VideoInfo


class ImageSink:
    """An image sequence or one image being written."""

    def __init__(self, path: Path, kind: str, source: VideoInfo | None, size: tuple[int, int]) -> None:
        self.path, self.size = path, size
        self._is_single = kind == "image"
        self._bits = source.bit_depth if source else 8
        self._count = 0
        if self._is_single:
            self._final_folder, self._pattern = path.parent, path.name.replace("%", "%%")
            self._partial = path.parent / f".{path.name}.partial"
        elif is_pattern(path):
            self._final_folder, self._pattern = path.parent, path.name
            self._partial = path.parent / f".{path.name}.partial"
        else:
            self._final_folder, self._pattern = path, "%05d.png"
            self._partial = path.parent / f".{path.name}.partial"
        self._suffix = Path(self._pattern).suffix.lower()
        with encoding(path):
            if self._partial.is_dir():
                shutil.rmtree(self._partial)
            self._partial.mkdir(parents=True)

    def write(self, pixels: Tensor, pts: int | None, duration: int | None, alpha: Tensor | None) -> None:  # noqa: ARG002
        """Encode the next image: ``(3, H, W)`` in [0, 1] and alpha ``(1, H, W)`` or None. Times mean nothing here."""
        bits = self._bits if self._suffix in DEEP_IMAGE_SUFFIXES else 8
        self.write_encoded(encode_image(pixels, self._suffix, bits=bits, alpha=alpha))

    def write_encoded(self, data: bytes) -> None:
        """The next image, as the bytes of its file."""
        if self._is_single and self._count:
            msg = f"{self.path} holds one picture; write several to a folder/ or to a pattern such as %05d.png"
            raise EncodeError(msg)
        name = self._pattern % () if self._is_single else self._pattern % self._count
        with encoding(self.path):
            (self._partial / name).write_bytes(data)
        self._count += 1

    def finish(self) -> None:
        """Put the images where they belong, safe on the disk."""
        # One call for all files: a sequence may have many thousands.
        os.sync()
        if not self._final_folder.exists():
            self._partial.rename(self._final_folder)
            flush_folder(self._final_folder.parent)
            return
        for file in sorted(self._partial.iterdir()):
            file.replace(self._final_folder / file.name)
        self._partial.rmdir()
        flush_folder(self._final_folder)

    def discard(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self._partial, ignore_errors=True)
