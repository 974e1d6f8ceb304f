"""Writing a folder of keyframes so that it is complete or not there."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from sparkvsr.durable import temporary_path
from sparkvsr.errors import EncodeError, KeyframeError
from sparkvsr.keyframes.folder import FolderMaker
from sparkvsr.keyframes.manifest import (
    LR_FOLDER,
    MANIFEST_NAME,
    read_manifest,
)
from sparkvsr.video.images import encode_image


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds something already, before any work.

    Raises:
        KeyframeError: it is a file, its lr/ is a link, or it holds something and ``overwrite`` is off.
    """
    if folder.exists() and not folder.is_dir():
        msg = f"-o {folder} is a file, not a folder; give another -o"
        raise KeyframeError(msg)
    lr = folder / LR_FOLDER
    if lr.is_symlink() or (lr.exists() and not lr.is_dir()):
        # Through a link, files outside the folder would be replaced.
        msg = f"{lr} is a link or a file where a folder of LR frames belongs; remove it, or give another -o"
        raise KeyframeError(msg)
    if folder.is_dir() and not overwrite and any(folder.iterdir()):
        msg = (
            f"{folder} is not empty; pass --overwrite to make its references again (edits of them are lost), "
            f"or give another -o"
        )
        raise KeyframeError(msg)


@contextmanager
def folder_beside(folder: Path) -> Iterator[Path]:
    """A temporary folder on the same disk, with a place for LR frames in it.

    Raises:
        KeyframeError: it cannot be made there.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=f"{temporary_path(folder, 'making').name}-", dir=folder.parent)
    except OSError as exc:
        msg = f"-o {folder} cannot be made ({exc.strerror}); check the folder's permissions or give another -o"
        raise KeyframeError(msg) from exc
    with temporary as name:
        work = Path(name)
        (work / LR_FOLDER).mkdir()
        yield work


def write_png(path: Path, image: Tensor) -> None:
    """Write ``(3, H, W)`` in [0, 1] as an 8-bit PNG.

    Raises:
        EncodeError: the file cannot be written.
    """
    try:
        path.write_bytes(encode_image(image, ".png", bits=8))
    except OSError as exc:
        msg = f"{path.name} cannot be written into {path.parent} ({exc.strerror}); is the disk full?"
        raise EncodeError(msg) from exc


def image_name(index: int) -> str:
    """``48`` to ``00048.png``."""
    return f"{index:05d}.png"


def move_into_place(work: Path, folder: Path) -> list[str]:
    """Replace what an earlier run wrote; leave what somebody else put there, and say so."""
    if not folder.exists():
        # A fresh name appears complete or not at all. The temporary folder is private, the result is not.
        work.chmod(0o755)
        work.rename(folder)
        work.mkdir()  # for the context manager that removes it
        return []
    try:
        old = read_manifest(folder)
    except KeyframeError:
        old = None
    for entry in old.keyframes if old else ():
        for written in {entry.file or image_name(entry.index), image_name(entry.index)}:
            (folder / written).unlink(missing_ok=True)
            (folder / LR_FOLDER / written).unlink(missing_ok=True)
    (folder / LR_FOLDER).mkdir(exist_ok=True)
    # The list goes last: until then the folder is not taken for a complete one.
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    names = sorted(path.relative_to(work) for path in work.rglob("*") if path.is_file() and path.name != MANIFEST_NAME)
    for name in [*names, Path(MANIFEST_NAME)]:
        (work / name).replace(folder / name)
    extra = set(FolderMaker(folder).paths) - {int(name.stem) for name in names if name.stem.isdecimal()}
    if not extra:
        return []
    shown = ", ".join(map(str, sorted(extra)[:8]))
    return [f"{folder} also holds images for frames {shown}, which were not made now; they will be used as well"]
