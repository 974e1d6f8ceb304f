"""Where the HR image of a keyframe comes from: a maker that upscales the LR frame, or a folder of images."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import ConfigError, KeyframeError, SparkVSRError, WeightsError

ASPECT_TOLERANCE = 0.02
"""Largest relative difference between the aspect ratios of a reference and its clip (rounding of odd sizes)."""

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")


def resize_image(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize ``(3, h, w)`` or ``(F, 3, h, w)`` to ``size`` = ``(H, W)``: antialiased bicubic, clamped to [0, 1]."""
    if tuple(image.shape[-2:]) == tuple(size):
        return image
    batched = image if image.ndim == 4 else image[None]
    out = F.interpolate(batched.float(), size=size, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)
    return out if image.ndim == 4 else out[0]


class ReferenceMaker(ABC):
    """Makes the HR image of a keyframe.

    Attributes:
        name: what the plan shows.
    """

    name: str

    @abstractmethod
    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """HR image of one frame.

        Args:
            lr: ``(3, h, w)`` float in [0, 1], the clip's frame.
            size: ``(H, W)`` wanted.
            index: frame index, for makers that look images up.

        Returns:
            ``(3, H, W)`` float32 in [0, 1].

        Raises:
            KeyframeError: the image cannot be made or used.
        """


class BicubicMaker(ReferenceMaker):
    """Plain bicubic upscaling: adds nothing, useful as a baseline."""

    name = "bicubic"

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        return resize_image(lr, size)


class LiteMaker(ReferenceMaker):
    """The embedded keyframe upscaler of the lite model."""

    name = "lite"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        from sparkvsr.models.lite.upscaler import load_keyframe_upscaler

        self._upscaler = load_keyframe_upscaler(device=device)

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        return resize_image(self._upscaler.upscale(lr), size)


class SpandrelMaker(ReferenceMaker):
    """Any image super-resolution network that spandrel can read from a weight file.

    Args:
        path: ``.pth`` or ``.safetensors`` file.
        device: where it runs.
        tile: side of a tile in LR pixels; networks of this kind take about 2 kB of memory a pixel and feature.

    Raises:
        WeightsError: not readable, or not an image super-resolution network with three channels.
    """

    MARGIN = 16

    def __init__(self, path: Path, device: str | torch.device = "cpu", tile: int = 256) -> None:
        import spandrel

        try:
            model = spandrel.ModelLoader(device=torch.device(device)).load_from_file(path)
        except Exception as exc:  # spandrel raises whatever the file makes torch or pickle raise
            msg = (
                f"{path} is not an upscaler that spandrel can read ({type(exc).__name__}); give a .pth or .safetensors"
            )
            raise WeightsError(msg) from exc
        if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != 3:
            msg = f"{path} holds {model.architecture.name}, not an image upscaler with three channels"
            raise WeightsError(msg)
        model.model.eval().float()  # half-precision files run in float32: CPU convolutions need it
        self._model = model
        self._device = torch.device(device)
        self._tile = tile
        self.name = path.name

    @torch.inference_mode()
    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        h, w = lr.shape[-2:]
        scale, tile, margin = self._model.scale, self._tile, self.MARGIN
        out = torch.empty(3, h * scale, w * scale)
        for top in range(0, h, tile):
            for left in range(0, w, tile):
                y0, x0 = max(0, top - margin), max(0, left - margin)
                y1, x1 = min(h, top + tile + margin), min(w, left + tile + margin)
                piece = self._model(lr[None, :, y0:y1, x0:x1].float().to(self._device))[0].float().cpu()
                bottom, right = min(h, top + tile), min(w, left + tile)
                out[:, top * scale : bottom * scale, left * scale : right * scale] = piece[
                    :, (top - y0) * scale : (bottom - y0) * scale, (left - x0) * scale : (right - x0) * scale
                ]
        return resize_image(out.clamp_(0, 1), size)


class FolderMaker(ReferenceMaker):
    """HR images made by the user, named by frame index: ``48.png``, ``00048.jpg``, ``frame_48.webp``.

    Args:
        folder: where the images lie.

    Raises:
        KeyframeError: no images, or two images for one frame.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = str(folder)
        self.paths: dict[int, Path] = {}
        for path in sorted(folder.iterdir()):
            numbers = re.findall(r"\d+", path.stem)
            if path.suffix.lower() not in IMAGE_SUFFIXES or not numbers or path.name.startswith("."):
                continue
            index = int(numbers[-1])
            if index in self.paths:
                msg = f"{folder} has two images for frame {index}: {self.paths[index].name} and {path.name}; keep one"
                raise KeyframeError(msg)
            self.paths[index] = path
        if not self.paths:
            msg = f"{folder} holds no reference images; name them by frame index, like 00048.png"
            raise KeyframeError(msg)

    @property
    def indices(self) -> list[int]:
        """Frame indices that have an image."""
        return sorted(self.paths)

    def check(self, indices: Iterable[int], lr_size: tuple[int, int]) -> None:
        """Look at every image that will be used, before any work starts.

        Raises:
            KeyframeError: an image is missing, unreadable or of another aspect ratio.
        """
        missing = [index for index in indices if index not in self.paths]
        if missing:
            names = ", ".join(f"{index:05d}.png" for index in missing[:5]) + (", ..." if len(missing) > 5 else "")
            msg = f"{self.folder} has no reference image for {len(missing)} of the keyframes; add {names}"
            raise KeyframeError(msg)
        for index in indices:
            self._load(index, lr_size)

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
        """See ``ReferenceMaker.make``."""
        return resize_image(self._load(index, (lr.shape[-2], lr.shape[-1])), size)

    def _load(self, index: int, lr_size: tuple[int, int]) -> Tensor:
        from sparkvsr.video import read_image

        path = self.paths[index]
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


def make_reference_maker(name: str, device: str | torch.device = "cpu") -> ReferenceMaker:
    """The maker a ``--references`` value stands for.

    Args:
        name: ``lite``, ``bicubic``, a folder of images, or a weight file that spandrel reads.
        device: where networks run.

    Raises:
        ConfigError: no such maker, file or folder.
        KeyframeError, WeightsError: the folder or file cannot be used.
    """
    if name == "lite":
        return LiteMaker(device)
    if name == "bicubic":
        return BicubicMaker()
    path = Path(name).expanduser()
    if path.is_dir():
        return FolderMaker(path)
    if path.is_file():
        return SpandrelMaker(path, device)
    msg = f"--references {name!r} is neither lite, bicubic, an existing folder of images nor an existing weight file"
    raise ConfigError(msg)
