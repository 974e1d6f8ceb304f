"""Checkpoints of a model that is shared out, written in shards while the training goes on.

Every process copies its part to main memory, which takes seconds, and a thread writes it. A folder gets its final name
when all parts and the list of them are written: what is broken off lies under ``NAME.part`` and is taken for nothing.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparkvsr.training.sharded_files import METADATA_FILE

CHECKPOINT_KEY = "sparkvsr"
"""Where a checkpoint keeps what is this package's own."""
AVERAGE = "ema"
META_FILE = "meta.pt"
"""Lightning's name for what is not shared out."""


class ShardWriter:
    """Writes one checkpoint at a time."""

    def __init__(self) -> None:
        self._group: Any = None
        self._pending: tuple[Future[Any], Path, bool] | None = None

    def write(self, shards: dict[str, Any], rest: Mapping[str, Any], path: Path, *, is_first: bool) -> None:
        """Begin to write; returns when this process's part is copied. Every process has to call it.

        Args:
            shards: what is shared out, nested.
            rest: plain values, written by the first process.
            path: final name of the folder.
            is_first: whether this is the first process.
        """
        import torch.distributed as dist
        from torch.distributed.checkpoint import FileSystemWriter, async_save

        self.finish()
        aside = path.with_name(f"{path.name}.part")
        if is_first:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            torch.save(dict(rest), aside / META_FILE)
        if self._group is None:
            # Of its own: the training talks over the other one meanwhile.
            self._group = dist.new_group(backend="gloo")
        dist.barrier(group=self._group)
        written: Any = async_save(shards, storage_writer=FileSystemWriter(aside), process_group=self._group)
        self._pending = (getattr(written, "upload_completion", written), path, is_first)
        if is_first:
            self._pending[0].add_done_callback(lambda done: None if done.exception() else _publish(aside, path))

    def finish(self) -> None:
        """Wait for what is being written.

        Raises:
            Exception: whatever ended the writing, a full disk for example.
        """
        if self._pending is None:
            return
        written, path, is_first = self._pending
        self._pending = None
        written.result()
        # The name is given in the writer's thread, a moment after the result.
        if is_first:
            _publish(path.with_name(f"{path.name}.part"), path)
        if self._group is not None:
            import torch.distributed as dist

            dist.barrier(group=self._group)

    def has_whole_beside(self, path: Path) -> bool:
        """Whether another whole checkpoint lies beside one that is to be removed."""
        others = (one for one in path.parent.glob("step-*.ckpt") if one.name != path.name)
        return any((one / METADATA_FILE).is_file() for one in others)


def take_average(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """The moving average out of a checkpoint, where it is in shards, as a part of what is shared out."""
    own = checkpoint.get(CHECKPOINT_KEY, {})
    return {AVERAGE: own.pop(AVERAGE)} if own.get(AVERAGE) else {}


def put_average(checkpoint: dict[str, Any], average: dict[str, Tensor]) -> None:
    """The inverse of ``take_average``."""
    if average:
        checkpoint.setdefault(CHECKPOINT_KEY, {})[AVERAGE] = average


def load_average(folder: Path, network: nn.Module) -> dict[str, Tensor]:
    """This process's shards of the moving average, beside those of the network; empty if the checkpoint has none."""
    from torch.distributed.checkpoint import load

    from sparkvsr.training.sharded_files import read_metadata

    kept = read_metadata(folder).state_dict_metadata
    names = [name for name, p in network.named_parameters() if p.requires_grad and f"{AVERAGE}.{name}" in kept]
    parameters = dict(network.named_parameters())
    average: dict[str, Any] = {name: torch.zeros_like(parameters[name].detach()) for name in names}
    if average:
        load({AVERAGE: average}, checkpoint_id=folder)
    return average


def _publish(aside: Path, path: Path) -> None:
    """Give a whole folder its name; done twice, the second time does nothing."""
    try:
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists() and aside.exists():
            shutil.rmtree(path)
        aside.rename(path)
    except FileNotFoundError:
        if not path.exists():
            raise
