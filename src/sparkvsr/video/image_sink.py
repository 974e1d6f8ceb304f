"""An image sequence or one image being written, first to a hidden folder beside its place."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sparkvsr.durable import flush_file, flush_folder, temporary_path
from sparkvsr.errors import EncodeError

from .border import encoding
from .images import DEEP_IMAGE_SUFFIXES, encode_image, is_pattern, numbered_name
from .info import VideoInfo


class ImageSink:
    """An image sequence or one image being written.

    Args:
        path: one image, a folder or a pattern.
        kind: ``image`` or ``sequence``.
        source: the clip: bits of a sample.
        size: ``(H, W)``.
        numbers: of the images in their names, in order; None counts from 0.
    """

    def __init__(
        self,
        path: Path,
        kind: str,
        source: VideoInfo | None,
        size: tuple[int, int],
        numbers: Sequence[int] | None = None,
    ) -> None:
        self.path, self.size = path, size
        self._is_single = kind == "image"
        self._bits = source.bit_depth if source else 8
        self._numbers = numbers
        self._count = 0
        self._partial = temporary_path(path, "partial")
        if self._is_single or is_pattern(path):
            self._final_folder, self._pattern = path.parent, path.name
        else:
            self._final_folder, self._pattern = path, "%05d.png"
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
        """The next image, as the bytes of its file.

        Raises:
            EncodeError: the output holds one picture and has it.
        """
        if self._is_single and self._count:
            msg = f"{self.path} holds one picture; write several to a folder/ or to a pattern such as %05d.png"
            raise EncodeError(msg)
        number = self._numbers[self._count] if self._numbers else self._count
        name = self._pattern if self._is_single else numbered_name(self._pattern, number)
        with encoding(self.path):
            (self._partial / name).write_bytes(data)
        self._count += 1

    def finish(self) -> None:
        """Put the images where they belong, safe on the disk."""
        # One call for all files: a sequence may have many thousands.
        if sys.platform != "win32":
            os.sync()
        else:
            for file in self._partial.iterdir():
                flush_file(file)
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
