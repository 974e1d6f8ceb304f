"""Degraded clips kept on disk: made once, read many times, with keyframes still chosen and augmented anew.

What is frozen is the crop and its degradation (and one draw of the VAE's posterior, if latents are kept); how many are
kept decides how much of their variety is left. Where the model had motion computed with a clip (lite), the positions of
keyframes are frozen too, as the motion belongs to them.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparkvsr.data.augmentation import turned
from sparkvsr.data.datamodule import prepare_fork, use_one_thread
from sparkvsr.data.datasets import PairedClips
from sparkvsr.data.raw_clips import as_float, stored
from sparkvsr.data.sample_files import SampleFiles, SampleShards, SampleSource
from sparkvsr.data.sampler import clip_index
from sparkvsr.data.samples import SampleRequest, TrainSample
from sparkvsr.errors import DatasetError

LatentEncoder = Callable[[TrainSample], dict[str, Tensor]]
LATENT_KEYS = ("lr_latents", "hr_latents")
TEACHER_KEY = "teacher"
"""``(F, 3, H, W)`` of a larger upscaler, kept as 8 bit and turned with the sample."""
_MAP = "map."


class PrecomputedPairs(Dataset[TrainSample]):
    """Training pairs read from disk.

    Args:
        pairs: makes them; also chooses and augments keyframes.
        folder: where they are kept.
        num_samples: how many clips, and how many stills if there are any.
        seed: of the run; decides their order.
        shards: where they are read from where it has them.
    """

    def __init__(
        self, pairs: PairedClips, folder: Path, num_samples: int, *, seed: int, shards: SampleShards | None = None
    ) -> None:
        if num_samples < 1:
            msg = f"data.precompute.num_samples={num_samples} must be at least 1"
            raise DatasetError(msg)
        self._pairs, self._files, self._num_samples = pairs, SampleFiles(folder), num_samples
        self._shards = shards
        self._seed = seed

    def __len__(self) -> int:
        """Kept clips."""
        return self._num_samples

    def __getitem__(self, request: SampleRequest) -> TrainSample:
        """Read a pair and give it keyframes.

        Raises:
            DatasetError: its file is missing or damaged.
        """
        index = clip_index(self._seed, request.number, self._num_samples)
        tensors = self.source.read(self.name(index, is_image=request.is_image))
        rng = np.random.default_rng([self._seed, 4, request.number])
        lr, hr = _to_float(tensors["lr"]), _to_float(tensors["hr"])
        known = tensors["iframes"].tolist()
        iframes = None if known == [-1] else known
        maps = {key.removeprefix(_MAP): value.float() for key, value in tensors.items() if key.startswith(_MAP)}
        if request.is_image:
            indices = []
        elif maps:
            indices = tensors["keyframe_indices"].tolist()
        else:
            indices = self._pairs.choose(lr.shape[0], iframes, rng)
        if TEACHER_KEY in tensors:
            hr = torch.cat([hr, _to_float(tensors[TEACHER_KEY])])
        # Again and differently each time; latents cannot be turned, so there the kept clip stays as it is.
        if self._pairs.is_augmented and not any(key in tensors for key in LATENT_KEYS):
            lr, hr, maps = turned(lr, hr, maps, rng)
        hr, teacher = hr[: lr.shape[0]], hr[lr.shape[0] :]
        sample = self._pairs.with_keyframes(lr, hr, iframes, indices, request, rng)
        sample.name, sample.times = f"{self._files.folder.name}/{index}", tensors["times"].tolist()
        sample.extras.update(maps)
        if TEACHER_KEY in tensors:
            sample.extras[TEACHER_KEY] = teacher
        sample.extras.update({key: tensors[key].float() for key in LATENT_KEYS if key in tensors})
        return sample

    def missing(self, *, is_image: bool) -> list[int]:
        """Samples that are neither on disk nor in the shards yet."""
        source = self.source
        return [i for i in range(self._num_samples) if not source.has(self.name(i, is_image=is_image))]

    @property
    def source(self) -> SampleSource:
        """Where they are read: in the shards what those have, else on disk."""
        return self._files if self._shards is None else _FirstOf(self._shards, self._files)

    @property
    def files(self) -> SampleFiles:
        """Where they are written."""
        return self._files

    def make(
        self,
        *,
        is_image: bool,
        num_workers: int = 0,
        encode: LatentEncoder | None = None,
        progress: Callable[[int, int], None] | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        """Make what is missing.

        Args:
            is_image: stills instead of clips.
            num_workers: loader processes.
            encode: gives latents to keep beside the pixels.
            progress: called with (done, total).
            share: which part of the samples, of how many; those of one clip stay together.
        """
        per_clip = self._pairs.samples_per_clip
        todo = [i for i in self.missing(is_image=is_image) if i // per_clip % share[1] == share[0]]
        # Samples of one clip go to one worker, which keeps the clip.
        clips = groupby(todo, key=lambda index: index // per_clip)
        requests = [[SampleRequest(index, is_image) for index in members] for _, members in clips]
        prepare_fork(num_workers)
        loader = DataLoader(
            self._pairs,
            batch_sampler=requests,
            collate_fn=list,
            num_workers=num_workers,
            worker_init_fn=use_one_thread,
        )
        done = 0
        for samples in loader:
            for sample in samples:
                tensors = {
                    "lr": _to_stored(sample.lr),
                    "hr": _to_stored(sample.hr),
                    "iframes": torch.tensor(sample.iframe_indices if sample.iframe_indices is not None else [-1]),
                    "keyframe_indices": torch.tensor(sample.keyframe_indices, dtype=torch.int64),
                    "times": torch.tensor(sample.times or list(range(sample.lr.shape[0]))),
                }
                tensors.update({_MAP + key: value.half() for key, value in sample.extras.items()})
                if encode is not None:
                    for key, value in encode(sample).items():
                        tensors[key] = _to_stored(value) if key == TEACHER_KEY else value.half().cpu().contiguous()
                self._files.write(self.name(sample.number, is_image=is_image), tensors)
                done += 1
                if progress is not None:
                    progress(done, len(todo))

    @staticmethod
    def name(index: int, *, is_image: bool) -> str:
        """What a sample is called on disk."""
        return f"{'still' if is_image else 'clip'}-{index:06d}"


class _FirstOf:
    def __init__(self, *sources: SampleSource) -> None:
        self._sources = sources

    def has(self, name: str) -> bool:
        return any(source.has(name) for source in self._sources)

    def read(self, name: str) -> dict[str, Tensor]:
        return next((one for one in self._sources if one.has(name)), self._sources[-1]).read(name)


def _to_stored(frames: Tensor) -> Tensor:
    """8-bit where nothing is lost by it, else half precision."""
    kept = stored(frames)
    return kept if kept.dtype == torch.uint8 else kept.half()


def _to_float(kept: Tensor) -> Tensor:
    return as_float(kept).float()
