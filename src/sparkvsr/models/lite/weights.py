"""Weight files of `lite`: two safetensors files in one folder, sizes of the networks in their metadata. No pickle.

The folder holds the networks for x4. Networks for x2 lie in its subfolder ``x2``, where there are any.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from sparkvsr.errors import WeightsError
from sparkvsr.models.lite.network import (
    SCALE,
    KeyframeUpscalerNet,
    PropagatorConfig,
    PropagatorNet,
    UpscalerConfig,
)
from sparkvsr.models.registry import DOUBLING_FOLDER, PROPAGATOR_FILE
from sparkvsr.plain_json import parse_object

UPSCALER_FILE = "keyframe_upscaler.safetensors"
CONFIG_FILE = "config.json"
FORMAT = "sparkvsr-lite-2"

Network = TypeVar("Network", PropagatorNet, KeyframeUpscalerNet)
MOST = 4096
"""Of blocks and channels that a header may ask for; real ones have 64."""


def embedded_folder() -> Path:
    """Where the weights that come with the package lie."""
    return Path(__file__).parent / "weights"


def doubling_folder(folder: Path | None = None) -> Path | None:
    """Where the networks for x2 of a lite folder lie (None: of the embedded one), or None if it has none."""
    inner = (folder or embedded_folder()) / DOUBLING_FOLDER
    return inner if (inner / PROPAGATOR_FILE).is_file() else None


def save_lite(folder: Path, propagator: PropagatorNet, upscaler: KeyframeUpscalerNet) -> None:
    """Write both networks and ``config.json`` into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, network in ((PROPAGATOR_FILE, propagator), (UPSCALER_FILE, upscaler)):
        tensors = {key: value.detach().float().cpu().contiguous() for key, value in network.state_dict().items()}
        # One key only: safetensors writes several in random order, and equal weights should give equal files.
        about = {"format": FORMAT, "config": _sizes(network.config)}
        # Not save_file: that makes files only their owner can read, and these go into a package.
        (folder / name).write_bytes(save(tensors, {"lite": json.dumps(about, sort_keys=True)}))
    config = {"format": FORMAT, "propagator": _sizes(propagator.config), "upscaler": _sizes(upscaler.config)}
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _sizes(config: PropagatorConfig | UpscalerConfig) -> dict[str, int]:
    """The sizes of a network, as files have them; those for x4 say nothing of x2, so that older versions read them."""
    usual = {"unshuffle": 1, "near": 0, "scale": SCALE}
    return {name: size for name, size in asdict(config).items() if usual.get(name) != size}


def load_networks(folder: Path | None = None) -> tuple[PropagatorNet, KeyframeUpscalerNet]:
    """Both networks in float32 on the CPU, in evaluation mode.

    Args:
        folder: as ``save_lite`` wrote it; None takes the embedded weights.

    Raises:
        WeightsError: a file is missing, damaged or of another architecture.
    """
    return load_propagator(folder), load_upscaler(folder)


def load_propagator(folder: Path | None = None) -> PropagatorNet:
    """See ``load_networks``."""
    path = (folder or embedded_folder()) / PROPAGATOR_FILE
    config, tensors = _read(path)
    return _fill(path, lambda: PropagatorNet(PropagatorConfig(**config)), tensors)


def load_upscaler(folder: Path | None = None) -> KeyframeUpscalerNet:
    """See ``load_networks``."""
    path = (folder or embedded_folder()) / UPSCALER_FILE
    config, tensors = _read(path)
    return _fill(path, lambda: KeyframeUpscalerNet(UpscalerConfig(**config)), tensors)


def fingerprint_of(folder: Path | None = None) -> str:
    """SHA-256 over all weight files, of the networks for x2 too where there are any."""
    digest, inner = hashlib.sha256(), doubling_folder(folder)
    homes = [folder or embedded_folder(), *([] if inner is None else [inner])]
    for path in (home / name for home in homes for name in (PROPAGATOR_FILE, UPSCALER_FILE)):
        if not path.is_file():
            raise WeightsError(_missing(path))
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _missing(path: Path) -> str:
    return f"{path} is missing; a lite model folder holds {PROPAGATOR_FILE} and {UPSCALER_FILE} (sparkvsr export)"


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    if not path.is_file():
        raise WeightsError(_missing(path))
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118  (not a dict)
        about = parse_object(metadata.get("lite", "{}"))
    except OSError as exc:
        msg = f"{path} cannot be read ({exc.strerror or exc}); look at its permissions, or copy or export it again"
        raise WeightsError(msg) from exc
    except (SafetensorError, ValueError) as exc:
        msg = f"{path} is damaged or not a lite weight file ({type(exc).__name__}); copy or export it again"
        raise WeightsError(msg) from exc
    if about.get("format") != FORMAT:
        msg = f"{path} has format {about.get('format')!r}, this version of lite reads {FORMAT!r}; export it again"
        raise WeightsError(msg)
    config = about.get("config")
    if not isinstance(config, dict) or any(isinstance(value, int) and value > MOST for value in config.values()):
        msg = f"{path} does not say in its header which networks it is for; export it again"
        raise WeightsError(msg)
    return config, tensors


def _fill(path: Path, build: Callable[[], Network], tensors: Mapping[str, torch.Tensor]) -> Network:
    try:
        network = build()
        network.load_state_dict(tensors)
    except (TypeError, ValueError, ArithmeticError, RuntimeError) as exc:
        msg = f"{path} does not fit the networks of this version of lite; export it again with this version"
        raise WeightsError(msg) from exc
    return network.eval().requires_grad_(False)
