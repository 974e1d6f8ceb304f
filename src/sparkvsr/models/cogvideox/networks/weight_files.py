"""A model folder in diffusers layout, checked and loaded without a second copy in memory.

Networks are built on the meta device and take each tensor as it comes from the shards (``assign=True``), cast one by
one: an fp32 checkpoint of 20.7 GiB loads into bf16 with 10.4 GiB and one tensor on top.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparkvsr.errors import WeightsError
from sparkvsr.file_parts import spread_parts
from sparkvsr.plain_json import read_object

_log = logging.getLogger(__name__)

WEIGHTS_FILE = "diffusion_pytorch_model.safetensors"
INDEX_FILE = WEIGHTS_FILE + ".index.json"
LAYOUT = (
    "transformer/ (config.json + safetensors), vae/ (config.json + safetensors), scheduler/scheduler_config.json and "
    "prompt_embeddings/ (or text_encoder/)"
)
_HEAD_BYTES, _SAMPLES, _SAMPLE_BYTES = 1 << 20, 64, 1 << 16
"""What is hashed of a shard."""

CLASSES = {"transformer": "CogVideoXTransformer3DModel", "vae": "AutoencoderKLCogVideoX"}


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder: configs read, every shard seen.

    Attributes:
        path: the folder.
        transformer: content of ``transformer/config.json``.
        vae: content of ``vae/config.json``.
        scheduler: content of ``scheduler/scheduler_config.json``.
        shards: weight files by component, in order.
    """

    path: Path
    transformer: dict[str, Any]
    vae: dict[str, Any]
    scheduler: dict[str, Any]
    shards: dict[str, tuple[Path, ...]]

    def weight_bytes(self) -> int:
        """Bytes of all shards on disk."""
        return sum(shard.stat().st_size for shards in self.shards.values() for shard in shards)

    def fingerprint(self) -> str:
        """Hash of configs and of each shard's size, header and parts spread over it: shards are gigabytes."""
        digest = hashlib.sha256(json.dumps([self.transformer, self.vae, self.scheduler], sort_keys=True).encode())
        for component in sorted(self.shards):
            for shard in self.shards[component]:
                size = shard.stat().st_size
                digest.update(f"{component}/{shard.name}:{size}".encode())
                with shard.open("rb") as file:
                    digest.update(file.read(_HEAD_BYTES))
                # A fine-tune has the same header and size, and may have touched some layers only.
                for part in spread_parts(shard, size, _SAMPLES, _SAMPLE_BYTES):
                    digest.update(part)
        return digest.hexdigest()[:16]


def open_folder(path: Path) -> ModelFolder:
    """Check a model folder without reading weights.

    Raises:
        WeightsError: not a model folder, a part or shard is missing, or another architecture.
    """
    if not path.is_dir():
        msg = f"model folder {path} does not exist; it needs {LAYOUT}"
        raise WeightsError(msg)
    if not (path / "transformer" / "config.json").is_file():
        found = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        msg = f"{path} is not a model folder: transformer/config.json is missing (found {found}); it needs {LAYOUT}"
        raise WeightsError(msg)
    folder = ModelFolder(
        path=path,
        transformer=_read_json(path / "transformer" / "config.json"),
        vae=_read_json(path / "vae" / "config.json"),
        scheduler=_read_json(path / "scheduler" / "scheduler_config.json"),
        shards={name: _find_shards(path / name) for name in CLASSES},
    )
    check_architecture(folder.transformer, folder.vae, path)
    return folder


def check_architecture(transformer: dict[str, Any], vae: dict[str, Any], path: Path) -> None:
    """Refuse configs that the SparkVSR forward pass does not fit.

    Raises:
        WeightsError: which value is wrong and what it probably is.
    """
    for name, config in (("transformer", transformer), ("vae", vae)):
        found = config.get("_class_name")
        if found not in (None, CLASSES[name]):
            msg = f"{path}/{name}/config.json is of class {found}; SparkVSR needs {CLASSES[name]}"
            raise WeightsError(msg)
    channels = transformer.get("in_channels")
    if channels == 16:
        msg = (
            f"{path}/transformer has in_channels=16: this is the text-to-video base (or DOVE); SparkVSR needs "
            "in_channels=32, the image-to-video base CogVideoX1.5-5B-I2V or weights trained from it"
        )
        raise WeightsError(msg)
    wanted = {"in_channels": 32, "out_channels": 16, "patch_size": 2, "patch_size_t": 2}
    for key, value in wanted.items():
        if transformer.get(key) != value:
            msg = (
                f"{path}/transformer has {key}={transformer.get(key)}, SparkVSR needs {value}; "
                "use weights trained from CogVideoX1.5-5B-I2V"
            )
            raise WeightsError(msg)
    if not transformer.get("use_rotary_positional_embeddings"):
        msg = f"{path}/transformer has no rotary embedding; use weights trained from CogVideoX1.5-5B-I2V"
        raise WeightsError(msg)
    if vae.get("latent_channels") != 16:
        msg = f"{path}/vae has latent_channels={vae.get('latent_channels')}, SparkVSR needs 16: use the CogVideoX VAE"
        raise WeightsError(msg)


def build_transformer(config: dict[str, Any], device: str | torch.device = "meta") -> nn.Module:
    """Build the transformer of a config without weights."""
    from diffusers import CogVideoXTransformer3DModel

    with torch.device(device):
        return CogVideoXTransformer3DModel.from_config(_plain(config)).eval()


def build_vae(config: dict[str, Any], device: str | torch.device = "meta") -> nn.Module:
    """Build the autoencoder of a config without weights."""
    from diffusers import AutoencoderKLCogVideoX

    with torch.device(device):
        return AutoencoderKLCogVideoX.from_config(_plain(config)).eval()


def load_weights(
    network: nn.Module,
    shards: tuple[Path, ...],
    dtype: torch.dtype,
    device: torch.device = torch.device("cpu"),  # noqa: B008  (immutable)
) -> nn.Module:
    """Fill a network built on the meta device, tensor by tensor.

    Args:
        network: on the meta device.
        shards: safetensors files that together hold each tensor once.
        dtype: parameter type; tensors are cast as they come.
        device: where the parameters go.

    Raises:
        WeightsError: a shard cannot be read, or names and shapes do not match the config.
    """
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    origin = shards[0].parent
    seen: set[str] = set()
    unexpected: list[str] = []
    for shard in shards:
        state: dict[str, Tensor] = {}
        for name, tensor in _tensors(shard):
            if name not in expected:
                unexpected.append(name)
                continue
            if tensor.shape != expected[name]:
                msg = (
                    f"{shard}: {name} has shape {tuple(tensor.shape)}, config.json asks for {tuple(expected[name])}; "
                    "config and weights are of different models"
                )
                raise WeightsError(msg)
            # A copy in any case: what safetensors gives is the file itself, which may be written over or cut short
            # while the model runs.
            state[name] = tensor.to(device, dtype, copy=True)
        network.load_state_dict(state, strict=False, assign=True)
        seen.update(state)
    missing = [name for name in expected if name not in seen]
    for what, names in (("missing", missing), ("unexpected", unexpected)):
        if names:
            msg = (
                f"{origin}: {len(names)} {what} tensors ({', '.join(sorted(names)[:5])}{', ...' * (len(names) > 5)}); "
                "the files do not belong to this config.json, copy the folder again"
            )
            raise WeightsError(msg)
    return network.requires_grad_(False).eval()


def _tensors(shard: Path) -> Iterator[tuple[str, Tensor]]:
    try:
        with safe_open(shard, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  (safe_open is not a mapping)
                yield name, file.get_tensor(name)
    except (OSError, SafetensorError) as exc:
        msg = f"{shard} cannot be read as safetensors ({exc}); it is truncated or damaged, copy it again"
        raise WeightsError(msg) from exc


def _find_shards(folder: Path) -> tuple[Path, ...]:
    if (folder / INDEX_FILE).is_file():
        index = _read_json(folder / INDEX_FILE)
        names = sorted(set(index.get("weight_map", {}).values()))
        missing = [name for name in names if not (folder / name).is_file()]
        if missing or not names:
            listed = ", ".join(missing[:5]) or "all"
            msg = (
                f"{folder} lacks {len(missing)} of {len(names)} shards ({listed}) that {INDEX_FILE} names; "
                "copy or download them again"
            )
            raise WeightsError(msg)
        return tuple(folder / name for name in names)
    if (folder / WEIGHTS_FILE).is_file():
        return (folder / WEIGHTS_FILE,)
    msg = f"{folder} has no weights: neither {WEIGHTS_FILE} nor {INDEX_FILE} with its shards (only safetensors is read)"
    raise WeightsError(msg)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except FileNotFoundError as exc:
        msg = f"{path} is missing; a model folder needs {LAYOUT}"
        raise WeightsError(msg) from exc
    except (OSError, ValueError) as exc:
        msg = f"{path} cannot be read as a JSON object ({exc}); copy it again"
        raise WeightsError(msg) from exc


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if not key.startswith("_")}
