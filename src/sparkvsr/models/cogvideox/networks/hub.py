"""From a path or a hub id to a local folder, and the list of models found on this machine."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sparkvsr.errors import WeightsError
from sparkvsr.home import expanded
from sparkvsr.models.cogvideox.networks.weight_files import LAYOUT, ModelFolder, open_folder

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
FILES = ["model_index.json", "transformer/*", "vae/*", "scheduler/*", "prompt_embeddings/*"]


def resolve_folder(path_or_hub_id: str | Path) -> Path:
    """Return the folder; a hub id is fetched into the usual cache (resumed and verified by huggingface_hub).

    The text encoder is fetched only if the repository has no embedding of the empty prompt: it is larger than all the
    rest.

    Raises:
        WeightsError: no such folder, or the hub cannot be reached and nothing is cached.
    """
    path = expanded(path_or_hub_id)
    if path.exists() or not HUB_ID.fullmatch(str(path_or_hub_id)):
        return path
    name = str(path_or_hub_id)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
    from huggingface_hub.errors import OfflineModeIsEnabled as Offline

    try:
        folder = Path(snapshot_download(name, allow_patterns=FILES))
        if not any((folder / "prompt_embeddings").glob("*.safetensors")):
            folder = Path(snapshot_download(name, allow_patterns=[*FILES, "text_encoder/*"]))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, Offline, OSError) as exc:
        reason = str(exc).strip().splitlines()[0] if str(exc).strip() else type(exc).__name__
        msg = (
            f"model {name!r} is no folder here and could not be fetched from the hub ({reason}); without a network, "
            f"copy the model into a folder with {LAYOUT} and give its path"
        )
        raise WeightsError(msg) from exc
    return folder


@dataclass(frozen=True)
class LocalModel:
    """A usable or broken model folder, for ``sparkvsr models``.

    Attributes:
        path: the folder.
        size_bytes: weights on disk.
        parameters: of transformer and autoencoder, 0 if broken.
        needs: one line about memory, or what is wrong.
        usable: whether ``load_cogvideox`` would take it.
    """

    path: Path
    size_bytes: int
    parameters: int
    needs: str
    usable: bool


def local_models(search_dirs: Iterable[str | Path] = ()) -> list[LocalModel]:
    """List model folders: the given folders, their direct subfolders, and the hub's cache. Reads no weights."""
    candidates: list[Path] = []
    for directory in search_dirs:
        home = expanded(directory)
        if home.is_dir():
            candidates += [home, *sorted(entry for entry in home.iterdir() if entry.is_dir())]
    candidates += _cached_snapshots()
    seen: set[Path] = set()
    found = []
    for folder in candidates:
        if (folder / "transformer" / "config.json").is_file() and folder.resolve() not in seen:
            seen.add(folder.resolve())
            found.append(_describe(folder))
    return found


def _cached_snapshots() -> list[Path]:
    from huggingface_hub.constants import HF_HUB_CACHE

    return sorted(Path(HF_HUB_CACHE).glob("models--*/snapshots/*"))


def _describe(path: Path) -> LocalModel:
    try:
        folder = open_folder(path)
    except WeightsError as exc:
        return LocalModel(path, 0, 0, str(exc), usable=False)
    parameters = count_parameters(folder)
    gib = parameters * 2 / 2**30
    return LocalModel(
        path, folder.weight_bytes(), parameters, f"{gib:.1f} GiB of memory for the weights in bf16", usable=True
    )


def count_parameters(folder: ModelFolder) -> int:
    """Parameters of transformer and autoencoder by their configs, counted on the meta device."""
    from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, build_vae

    networks = (build_transformer(folder.transformer), build_vae(folder.vae))
    return sum(parameter.numel() for network in networks for parameter in network.parameters())
