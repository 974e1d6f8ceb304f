"""Makers that run a network in this process: bicubic, the embedded upscaler, anything that spandrel reads."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.home import expanded
from sparkvsr.keyframes.makers.interface import MakerOptions, ReferenceMaker, file_identity
from sparkvsr.models.lite.upscaler import cpu_has_fast_bf16
from sparkvsr.models.whole_weights import read_and_named
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


class DetailMaker(ReferenceMaker):
    """The embedded network of the vivid look: made for the eye, invents detail.

    Args:
        device: where it runs.
        folder: of a lite model with a detail network of its own; None takes the embedded one.

    Raises:
        WeightsError: the folder has none, or it is damaged.
    """

    name = "detail"
    may_colour = False

    def __init__(self, device: str | torch.device = "cpu", folder: Path | None = None) -> None:
        from sparkvsr.models.lite.upscaler import load_detail

        self._upscaler = load_detail(folder, device)

    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        # Twice the size is enough for twice the size, and a quarter of the memory.
        scale = 2 if all(wanted <= 2 * side for wanted, side in zip(size, lr.shape[-2:], strict=True)) else 4
        return resize_image(self._upscaler.upscale(lr, scale=scale), size)

    def identity(self, index: int) -> str:  # noqa: ARG002
        """See ``ReferenceMaker.identity``."""
        kind = str(self._upscaler.dtype).removeprefix("torch.")
        return f"detail {self._upscaler.fingerprint} {kind}"


class NetworkMaker(ReferenceMaker):
    """An image super-resolution network, in tiles, in bf16 where the CPU multiplies it natively.

    Against float32 on a Zen 5: x4plus 2.9 times faster, general-x4v3 4.5 times, animevideov3 2.2 times, at 54 to 58 dB
    between the two results, which is what rounding to 8 bit costs.

    Args:
        model: as spandrel describes it.
        name: what the plan shows.
        device: where it runs.
        tile: side of a tile in LR pixels; None takes as large ones as the free memory allows.
        weights: ``file_identity`` of the file that the network came from, taken before it was read.
        dtype: of the network; None takes bf16 on CPUs that are fast at it if the network supports it, else float32.
    """

    may_colour = False
    MARGIN = 32
    """LR pixels of surroundings that a tile gets: what lies further away changes x4plus by less than bf16 does."""

    def __init__(
        self,
        model: spandrel.ImageModelDescriptor,
        name: str,
        device: str | torch.device = "cpu",
        tile: int | None = None,
        weights: str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._device = torch.device(device)
        if dtype is None:
            fast = self._device.type == "cpu" and cpu_has_fast_bf16() and model.supports_bfloat16
            dtype = torch.bfloat16 if fast else torch.float32
        model.to(self._device)
        model.model.eval().to(dtype=dtype, memory_format=torch.channels_last)
        self.dtype = dtype
        self._model = model
        self._tile = tile
        self._weights = weights
        self.name = name

    def identity(self, index: int) -> str:  # noqa: ARG002
        """See ``ReferenceMaker.identity``. Tiles leave no trace beyond rounding."""
        kind = str(self.dtype).removeprefix("torch.")
        return f"{self.name} {kind}" if self._weights is None else f"{self.name} {self._weights} {kind}"

    @torch.inference_mode()
    def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:  # noqa: ARG002
        """See ``ReferenceMaker.make``."""
        h, w = lr.shape[-2:]
        scale, margin = self._model.scale, self.MARGIN
        side = self._tile or tile_for_memory((h, w), margin, self.dtype)
        out = torch.empty(3, h * scale, w * scale)
        for top, bottom in spans(h, side):
            for left, right in spans(w, side):
                y0, x0 = max(0, top - margin), max(0, left - margin)
                y1, x1 = min(h, bottom + margin), min(w, right + margin)
                part = lr[None, :, y0:y1, x0:x1].to(self._device, self.dtype)
                piece = self._model(part.contiguous(memory_format=torch.channels_last))[0].float().cpu()
                out[:, top * scale : bottom * scale, left * scale : right * scale] = piece[
                    :, (top - y0) * scale : (bottom - y0) * scale, (left - x0) * scale : (right - x0) * scale
                ]
        return resize_image(out.clamp_(0, 1), size)


_BYTES_PER_PIXEL = {torch.float32: 12_000, torch.bfloat16: 6_000}
"""Peak of x4plus for an LR pixel, measured: a few layers of 64 channels at 4 times the size."""

_MOST_BYTES = 1_500_000_000
_SMALLEST_TILE = 64


def tile_for_memory(lr_size: tuple[int, int], margin: int, dtype: torch.dtype) -> int:
    """Side of the largest tiles, in LR pixels, whose network fits into a quarter of the free memory, at most 1.5 GB."""
    budget = min(_MOST_BYTES, psutil.virtual_memory().available // 4)
    pixels = budget // _BYTES_PER_PIXEL.get(dtype, 12_000)
    if lr_size[0] * lr_size[1] <= pixels:
        return max(lr_size)
    return max(_SMALLEST_TILE, math.isqrt(pixels) - 2 * margin)


def spans(length: int, longest: int) -> list[tuple[int, int]]:
    """Cut ``[0, length)`` into parts of at most ``longest``, as equal as possible."""
    count = -(-length // longest)
    return list(pairwise(round(k * length / count) for k in range(count + 1)))


class SpandrelMaker(NetworkMaker):
    """Any image super-resolution network that spandrel can read from a weight file.

    Args:
        path: ``.pth`` or ``.safetensors`` file.
        device, tile, dtype: see ``NetworkMaker``.

    Raises:
        WeightsError: not readable, or not an image super-resolution network with three channels.
    """

    def __init__(
        self,
        path: Path,
        device: str | torch.device = "cpu",
        tile: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        import spandrel

        def read() -> spandrel.ModelDescriptor:
            loader = spandrel.ModelLoader(device=torch.device(device))
            if path.suffix.lower() == ".safetensors":
                return loader.load_from_file(path)
            # spandrel's own unpickler is safe, but before it torch would run a TorchScript archive, whatever its
            # suffix: a program, which can write files.
            state = torch.load(path, map_location=loader.device, weights_only=True)
            return loader.load_from_state_dict(spandrel.canonicalize_state_dict(state))

        try:
            model, weights = read_and_named(read, lambda: file_identity(path), path)
        except WeightsError:
            raise
        except Exception as exc:  # spandrel raises whatever the file makes torch or pickle raise
            msg = (
                f"{path} is not an upscaler that spandrel can read ({type(exc).__name__}); give a .pth or .safetensors"
            )
            raise WeightsError(msg) from exc
        if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != 3:
            msg = f"{path} holds {model.architecture.name}, not an image upscaler with three channels"
            raise WeightsError(msg)
        super().__init__(model, path.name, device, tile, weights, dtype)


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


def make_detail(argument: str, options: MakerOptions) -> ReferenceMaker:
    """Factory of ``detail`` and ``detail:FOLDER``."""
    return DetailMaker(options.device, expanded(argument) if argument else None)


def make_bicubic(argument: str, options: MakerOptions) -> ReferenceMaker:  # noqa: ARG001
    """Factory of ``bicubic``."""
    no_argument("bicubic", argument)
    return BicubicMaker()
