"""Degraded clips kept on disk: made once, read many times, with keyframes still chosen and augmented anew.

What is frozen is the crop and its degradation (and one draw of the VAE's posterior, if latents are kept); how many are
kept decides how much of their variety is left.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparkvsr.data.datamodule import use_one_thread
from sparkvsr.data.datasets import PairedClips, SamplePreparation
from sparkvsr.data.sampler import clip_index
from sparkvsr.data.samples import SampleRequest, TrainSample
from sparkvsr.errors import DatasetError

LatentEncoder = Callable[[TrainSample], dict[str, Tensor]]
LATENT_KEYS = ("lr_latents", "hr_latents")


class PrecomputedPairs(Dataset[TrainSample]):
    """Training pairs read from disk.

    Args:
        pairs: makes them; also chooses and augments keyframes.
        folder: where they are kept.
        num_samples: how many clips, and how many stills if there are any.
        seed: of the run; decides their order.
        prepare: what the model wants computed with each sample.
    """

    def __init__(
        self,
        pairs: PairedClips,
        folder: Path,
        num_samples: int,
        *,
        seed: int,
        prepare: SamplePreparation | None = None,
    ) -> None:
        if num_samples < 1:
            msg = f"data.precompute.num_samples={num_samples} must be at least 1"
            raise DatasetError(msg)
        self._pairs, self._folder, self._num_samples = pairs, folder, num_samples
        self._seed, self._prepare = seed, prepare

    def __len__(self) -> int:
        """Kept clips."""
        return self._num_samples

    def __getitem__(self, request: SampleRequest) -> TrainSample:
        """Read a pair and give it keyframes.

        Raises:
            DatasetError: its file is missing or damaged.
        """
        index = clip_index(self._seed, request.number, self._num_samples)
        tensors = self._read(self._file(index, is_image=request.is_image))
        rng = np.random.default_rng([self._seed, 4, request.number])
        sample = self._pairs.with_keyframes(
            _to_float(tensors["lr"]), _to_float(tensors["hr"]), tensors["iframes"].tolist(), request, rng
        )
        sample.name = f"{self._folder.name}/{index}"
        if self._prepare is not None:
            sample.extras.update(self._prepare(sample))
        sample.extras.update({key: tensors[key].float() for key in LATENT_KEYS if key in tensors})
        return sample

    def missing(self, *, is_image: bool) -> list[int]:
        """Samples that are not on disk yet."""
        return [i for i in range(self._num_samples) if not self._file(i, is_image=is_image).is_file()]

    def make(
        self,
        *,
        is_image: bool,
        num_workers: int = 0,
        encode: LatentEncoder | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """Make what is missing.

        Args:
            is_image: stills instead of clips.
            num_workers: loader processes.
            encode: gives latents to keep beside the pixels.
            progress: called with (done, total).
        """
        todo = self.missing(is_image=is_image)
        self._folder.mkdir(parents=True, exist_ok=True)
        requests = [[SampleRequest(index, is_image)] for index in todo]
        loader = DataLoader(
            self._pairs,
            batch_sampler=requests,
            collate_fn=_only,
            num_workers=num_workers,
            worker_init_fn=use_one_thread,
        )
        for done, sample in enumerate(loader):
            tensors = {
                "lr": _to_stored(sample.lr),
                "hr": _to_stored(sample.hr),
                "iframes": torch.tensor(sample.iframe_indices if sample.iframe_indices is not None else [-1]),
            }
            if encode is not None:
                tensors.update({key: value.half().cpu().contiguous() for key, value in encode(sample).items()})
            self._write(self._file(todo[done], is_image=is_image), tensors)
            if progress is not None:
                progress(done + 1, len(todo))

    def _file(self, index: int, *, is_image: bool) -> Path:
        return self._folder / f"{'still' if is_image else 'clip'}-{index:06d}.safetensors"

    @staticmethod
    def _read(file: Path) -> dict[str, Tensor]:
        try:
            return load_file(file)
        except (OSError, SafetensorError) as exc:
            msg = f"precomputed sample {file} cannot be read ({exc}); delete it, the next run makes it again"
            raise DatasetError(msg) from exc

    @staticmethod
    def _write(file: Path, tensors: dict[str, Tensor]) -> None:
        handle, aside = tempfile.mkstemp(dir=file.parent, suffix=".part")
        os.close(handle)
        save_file({key: value.contiguous() for key, value in tensors.items()}, aside)
        Path(aside).replace(file)


def _to_stored(frames: Tensor) -> Tensor:
    """8-bit where nothing is lost by it, else half precision."""
    levels = frames.mul(255)
    whole = levels.round()
    return whole.to(torch.uint8) if bool((levels - whole).abs().max() < 1e-3) else frames.half()


def _to_float(stored: Tensor) -> Tensor:
    return stored.float().div(255) if stored.dtype == torch.uint8 else stored.float()


def _only(samples: list[TrainSample]) -> TrainSample:
    return samples[0]
