"""Where precomputed samples lie: a file each, or many to a tar file, on a disk or in an object store.

Shards follow WebDataset's convention (one tar member per sample, ``NAME.safetensors``), which other readers know.
An index beside them says where each member begins: a sample is one ranged read, and their order stays a function of
the seed and the step, so a run goes on with the very next sample.
"""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError
from safetensors.torch import load, load_file, save, save_file
from torch import Tensor

from sparkvsr.errors import ConfigError, DatasetError

INDEX_FILE = "index.json"
_SUFFIX = ".safetensors"


class SampleSource(Protocol):
    """Reads kept tensors by the name of their sample."""

    def has(self, name: str) -> bool:
        """Whether there is such a sample."""

    def read(self, name: str) -> dict[str, Tensor]:
        """Its tensors.

        Raises:
            DatasetError: it is missing or damaged.
        """


class SampleFiles:
    """A folder with a file for each sample.

    Args:
        folder: made when the first one is written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, name: str) -> Path:
        """File of a sample."""
        return self.folder / f"{name}{_SUFFIX}"

    def has(self, name: str) -> bool:
        """See ``SampleSource``."""
        return self.path(name).is_file()

    def read(self, name: str) -> dict[str, Tensor]:
        """See ``SampleSource``."""
        file = self.path(name)
        try:
            return load_file(file)
        except (OSError, SafetensorError) as exc:
            msg = f"precomputed sample {file} cannot be read ({exc}); delete it, the next run makes it again"
            raise DatasetError(msg) from exc

    def write(self, name: str, tensors: dict[str, Tensor]) -> None:
        """Write a sample; its name appears when it is whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=self.folder, suffix=".part")
        os.close(handle)
        save_file({key: value.contiguous() for key, value in tensors.items()}, aside)
        Path(aside).replace(self.path(name))


class SampleShards:
    """Tar files with an index, below any address that fsspec knows (a folder, ``s3://``, ``gs://``, ``memory://``).

    Args:
        address: of the folder.

    Raises:
        ConfigError: the address is of a kind for which a package is missing, or cannot be reached.
        DatasetError: the index is damaged.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._system, self._root = _open_system(address)
        self._index: dict[str, tuple[str, int, int]] = {}
        index = f"{self._root}/{INDEX_FILE}"
        with _reachable(address):
            text = self._system.cat_file(index) if self._system.exists(index) else b"{}"
        try:
            self._index = {name: _checked(place) for name, place in json.loads(text).items()}
        except (ValueError, TypeError, AttributeError) as exc:
            msg = f"{address}/{INDEX_FILE} is no index of shards ({exc}); delete it, the next run packs them again"
            raise DatasetError(msg) from exc

    def has(self, name: str) -> bool:
        """See ``SampleSource``."""
        return name in self._index

    def read(self, name: str) -> dict[str, Tensor]:
        """See ``SampleSource``."""
        if name not in self._index:
            msg = f"{self.address} holds no sample {name}"
            raise DatasetError(msg)
        shard, start, size = self._index[name]
        try:
            return load(self._system.cat_file(f"{self._root}/{shard}", start=start, end=start + size))
        except (OSError, SafetensorError, ValueError) as exc:
            msg = f"sample {name} cannot be read out of {self.address}/{shard} ({exc}); write the shards again"
            raise DatasetError(msg) from exc


def write_shards(
    files: SampleSource,
    names: Sequence[str],
    address: str,
    *,
    shard_bytes: int,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Pack samples into tar files; the index comes last, so what is broken off does not look whole.

    Args:
        files: where they lie.
        names: in the order of packing.
        address: see ``SampleShards``.
        shard_bytes: size at which a shard is full.
        progress: called with (done, total).

    Raises:
        ConfigError: the address cannot be written.
        DatasetError: a sample cannot be read.
    """
    system, root = _open_system(address)
    index: dict[str, tuple[str, int, int]] = {}
    with _reachable(address):
        system.makedirs(root, exist_ok=True)
        rest = list(names)
        while rest:
            shard = f"shard-{len({place[0] for place in index.values()}):06d}.tar"
            with tempfile.NamedTemporaryFile(suffix=".tar") as aside:
                taken = _fill(files, rest, aside, shard_bytes)
                aside.flush()
                system.put_file(aside.name, f"{root}/{shard}")
            index.update({name: (shard, start, size) for name, start, size in taken})
            rest = rest[len(taken) :]
            if progress is not None:
                progress(len(names) - len(rest), len(names))
        system.pipe_file(f"{root}/{INDEX_FILE}", json.dumps(index).encode())


def _fill(files: SampleSource, names: Sequence[str], target: Any, shard_bytes: int) -> list[tuple[str, int, int]]:
    """Write samples to one tar file until it is full; name, start and size of each."""
    taken = []
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in names:
            content = save(files.read(name))
            member = tarfile.TarInfo(f"{name}{_SUFFIX}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
            # Members are padded to 512 bytes; short names have a header of one such block.
            start = target.tell() - (len(content) + 511) // 512 * 512
            taken.append((name, start, len(content)))
            if target.tell() >= shard_bytes:
                break
    return taken


def _checked(place: Any) -> tuple[str, int, int]:
    shard, start, size = place
    if Path(str(shard)).name != shard or not (isinstance(start, int) and isinstance(size, int)):
        msg = f"it points to {place!r}"
        raise ValueError(msg)
    return shard, start, size


def _open_system(address: str) -> tuple[Any, str]:
    from fsspec.core import url_to_fs

    try:
        system, root = url_to_fs(os.path.expanduser(address))  # noqa: PTH111  (an address is no path)
    except (ImportError, ValueError) as exc:
        msg = f"data.precompute.shards={address} cannot be used: {str(exc).splitlines()[0]}"
        raise ConfigError(msg) from exc
    return system, str(root).rstrip("/")


@contextmanager
def _reachable(address: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        msg = f"data.precompute.shards={address} cannot be reached ({exc}); is the address right, may you write there?"
        raise ConfigError(msg) from exc
