"""Which samples make a batch. Everything follows from the step, so a run can go on anywhere and be cut any way.

Sample numbers count over the run: step s takes ``s * total`` to ``(s + 1) * total - 1``, with ``total`` = batch size x
processes x accumulation. One process with batch 2B thus sees what two processes with batch B see together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from sparkvsr.data.samples import SampleRequest
from sparkvsr.errors import ConfigError


class StepSampler(Sampler[list[SampleRequest]]):
    """Batches of sample requests for one process, from the step a run starts or goes on at.

    Args:
        batch_size: samples of a micro-batch on this process.
        max_steps: optimiser steps of the whole run.
        accumulate: micro-batches per step.
        rank: this process.
        world_size: processes.
        image_ratio: probability that a micro-batch holds stills; all processes draw the same (docs/method.md 4.6).
        seed: of the run.
        start_step: first step to give; the length stays that of the whole run, as Lightning counts on.

    Raises:
        ConfigError: a count is below 1 or the ratio outside 0 to 1.
    """

    def __init__(
        self,
        batch_size: int,
        max_steps: int,
        accumulate: int = 1,
        rank: int = 0,
        world_size: int = 1,
        image_ratio: float = 0.0,
        seed: int = 42,
        start_step: int = 0,
    ) -> None:
        if batch_size < 1 or accumulate < 1:
            msg = f"data.batch_size={batch_size} and trainer.accumulate_grad_batches={accumulate} must be at least 1"
            raise ConfigError(msg)
        if not 0 <= image_ratio <= 1:
            msg = f"data.image_ratio={image_ratio} must lie between 0 and 1"
            raise ConfigError(msg)
        self._batch_size, self._max_steps, self._accumulate = batch_size, max_steps, accumulate
        self._rank, self._world_size = rank, world_size
        self._image_ratio, self._seed, self._start_step = image_ratio, seed, start_step

    @property
    def batch_size(self) -> int:
        """Samples of a micro-batch on this process; DeepSpeed asks for it."""
        return self._batch_size

    def __len__(self) -> int:
        """Micro-batches of the whole run on this process."""
        return self._max_steps * self._accumulate

    def __iter__(self) -> Iterator[list[SampleRequest]]:
        """Micro-batches from ``start_step`` on."""
        for micro in range(self._start_step * self._accumulate, len(self)):
            is_image = is_image_batch(self._seed, micro, self._image_ratio)
            first = (micro * self._world_size + self._rank) * self._batch_size
            yield [SampleRequest(first + item, is_image) for item in range(self._batch_size)]


def is_image_batch(seed: int, micro_batch: int, image_ratio: float) -> bool:
    """Whether a micro-batch holds stills: one draw per micro-batch of the run, the same on every process."""
    return bool(np.random.default_rng([seed, 1, micro_batch]).random() < image_ratio)


def clip_index(seed: int, number: int, num_clips: int) -> int:
    """Clip of a sample: every clip once per pass, each pass in another order."""
    order = np.random.default_rng([seed, 2, number // num_clips]).permutation(num_clips)
    return int(order[number % num_clips])
