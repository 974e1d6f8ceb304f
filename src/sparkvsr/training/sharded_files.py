"""Folders that torch.distributed.checkpoint (FSDP) writes, and DeepSpeed's, read as data.

Both packages unpickle what such a folder holds: ``.metadata`` and every value that is no tensor. A folder may come from
anybody, so names in it are held against a list, and torch is told to read weights only, whatever its caller asked for.
"""

from __future__ import annotations

import pathlib
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from sparkvsr.errors import WeightsError
from sparkvsr.unpickling import unpickle_listed, weights_only

METADATA_FILE = ".metadata"

# What torch writes into .metadata: dataclasses without code of their own.
_LISTED = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch.serialization": {"_get_layout"},
    "torch": {"Size"},
    "collections": {"OrderedDict"},
}
# What DeepSpeed writes beside tensors and plain values.
_DEEPSPEED = (
    ("deepspeed.runtime.fp16.loss_scaler", ("LossScaler", "DynamicLossScaler")),
    ("deepspeed.runtime.zero.config", ("ZeroStageEnum",)),
    ("deepspeed.utils.tensor_fragment", ("fragment_address",)),
)


@contextmanager
def data_only(checkpoint: Path) -> Iterator[None]:
    """Other people's code reads a checkpoint: as data, and a refusal becomes one line.

    Raises:
        WeightsError: the checkpoint holds more than weights and plain values, or is damaged.
    """
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        with weights_only():
            yield
    except (pickle.UnpicklingError, EOFError, OSError, CheckpointException) as exc:
        msg = f"{checkpoint} cannot be gone on with ({reason(exc)}); are all files there?"
        raise WeightsError(msg) from exc


def read_metadata(folder: Path) -> Any:
    """``.metadata`` of a sharded checkpoint.

    Args:
        folder: of the checkpoint.

    Returns:
        ``torch.distributed.checkpoint.metadata.Metadata``.

    Raises:
        WeightsError: it names anything but what torch writes into it, points out of the folder, or is damaged.
    """
    from torch.distributed.checkpoint.metadata import Metadata

    file = folder / METADATA_FILE
    try:
        metadata = unpickle_listed(file.read_bytes(), _find)
        if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_data, dict):
            msg = "it holds no metadata of a checkpoint"
            raise pickle.UnpicklingError(msg)
        for name in {str(place.relative_path) for place in metadata.storage_data.values()}:
            if Path(name).name != name:
                msg = f"it points out of its folder: {name!r}"
                raise pickle.UnpicklingError(msg)
            if (folder / name).exists() and not (folder / name).is_file():  # a named pipe would be waited for
                msg = f"{name} is no file"
                raise pickle.UnpicklingError(msg)
    except (OSError, pickle.UnpicklingError, AttributeError) as exc:
        msg = f"{file} is not what torch writes for a sharded checkpoint ({str(exc)[:200]}); nothing of it was run"
        raise WeightsError(msg) from exc
    return metadata


def read_sharded(folder: Path) -> dict[str, Any]:
    """All tensors and plain values of a sharded checkpoint, on the CPU.

    Args:
        folder: with ``.metadata`` and ``*.distcp``.

    Returns:
        Nested as it was saved.

    Raises:
        WeightsError: a file is missing, damaged, or holds anything but data.
    """
    from torch.distributed.checkpoint import FileSystemReader
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.format_utils import _EmptyStateDictLoadPlanner
    from torch.distributed.checkpoint.metadata import StorageMeta
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict

    metadata = read_metadata(folder)

    class DataReader(FileSystemReader):
        def read_metadata(self, *args: Any, **kwargs: Any) -> Any:
            del args, kwargs
            metadata.storage_meta = StorageMeta(load_id=self.load_id)
            return metadata

    found: dict[str, Any] = {}
    try:
        with weights_only():
            _load_state_dict(
                found, storage_reader=DataReader(folder), planner=_EmptyStateDictLoadPlanner(), no_dist=True
            )
    except (Exception, CheckpointException) as exc:  # a forged list of tensors makes torch raise whatever comes of it
        msg = f"{folder} cannot be read as a sharded checkpoint ({reason(exc)}); are all files there?"
        raise WeightsError(msg) from exc
    return found


def list_deepspeed_classes() -> None:
    """Let ``torch.load`` in its safe mode read the few plain classes that DeepSpeed writes."""
    for module, names in _DEEPSPEED:
        try:
            loaded = import_module(module)
        except ImportError:  # another version keeps it elsewhere, and writes it from there
            continue
        torch.serialization.add_safe_globals([getattr(loaded, name) for name in names if hasattr(loaded, name)])


def reason(error: BaseException) -> str:
    """What is wrong with a file, without torch's advice to read it in its unsafe mode."""
    failures = getattr(error, "failures", None)  # torch's own, by process, with their tracebacks
    if isinstance(failures, dict) and failures:
        error = next(iter(failures.values()))[0]
    text = str(error)
    if "weights_only" in text or "Weights only" in text or "Unsupported global" in text:
        return "it holds more than weights and plain values, so it was not read"
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[0].strip()[:200] if lines else type(error).__name__


def _find(module: str, name: str) -> Any:
    if module == "pathlib" or module.startswith("pathlib._"):
        return {"PosixPath": pathlib.PurePosixPath, "WindowsPath": pathlib.PureWindowsPath}.get(name)
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if name in _LISTED.get(module, ()):
        return getattr(import_module(module), name, None)
    return None
