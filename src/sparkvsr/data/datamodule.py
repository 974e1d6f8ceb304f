"""Data loaders of a run, for Lightning."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from sparkvsr.data.datasets import PairedClips, ValidationClips
from sparkvsr.data.sampler import StepSampler
from sparkvsr.data.samples import TrainBatch, collate


class ClipDataModule(LightningDataModule):
    """Training and validation clips.

    Args:
        pairs: training pairs.
        validation: fixed clips, or None.
        batch_size: samples of a micro-batch on one process.
        image_ratio: share of micro-batches made of stills.
        num_workers: loader processes; 0 makes samples in the training process.
        seed: of the run.
    """

    def __init__(
        self,
        pairs: PairedClips,
        validation: ValidationClips | None,
        *,
        batch_size: int,
        image_ratio: float = 0.0,
        num_workers: int = 0,
        seed: int = 42,
    ) -> None:
        super().__init__()
        self._pairs, self._validation = pairs, validation
        self._batch_size, self._image_ratio = batch_size, image_ratio
        self._num_workers, self._seed = num_workers, seed

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches from the step the trainer stands at, which is 0 or that of the checkpoint."""
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
        return self._loader(self._pairs, batch_sampler=sampler)

    def val_dataloader(self) -> DataLoader[Any] | list[Any]:
        """Every process measures all clips: they are few, and an uneven split would stall the others."""
        if self._validation is None or not len(self._validation):
            return []
        return self._loader(self._validation, batch_size=1, shuffle=False)

    def _loader(self, dataset: Any, **how: Any) -> DataLoader[Any]:
        workers = self._num_workers
        return DataLoader(
            dataset,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            pin_memory=self.trainer is not None and self.trainer.strategy.root_device.type == "cuda",
            **how,
        )

    def transfer_batch_to_device(self, batch: TrainBatch, device: Any, dataloader_idx: int) -> TrainBatch:
        """Move the tensors of a batch."""
        del dataloader_idx
        return batch.to(device, non_blocking=True)
