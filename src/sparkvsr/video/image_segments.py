"""Segments of an image sequence: a run of encoded images in one uncompressed zip file, joined to the final files later.

One file for a run of frames can be checksummed, kept and passed on as a whole, like a segment of a video.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import DecodeError

from .border import encoding
from .image_sink import ImageSink
from .images import DEEP_IMAGE_SUFFIXES, encode_image
from .info import VideoInfo
from .options import check_output, output_kind
from .pixels import is_grey_format

SEGMENT_SUFFIX = ".zip"
_ENCRYPTED = 1


class ImageSegmentWriter:
    """Encodes the images of one segment.

    Args:
        path: of the segment; it is complete only after ``close``.
        output: of the whole job: its suffix says what the images are.
        source: the clip, for the bits of a sample and whether its file is a grey one.
        is_grey: the images are grey; where the source's file is of one channel, so are theirs.
    """

    def __init__(self, path: Path, output: Path, source: VideoInfo | None, *, is_grey: bool = False) -> None:
        self.path = path
        self._suffix = image_suffix(output)
        deep = self._suffix in DEEP_IMAGE_SUFFIXES
        self._bits = source.bit_depth if source is not None and deep else 8
        self._is_grey = is_grey and source is not None and is_grey_format(source.pixel_format)
        self._count = 0
        with encoding(path):
            self._zip = zipfile.ZipFile(path, "w", zipfile.ZIP_STORED)

    def write(
        self,
        pixels: Tensor,
        pts: int | None = None,  # noqa: ARG002
        duration: int | None = None,  # noqa: ARG002
        *,
        alpha: Tensor | None = None,
    ) -> None:
        """Encode the next image: ``(3, H, W)`` float in [0, 1].

        Raises:
            EncodeError: the disk is full.
        """
        with encoding(self.path):
            data = encode_image(pixels, self._suffix, bits=self._bits, alpha=alpha, is_grey=self._is_grey)
            # A fixed date: equal images give equal segments.
            self._zip.writestr(zipfile.ZipInfo(f"{self._count:05d}{self._suffix}"), data)
        self._count += 1

    def close(self) -> Path:
        """Finish the segment.

        Raises:
            EncodeError: the disk is full.
        """
        with encoding(self.path):
            self._zip.close()
        return self.path

    def abort(self) -> None:
        """Remove the unfinished segment."""
        # Closing writes the index, which a full disk refuses; the file goes anyway.
        if self._zip.fp is not None:
            self._zip.fp.close()
            self._zip.fp = None
        self.path.unlink(missing_ok=True)


def image_suffix(output: Path) -> str:
    """Type of the images that an output asks for: its own suffix, ``.png`` for a folder."""
    return output.suffix.lower() if output.suffix and not output.is_dir() else ".png"


def unpack_images(segment: Path, folder: Path) -> Iterator[Path]:
    """Write the images of a segment into a folder, one by one in order.

    Raises:
        DecodeError: the segment is damaged.
        EncodeError: the folder cannot be written.
    """
    for number, data in enumerate(_images(segment)):
        target = folder / f"{number:05d}.image"
        with encoding(target):
            target.write_bytes(data)
        yield target


def _images(segment: Path) -> Iterator[bytes]:
    try:
        with zipfile.ZipFile(segment) as archive:
            for entry in sorted(archive.infolist(), key=lambda entry: entry.filename):
                # As they were written; packed ones could be larger than all memory.
                if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & _ENCRYPTED:
                    msg = f"{entry.filename!r} was not written by sparkvsr"
                    raise zipfile.BadZipFile(msg)
                yield archive.read(entry)
    except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, ValueError) as exc:
        msg = f"{segment} is damaged ({exc}); delete the work folder and start again"
        raise DecodeError(msg) from exc


def assemble_images(
    path: Path,
    segments: Sequence[Path],
    num_frames: int,
    *,
    source: VideoInfo | None,
    overwrite: bool = False,
    start: int = 0,
) -> None:
    """Write the images of all segments under their final names.

    Args:
        path: one image, a folder or a printf pattern.
        segments: in order.
        num_frames: how many images there have to be.
        source: the clip; the images of a numbered sequence keep their numbers.
        start: frame of the source that is the first image.

    Raises:
        EncodeError: the output cannot be written.
        DecodeError: a segment is damaged, or the segments hold another number of images.
    """
    check_output(path, overwrite)
    kind = output_kind(path)
    numbers = source.numbers[start : start + num_frames] if source is not None else None
    sink = ImageSink(path, kind, source, (0, 0), numbers)
    try:
        count = 0
        for segment in segments:
            for data in _images(segment):
                sink.write_encoded(data)
                count += 1
        if count != num_frames:
            msg = f"the segments of {path.name} hold {count} images, the clip has {num_frames}; delete the work folder"
            raise DecodeError(msg)
        with encoding(path):
            sink.finish()
    except BaseException:
        sink.discard()
        raise
