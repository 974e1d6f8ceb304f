"""Clips and stills from disk: video files, folders of frames, images, or a list of paths.

Only the frames of a sample are decoded (docs/method.md 8.7). What cannot be used is left out with a reason, either when
the folder is searched (nothing there that could be read) or when it is first read.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sparkvsr.data.sources import ClipSource, SourceClip
from sparkvsr.errors import DatasetError
from sparkvsr.home import expanded
from sparkvsr.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES, VideoReader, iframe_indices, read_image

_EVEN = 4


class ClipFolder:
    """Video files and folders of frames below a root.

    Args:
        root: searched with all its subfolders; a folder that holds images directly is one clip.
        path_list: text file with one path per line, relative to ``root``; replaces the search.
        min_frames: shorter clips are skipped.
        min_side: clips with a smaller side are skipped.
        num_clips: take only the first so many.

    Raises:
        DatasetError: root or list is missing, or nothing usable is there.
    """

    def __init__(
        self,
        root: str | Path,
        path_list: str | Path | None = None,
        *,
        min_frames: int = 2,
        min_side: int = 64,
        num_clips: int | None = None,
    ) -> None:
        self._root = _checked_root(root, "data.root")
        found = listed_paths(self._root, path_list) if path_list else list(find_clips(self._root))
        if not found:
            msg = (
                f"data.root={root} holds no clips; it takes video files ({', '.join(sorted(VIDEO_SUFFIXES))}) and "
                "folders of frames, see data/README.md"
            )
            raise DatasetError(msg)
        self._paths = found[:num_clips]
        self._min_frames, self._min_side = min_frames, min_side
        # What a look through a file's packets found out, by clip: doing it for every sample costs as much as decoding.
        self._readers: dict[int, VideoReader] = {}
        self._iframes: dict[int, list[int]] = {}

    def __len__(self) -> int:
        """Clips, the unusable ones included until they are met."""
        return len(self._paths)

    def name(self, index: int) -> str:
        """Path of a clip."""
        return str(self._paths[index])

    def sample(self, index: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> SourceClip:
        """See ``ClipSource.sample``."""
        path = self._paths[index]
        if index not in self._readers:
            self._readers[index] = VideoReader(path)
        info = self._readers[index].info
        if info.num_frames < self._min_frames:
            msg = f"it has {info.num_frames} frames, fewer than min_frames={self._min_frames}"
            raise DatasetError(msg)
        if min(info.height, info.width) < self._min_side:
            msg = f"it is {info.width}x{info.height}, its smaller side below min_side={self._min_side}"
            raise DatasetError(msg)
        start = int(rng.integers(0, max(1, info.num_frames - num_frames + 1)))
        wanted = min(num_frames, info.num_frames - start)
        window = crop_window((info.height, info.width), size, rng)
        part = self._readers[index].part(start, wanted, window)
        known = len(part.warnings)
        frames = [frame.pixels.clone() for frame in part]
        # The reader repeats what it cannot decode, so that a clip keeps its length: frozen frames are no training data.
        if damage := [text for text in part.warnings[known:] if "damaged" in text]:
            msg = f"{damage[0]} (frames {start} to {start + wanted - 1})"
            raise DatasetError(msg)
        if not frames:
            msg = f"no frame could be decoded from frame {start} on"
            raise DatasetError(msg)
        inside = None
        if info.kind == "video":
            if index not in self._iframes:
                self._iframes[index] = iframe_indices(path)
            inside = [i - start for i in self._iframes[index] if start <= i < start + len(frames)]
        frames += [frames[-1]] * (num_frames - len(frames))
        return SourceClip(torch.stack(frames), inside, str(path))


class ImageFolder:
    """Still images below a root; a "clip" of several frames shows the same image.

    Args:
        root: searched with all its subfolders.
        path_list: text file with one path per line, relative to ``root``.
        min_side: smaller images are skipped.
        num_clips: take only the first so many.

    Raises:
        DatasetError: root or list is missing, or there are no images.
    """

    def __init__(
        self,
        root: str | Path,
        path_list: str | Path | None = None,
        *,
        min_side: int = 64,
        num_clips: int | None = None,
    ) -> None:
        self._root = _checked_root(root, "data.image_root")
        found = listed_paths(self._root, path_list) if path_list else list(find_images(self._root))
        if not found:
            msg = f"data.image_root={root} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})"
            raise DatasetError(msg)
        self._paths = found[:num_clips]
        self._min_side = min_side

    def __len__(self) -> int:
        """Images."""
        return len(self._paths)

    def name(self, index: int) -> str:
        """Path of an image."""
        return str(self._paths[index])

    def sample(self, index: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> SourceClip:
        """See ``ClipSource.sample``."""
        image = self.read(index)
        rows, columns = crop_window((image.shape[-2], image.shape[-1]), size, rng)
        return SourceClip(image[None, :, rows, columns].repeat(num_frames, 1, 1, 1), None, self.name(index))

    def read(self, index: int) -> Tensor:
        """The whole image, ``(3, H, W)`` float32 in [0, 1].

        Raises:
            DatasetError: it is too small.
            VideoError: it cannot be read.
        """
        image = read_image(self._paths[index])
        if min(image.shape[-2:]) < self._min_side:
            msg = f"it is {image.shape[-1]}x{image.shape[-2]}, its smaller side below min_side={self._min_side}"
            raise DatasetError(msg)
        return image


class FirstFrames:
    """Single frames of clips as stills, where there is no image folder.

    Args:
        clips: where the frames come from.
    """

    def __init__(self, clips: ClipSource) -> None:
        self._clips = clips

    def __len__(self) -> int:
        """Clips."""
        return len(self._clips)

    def name(self, index: int) -> str:
        """Path of the clip."""
        return self._clips.name(index) if isinstance(self._clips, ClipFolder) else f"clip {index}"

    def sample(self, index: int, num_frames: int, size: tuple[int, int], rng: np.random.Generator) -> SourceClip:
        """A random frame of the clip, repeated."""
        clip = self._clips.sample(index, 1, size, rng)
        return SourceClip(clip.frames.repeat(num_frames, 1, 1, 1), None, clip.name)


def image_source(
    root: str | Path | None,
    clip_root: str | Path,
    path_list: str | Path | None = None,
    *,
    min_side: int = 64,
    num_clips: int | None = None,
) -> ClipSource:
    """Stills of an image folder, or single frames of the clips if there is none.

    Raises:
        DatasetError: the folder is missing or empty.
    """
    if root is None:
        return FirstFrames(ClipFolder(clip_root, min_side=min_side, min_frames=1, num_clips=num_clips))
    return ImageFolder(root, path_list, min_side=min_side, num_clips=num_clips)


def validation_source(
    root: str | Path | None,
    clip_root: str | Path,
    path_list: str | Path | None = None,
    *,
    min_side: int = 64,
    num_clips: int | None = 4,
) -> ClipSource:
    """Clips to measure on: their own folder, or the first ones of the training clips (then the figures flatter).

    Args:
        root: their own folder, or None.
        clip_root: of the training clips.
        path_list: of the training clips; does not apply to ``root``.
        min_side: smaller clips are skipped.
        num_clips: how many.

    Raises:
        DatasetError: the folder is missing or empty.
    """
    if root is not None:
        return ClipFolder(root, min_side=min_side, num_clips=num_clips)
    return ClipFolder(clip_root, path_list, min_side=min_side, num_clips=num_clips)


def find_clips(root: Path) -> Iterable[Path]:
    """Video files, and folders that hold images directly, in sorted order; hidden ones are left out."""
    folders_done: set[Path] = set()
    for path in sorted(root.rglob("*")):
        if any(part.startswith(".") for part in path.relative_to(root).parts) or not path.is_file():
            continue
        suffix = path.suffix.lower()
        if suffix in VIDEO_SUFFIXES:
            yield path
        elif suffix in IMAGE_SUFFIXES and path.parent not in folders_done:
            folders_done.add(path.parent)
            yield path.parent


def find_images(root: Path) -> Iterable[Path]:
    """Image files in sorted order; hidden ones are left out."""
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in IMAGE_SUFFIXES and not hidden and path.is_file():
            yield path


def listed_paths(root: Path, path_list: str | Path) -> list[Path]:
    """Paths of a list file, one per line; empty lines and lines that begin with # are left out.

    Raises:
        DatasetError: the list or a path in it does not exist.
    """
    file = expanded(path_list)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as exc:
        msg = f"path list {file} cannot be read ({exc}); it has one path per line, relative to {root}"
        raise DatasetError(msg) from exc
    paths = [root / line for line in lines if line and not line.startswith("#")]
    missing = [path for path in paths if not path.exists()]
    if missing:
        msg = f"path list {file} names {len(missing)} of {len(paths)} paths that do not exist, first {missing[0]}"
        raise DatasetError(msg)
    return paths


def crop_window(full: tuple[int, int], size: tuple[int, int], rng: np.random.Generator) -> tuple[slice, slice]:
    """Random rows and columns of at most ``size``; smaller sides are rounded down to 4k (docs/method.md 5.1)."""
    slices = []
    for side, wanted in zip(full, size, strict=True):
        length = wanted if side >= wanted else side // _EVEN * _EVEN
        start = int(rng.integers(0, side - length + 1))
        slices.append(slice(start, start + length))
    return slices[0], slices[1]


def _checked_root(root: str | Path, key: str) -> Path:
    folder = expanded(root)
    if not folder.is_dir():
        msg = f"{key}={root} is not a folder; give the folder that holds the clips, see data/README.md"
        raise DatasetError(msg)
    return folder
