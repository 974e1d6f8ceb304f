"""A folder of HR images as the source of references: what the user made, edited or replaced with any tool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from torch import Tensor

from sparkvsr.errors import KeyframeError, SparkVSRError
from sparkvsr.keyframes.frame_names import frame_of_name
from sparkvsr.keyframes.makers.interface import ReferenceMaker, file_identity
from sparkvsr.keyframes.makers.judged_size import judge_declared
from sparkvsr.keyframes.manifest import (
    MANIFEST_NAME,
    Manifest,
    clip_fingerprint,
    is_same_clip,
    read_manifest,
)
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.video import IMAGE_SUFFIXES, read_image
from sparkvsr.video.pixels import resize_image

MAX_REFERENCE_FACTOR = 8
"""How many times a side of the clip's frame a reference is expected to have at most."""


class FolderMaker(ReferenceMaker):
    """HR images made by the user, named by frame index: ``48.png``, ``00048.jpg``, ``frame_48.webp``.

    A ``keyframes.json`` beside them gives weights (0 leaves a keyframe out), names of images, and the clip they were
    made for. Images that it does not list are used as well; images that it lists have to be there.

    Args:
        folder: where the images lie; folders inside it are not looked into.

    Attributes:
        paths: image of each frame that is used.
        weights: influence of each frame that is used, above 0 to 1.
        guidance: of the frames that have one of their own.
        left_out: frames with weight 0.
        manifest: contents of ``keyframes.json``, or None.

    Raises:
        KeyframeError: no images, two images for one frame, an image missing, or a ``keyframes.json`` that is wrong.
    """

    holds_images = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.manifest: Manifest | None = read_manifest(folder)
        entries = {entry.index: entry for entry in self.manifest.keyframes} if self.manifest else {}
        named = {entry.file: entry.index for entry in entries.values() if entry.file is not None}
        found: dict[int, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() not in IMAGE_SUFFIXES or path.name.startswith(".") or not path.is_file():
                continue
            index = named.get(path.name)
            if index is None:
                index = frame_of_name(path)
            if index is None:
                continue
            if index in found:
                msg = f"{folder} has two images for frame {index}: {found[index].name} and {path.name}; keep one"
                raise KeyframeError(msg)
            found[index] = path
        for index, entry in entries.items():
            if index not in found and entry.weight > 0:
                path = folder / (entry.file or f"{index:05d}.png")
                msg = f"{path} is missing, but {MANIFEST_NAME} lists it; put it back, or give frame {index} weight 0"
                raise KeyframeError(msg)
        self.left_out = tuple(index for index, entry in sorted(entries.items()) if entry.weight == 0)
        self.paths = {index: path for index, path in sorted(found.items()) if index not in self.left_out}
        self.weights: Mapping[int, float] = {
            index: entries[index].weight if index in entries else 1.0 for index in self.paths
        }
        self.guidance: Mapping[int, float] = {
            index: entry.guidance
            for index, entry in entries.items()
            if index in self.paths and entry.guidance is not None
        }
        if not self.paths:
            why = "only weight 0" if found else "no reference images; name them by frame index, like 00048.png"
            msg = f"{folder} holds {why}"
            raise KeyframeError(msg)

    @property
    def indices(self) -> list[int]:
        """Frame indices that have an image and are used."""
        return sorted(self.paths)

    def given(self, start: int, stop: int, *, is_part: bool = False) -> tuple[int, ...]:
        """See ``ReferenceMaker.given``."""
        inside = tuple(index for index in self.indices if start <= index < stop)
        if not inside or (not is_part and len(inside) < len(self.indices)):
            outside = next(index for index in self.indices if not start <= index < stop)
            msg = (
                f"reference image {self.paths[outside]} is for frame {outside}, "
                f"outside the clip (frames {start} to {stop - 1}); rename or remove it"
            )
            raise KeyframeError(msg)
        return inside

    def check_clip(self, path: Path) -> None:
        """See ``ReferenceMaker.check_clip``; without ``keyframes.json`` nothing is known."""
        if self.manifest is None or self.manifest.fingerprint is None:
            return
        if not is_same_clip(self.manifest.fingerprint, clip_fingerprint(path)):
            what = f" ({self.manifest.clip_name})" if self.manifest.clip_name else ""
            msg = (
                f"{self.folder} was made for another video{what}, not for {path}; use its own references, or remove "
                f"{self.folder / MANIFEST_NAME} if the frames do match"
            )
            raise KeyframeError(msg)

    def check(self, indices: Iterable[int], lr_size: tuple[int, int]) -> None:
        """See ``ReferenceMaker.check``."""
        indices = list(indices)
        dropped = [index for index in indices if index in self.left_out]
        if dropped:
            msg = (
                f"keyframe {dropped[0]} has weight 0 in {self.folder / MANIFEST_NAME}; give it a weight above 0, "
                f"or leave it out"
            )
            raise KeyframeError(msg)
        missing = [index for index in indices if index not in self.paths]
        if missing:
            names = ", ".join(f"{index:05d}.png" for index in missing[:5]) + (", ..." if len(missing) > 5 else "")
            msg = f"{self.folder} has no reference image for {len(missing)} of the keyframes; add {names}"
            raise KeyframeError(msg)
        for index in indices:
            self.load(index, lr_size)

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        return resize_image(self.load(index, (lr.shape[-2], lr.shape[-1])), size)

    def original(self, index: int, lr_size: tuple[int, int]) -> Tensor:
        """See ``ReferenceMaker.original``."""
        if index not in self.paths:
            msg = f"{self.folder} has no reference image for keyframe {index}; add {index:05d}.png"
            raise KeyframeError(msg)
        return self.load(index, lr_size)

    def label(self, index: int) -> str:
        """See ``ReferenceMaker.label``: the file's name."""
        return self.paths[index].name if index in self.paths else super().label(index)

    def identity(self, index: int) -> str:
        """See ``ReferenceMaker.identity``: the image's bytes, the weight, and the guidance where it has its own."""
        own = f"^{self.guidance[index]}" if index in self.guidance else ""
        return f"{file_identity(self.paths[index])}*{self.weights[index]}{own}"

    def load(self, index: int, lr_size: tuple[int, int]) -> Tensor:
        """The image of a frame as it is, ``(3, a, b)`` float32 in [0, 1].

        Raises:
            KeyframeError: unreadable or of another aspect ratio than ``lr_size`` = ``(h, w)``.
        """
        path = self.paths[index]
        # A still may be as large as it was made; but not another picture, nor one that fills the memory.
        wanted_size = (lr_size[0] * MAX_REFERENCE_FACTOR, lr_size[1] * MAX_REFERENCE_FACTOR)
        judge_declared(path, lr_size, wanted_size, f"reference image {path} of keyframe {index}")
        try:
            image = read_image(path)
        except SparkVSRError as exc:
            msg = f"reference image {path} of keyframe {index} cannot be read: {exc}"
            raise KeyframeError(msg) from exc
        h, w = image.shape[-2:]
        wanted = lr_size[1] / lr_size[0]
        if abs(w / h / wanted - 1) > ASPECT_TOLERANCE:
            msg = (
                f"reference image {path} is {w}x{h} (aspect {w / h:.3f}), the clip is {lr_size[1]}x{lr_size[0]} "
                f"({wanted:.3f}); crop or pad the image to the clip's aspect ratio"
            )
            raise KeyframeError(msg)
        return image
