"""Single frames by number, quickly: a bounded cache, decoding that goes on, a few frames back at once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.errors import DecodeError
from sparkvsr.inference.clip.heap import release_free_memory
from sparkvsr.keyframes.manifest import fingerprint_of
from sparkvsr.video import Frame, VideoReader
from sparkvsr.video.pixels import to_uint8

Picture = NDArray[np.uint8]

CACHE_BYTES = 120 * 2**20
BEHIND = 12
"""Frames that are decoded and kept before one that was gone back to: the next ones back are then at hand."""

RELEASE_EVERY = 16
"""Frames between two times that free heap memory goes back to the system."""

AHEAD = 40
"""Going further ahead than this, seeking is quicker than decoding everything between."""

JPEG_QUALITY = 92


class PictureCache:
    """Decoded pictures of all clips and segments, the longest unused ones dropped first."""

    def __init__(self, limit_bytes: int = CACHE_BYTES) -> None:
        self._limit = limit_bytes
        self._pictures: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> Picture | None:
        """A picture, None if it is not there."""
        with self._lock:
            picture = self._pictures.get(key)
            if picture is not None:
                self._pictures.move_to_end(key)
            return picture

    def put(self, key: tuple[str, int], picture: Picture) -> None:
        """Keep a picture."""
        with self._lock:
            old = self._pictures.pop(key, None)
            self._bytes += picture.nbytes - (0 if old is None else old.nbytes)
            self._pictures[key] = picture
            while self._bytes > self._limit and len(self._pictures) > 1:
                self._bytes -= self._pictures.popitem(last=False)[1].nbytes


class FrameSource:
    """The frames of one video as ``(h, w, 3)`` uint8 RGB; calls may come from any thread.

    Args:
        path: the video.
        cache: shared with other sources.
        deinterlace: see ``VideoReader``.

    Raises:
        DecodeError: the video cannot be read.
    """

    def __init__(self, path: Path, cache: PictureCache, deinterlace: str = "auto") -> None:
        self._path = path
        self._version = _version(path)
        self._reader = VideoReader(path, deinterlace=deinterlace)
        self.info = self._reader.info
        self._cache = cache
        self._name = f"{path}@{self._version}/{deinterlace}"
        self._frames: Generator[Frame, None, None] | None = None
        self._next = 0
        self._decoded = 0
        self._lock = threading.Lock()

    def get(self, index: int) -> Picture:
        """The frame at an index.

        Raises:
            DecodeError: there is no such frame.
        """
        picture = self._cache.get((self._name, index))
        if picture is not None:
            return picture
        with self._lock:
            picture = self._cache.get((self._name, index))  # another thread may have come by
            return self._decode(index) if picture is None else picture

    def is_current(self) -> bool:
        """Whether the file is still the one that was opened."""
        return _version(self._path) == self._version

    def seconds(self) -> list[float] | None:
        """When each frame is shown, from the first; None when the file has no times."""
        times = self._reader.times
        if times is None:
            return None
        base = float(self.info.time_base)
        return [round((time - times[0]) * base, 5) for time in times]

    def fingerprint(self) -> str:
        """See ``clip_fingerprint``; the packets are not looked through again."""
        return fingerprint_of(self._reader)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._drop()

    def _decode(self, index: int) -> Picture:
        if not 0 <= index < self.info.num_frames:
            msg = f"{self.info.path.name} has no frame {index}"
            raise DecodeError(msg)
        if self._frames is None or not self._next <= index <= self._next + AHEAD:
            start = max(0, index - BEHIND) if index < self._next else index
            self._drop()
            self._frames, self._next = self._reader.frames_from(start), start
        for frame in self._frames:
            picture = to_picture(frame.pixels)
            self._cache.put((self._name, frame.index), picture)
            self._next = frame.index + 1
            self._decoded += 1
            if self._decoded % RELEASE_EVERY == 0:
                release_free_memory()
            if frame.index == index:
                return picture
        self._drop()
        msg = f"frame {index} of {self.info.path.name} could not be decoded; the file is damaged there"
        raise DecodeError(msg)

    def _drop(self) -> None:
        if self._frames is not None:
            with closing(self._frames):
                self._frames = None
        self._next = 0


def _version(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:
        return 0, 0  # a pattern of images
    return status.st_mtime_ns, status.st_size


def to_picture(pixels: Tensor) -> Picture:
    """``(h, w, 3)`` uint8 of ``(3, h, w)`` float in [0, 1]."""
    return np.ascontiguousarray(to_uint8(pixels).permute(1, 2, 0).numpy())


def encoded(picture: Picture, kind: str) -> bytes:
    """A picture as ``png`` (lossless) or ``jpg`` (full chroma).

    Raises:
        DecodeError: it cannot be encoded.
    """
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    if kind == "png":
        options = [cv2.IMWRITE_PNG_COMPRESSION, 1]
    else:
        options = [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY, cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
                   cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]  # fmt: skip
    done, data = cv2.imencode(f".{kind}", bgr, options)
    if not done:
        msg = f"a picture of {picture.shape[1]}x{picture.shape[0]} could not be encoded"
        raise DecodeError(msg)
    return data.tobytes()


def reduced(picture: Picture, height: int) -> Picture:
    """A picture at a small height."""
    h, w = picture.shape[:2]
    if h <= height:
        return picture
    size = (max(1, round(w * height / h)), height)
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
