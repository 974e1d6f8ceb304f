"""A clip is read several times: looked through, restored, looked up for keyframes, copied from for its sound.

All readings have to be of the same clip, or a segment is stored under the key of frames that it was not made from. So
every frame that is read again is held against the hash that the first pass took, and the file against what it was.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from sparkvsr.errors import DecodeError, VideoError
from sparkvsr.file_parts import spread_parts

if TYPE_CHECKING:
    from sparkvsr.video import Frame, VideoInfo

_log = logging.getLogger(__name__)

SAMPLES, SAMPLE_BYTES = 64, 1 << 16
"""What is hashed of a file: 4 MB spread over it, a hundredth of a second."""


@dataclass(frozen=True)
class FileIdentity:
    """What a file was when it was first looked at.

    Attributes:
        size: in bytes.
        time_ns: of its last change; None where it is not compared.
        sample: hash of parts of its content.
    """

    size: int
    time_ns: int | None
    sample: bytes

    def has_changed(self, path: Path, *, look_inside: bool = False) -> bool:
        """Whether a file is another one now.

        Args:
            path: of the file.
            look_inside: also compare the content. (Inodes are not compared: on some network disks they change.)
        """
        try:
            status = path.stat()
        except OSError:
            return True
        if status.st_size != self.size or self.time_ns not in (None, status.st_mtime_ns):
            return True
        return look_inside and _sample(path, self.size) != self.sample


def identity_of(path: Path) -> FileIdentity | None:
    """The identity of a file; None for folders, patterns and what cannot be read, which others report."""
    try:
        if not path.is_file():
            return None
        status = path.stat()
        return FileIdentity(status.st_size, status.st_mtime_ns, _sample(path, status.st_size))
    except OSError:
        return None


class Watched:
    """Clips whose files stay as they are while they are read, once or several times.

    Args:
        clips: as ``probe`` found them.
    """

    def __init__(self, *clips: VideoInfo) -> None:
        self._clips = clips
        self._identities = {clip.path: identity_of(clip.path) for clip in clips}
        self._images = {clip.path: _images_state(clip) for clip in clips}

    def check(self) -> None:
        """Look again.

        Raises:
            DecodeError: one is another now.
        """
        for clip in self._clips:
            identity = self._identities[clip.path]
            is_other = identity is not None and identity.has_changed(clip.path, look_inside=True)
            if is_other or _images_state(clip) != self._images[clip.path]:
                raise changed_error(clip.path)


def _images_state(clip: VideoInfo) -> list[tuple[int, int] | None]:
    """Size and time of each image of a sequence: there are too many to be read for that."""
    found: list[tuple[int, int] | None] = []
    for path in clip.files:
        try:
            status = path.stat()
            found.append((status.st_size, status.st_mtime_ns))
        except OSError:
            found.append(None)
    return found


def frame_digest(pixels: Tensor) -> bytes:
    """Hash of a frame's pixels ``(3, H, W)``, 16 bytes."""
    return hashlib.blake2b(np.ascontiguousarray(pixels.numpy()).data, digest_size=16).digest()


def changed_error(path: Path) -> DecodeError:
    """For a clip that is not what it was when the work was planned."""
    msg = (
        f"{path} was changed while it was read; nothing of what it holds now was stored: run the same again when "
        "nothing writes into it"
    )
    return DecodeError(msg)


def held_frames(
    read: Callable[[int, int], Generator[Frame, None, None]],
    start: int,
    stop: int,
    *,
    path: Path,
    origin: int,
    size: tuple[int, int],
    digest: Callable[[int], bytes],
    identity: FileIdentity | None,
) -> Generator[Frame, None, None]:
    """Frames ``[start, stop)`` of a clip, each held against the hash of the first pass.

    A damaged file may decode differently from time to time, and from another place than from its beginning: that is
    told from a change by the file itself, and such frames are taken as they come.

    Args:
        read: gives frames from one index to another.
        path: of the clip, for messages and ``identity``.
        origin: first frame of the first pass.
        size: ``(h, w)`` of the clip.
        digest: hash of the frame at an index.
        identity: of the file, None for several files.

    Raises:
        DecodeError: the clip was changed, or cannot be read.
    """
    begin = start
    while True:
        retry = None
        try:
            with closing(read(begin, stop)) as frames:
                for frame in frames:
                    if frame.index < start:
                        continue
                    is_same = tuple(frame.pixels.shape[-2:]) == size and frame_digest(frame.pixels) == digest(
                        frame.index
                    )
                    if not is_same:
                        if identity is None or identity.has_changed(path, look_inside=True):
                            raise changed_error(path)
                        if begin > origin:
                            retry = frame.index
                            break
                        _log.warning("%s: frame %d decodes differently each time", path, frame.index)
                    yield frame
                    start = frame.index + 1
        except VideoError as exc:
            if identity is not None and identity.has_changed(path):
                raise changed_error(path) from exc
            raise
        if retry is None:
            break
        # Found by seeking, it may lack what frames before it leave to the decoder: now as the first pass read it.
        _log.info("%s: frame %d is read again from the beginning", path, retry)
        begin = origin
    if start < stop and identity is not None and identity.has_changed(path):
        raise changed_error(path)


def _sample(path: Path, size: int) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in spread_parts(path, size, SAMPLES, SAMPLE_BYTES):
        digest.update(part)
    return digest.digest()
