"""Makers that run a network in this process: bicubic, the embedded upscaler, anything that spandrel reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker, file_identity
from sparkvsr.video.pixels import resize_image

if TYPE_CHECKING:
    import spandrel


class BicubicMaker(ReferenceMaker):
    """Plain bicubic upscaling: adds nothing, useful as a baseline."""

    name = "bicubic"
    may_colour = False

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        return resize_image(lr, size)


class LiteMaker(ReferenceMaker):
    """The embedded keyframe upscaler of the lite model."""

    name = "lite"
    may_colour = False

    def __init__(self, device: str | torch.device = "cpu") -> None:
        from sparkvsr.models.lite.upscaler import load_keyframe_upscaler

        self._upscaler = load_keyframe_upscaler(device=device)

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        return resize_image(self._upscaler.upscale(lr), size)

    def identity(self, index: int) -> str:  # noqa: ARG002
        """See ``ReferenceMaker.identity``."""
        from sparkvsr.models.lite.weights import fingerprint_of

        return f"lite {fingerprint_of(None)}"


class NetworkMaker(ReferenceMaker):
    """An image super-resolution network, in tiles.

    Args:
        model: as spandrel describes it.
        name: what the plan shows.
        device: where it runs.
        tile: side of a tile in LR pixels; networks of this kind take about 2 kB of memory a pixel and feature.
        weights: ``file_identity`` of the file that the network came from, taken before it was read.
    """

    may_colour = False
    MARGIN = 16

    def __init__(
        self,
        model: spandrel.ImageModelDescriptor,
        name: str,
        device: str | torch.device = "cpu",
        tile: int = 256,
        weights: str | None = None,
    ) -> None:
        model.to(torch.device(device))
        model.model.eval().float()  # half-precision files run in float32: CPU convolutions need it
        self._model = model
        self._device = torch.device(device)
        self._tile = tile
        self._weights = weights
        self.name = name

    def identity(self, index: int) -> str:  # noqa: ARG002
        """See ``ReferenceMaker.identity``."""
        return self.name if self._weights is None else f"{self.name} {self._weights} {self._tile}"

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


class SpandrelMaker(NetworkMaker):
    """Any image super-resolution network that spandrel can read from a weight file.

    Args:
        path: ``.pth`` or ``.safetensors`` file.
        device, tile: see ``NetworkMaker``.

    Raises:
        WeightsError: not readable, or not an image super-resolution network with three channels.
    """

    def __init__(self, path: Path, device: str | torch.device = "cpu", tile: int = 256) -> None:
        import spandrel

        weights = file_identity(path)
        try:
            loader = spandrel.ModelLoader(device=torch.device(device))
            if path.suffix.lower() != ".safetensors":
                # spandrel's own unpickler is safe, but before it torch would run a TorchScript archive, whatever its
                # suffix: a program, which can write files.
                state = torch.load(path, map_location=loader.device, weights_only=True)
                model = loader.load_from_state_dict(spandrel.canonicalize_state_dict(state))
            else:
                model = loader.load_from_file(path)
        except Exception as exc:  # spandrel raises whatever the file makes torch or pickle raise
            msg = (
                f"{path} is not an upscaler that spandrel can read ({type(exc).__name__}); give a .pth or .safetensors"
            )
            raise WeightsError(msg) from exc
        if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != 3:
            msg = f"{path} holds {model.architecture.name}, not an image upscaler with three channels"
            raise WeightsError(msg)
        super().__init__(model, path.name, device, tile, weights)


def no_argument(name: str, argument: str) -> None:
    """Refuse ``lite:something``.

    Raises:
        ConfigError: there is an argument.
    """
    if argument:
        msg = f"--references {name}:{argument}: {name} takes nothing after the colon; write --references {name}"
        raise ConfigError(msg)


def make_lite(argument: str, options: MakerOptions) -> ReferenceMaker:
    """Factory of ``lite``."""
    no_argument("lite", argument)
    return LiteMaker(options.device)


def make_bicubic(argument: str, options: MakerOptions) -> ReferenceMaker:  # noqa: ARG001
    """Factory of ``bicubic``."""
    no_argument("bicubic", argument)
    return BicubicMaker()
