"""Data loaders of a run, for Lightning."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import cv2
import torch
from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sparkvsr.data.datasets import PairedClips, ValidationClips
from sparkvsr.data.paired_validation import PairedValidation
from sparkvsr.data.sampler import StepSampler
from sparkvsr.data.samples import TrainBatch, collate
from sparkvsr.errors import ConfigError

if TYPE_CHECKING:
    from sparkvsr.data.device_samples import SamplesAhead


class ClipDataModule(LightningDataModule):
    """Training and validation clips.

    Args:
        pairs: training pairs.
        validation: fixed clips, or None.
        batch_size: samples of a micro-batch on one process.
        image_ratio: share of micro-batches made of stills.
        num_workers: loader processes; 0 makes samples in the training process.
        prefetch: batches that each loader process holds ready.
        seed: of the run.
    """

    def __init__(
        self,
        pairs: PairedClips,
        validation: ValidationClips | PairedValidation | None,
        *,
        batch_size: int,
        image_ratio: float = 0.0,
        num_workers: int = 0,
        prefetch: int = 2,
        seed: int = 42,
    ) -> None:
        for name, value, least in (("num_workers", num_workers, 0), ("prefetch", prefetch, 1)):
            if value < least:
                msg = f"data.{name}={value} must be at least {least}"
                raise ConfigError(msg)
        super().__init__()
        self._pairs, self._validation = pairs, validation
        self._batch_size, self._image_ratio = batch_size, image_ratio
        self._num_workers, self._prefetch, self._seed = num_workers, prefetch, seed

    def train_dataloader(self) -> DataLoader[Any] | SamplesAhead:
        """Batches from the step the trainer stands at, which is 0 or that of the checkpoint.

        Raises:
            ConfigError: samples are to be finished on a device that the trainer does not compute on.
        """
        trainer = self.trainer
        assert trainer is not None  # set by Lightning before it asks for loaders
        sampler = StepSampler(
            self._batch_size,
            max_steps=trainer.max_steps,
            accumulate=trainer.accumulate_grad_batches,
            rank=trainer.global_rank,
            world_size=trainer.world_size,
            image_ratio=self._image_ratio,
            seed=self._seed,
            start_step=trainer.global_step,
        )
        made_on = getattr(self._pairs, "made_on", None)
        if made_on is None:
            return self._loader(self._pairs, batch_sampler=sampler)
        device = trainer.strategy.root_device
        if device.type != made_on:
            msg = f"degradation.device={made_on}: the trainer computes on {device.type}; use auto or loader"
            raise ConfigError(msg)
        from sparkvsr.data.device_samples import RawBatch, SamplesAhead  # kornia is imported where it is used

        # Codecs take a core each; the loader's processes have theirs.
        return SamplesAhead(self._loader(self._pairs, collate_fn=RawBatch, batch_sampler=sampler), device)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Every process measures all clips: they are few, and an uneven split would stall the others."""
        if self._validation is None or not len(self._validation):
            return []
        return self._loader(self._validation, batch_size=1, shuffle=False)

    def _loader(self, dataset: Any, **how: Any) -> DataLoader[Any]:
        workers = self._num_workers
        prepare_fork(workers)
        return DataLoader(
            dataset,
            **{"collate_fn": collate, **how},
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=self._prefetch if workers else None,
            worker_init_fn=use_one_thread,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
        )

    def transfer_batch_to_device(self, batch: TrainBatch, device: Any, dataloader_idx: int) -> TrainBatch:
        """Move the tensors of a batch."""
        del dataloader_idx
        return batch.to(device, non_blocking=True)


def prepare_fork(num_workers: int) -> None:
    """To be called before loader processes are forked: ends OpenCV's threads in this process.

    A forked process that inherits a pool of threads, which do not exist there, hangs as soon as OpenCV wants to use or
    to end them.
    """
    if num_workers:
        cv2.setNumThreads(1)


def use_one_thread(worker: int) -> None:
    """For a loader process: its work is cut by samples, more threads would only take turns on the same cores."""
    del worker
    torch.set_num_threads(1)


@contextmanager
def shared_cores(num_workers: int) -> Iterator[int]:
    """Leave the loader processes a core each while a CPU trains; gives the number of threads that are left.

    Without it both sides ask for all cores and wait for each other. ``OMP_NUM_THREADS`` is a wish of the user's and is
    left alone, so is everything where the samples are made in the training process.
    """
    before = torch.get_num_threads()
    if num_workers and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, min(before, _cores() - num_workers)))
    try:
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(before)


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
