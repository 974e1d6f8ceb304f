"""Degraded clips kept on disk: made once, read many times, with keyframes still chosen and augmented anew.

What is frozen is the crop and its degradation (and one draw of the VAE's posterior, if latents are kept); how many are
kept decides how much of their variety is left. Where the model had motion computed with a clip (lite), the positions of
keyframes are frozen too, as the motion belongs to them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sparkvsr.data.augmentation import turned
from sparkvsr.data.datamodule import prepare_fork, use_one_thread
from sparkvsr.data.datasets import PairedClips
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
    """

    def __init__(self, pairs: PairedClips, folder: Path, num_samples: int, *, seed: int) -> None:
        if num_samples < 1:
            msg = f"data.precompute.num_samples={num_samples} must be at least 1"
            raise DatasetError(msg)
        self._pairs, self._folder, self._num_samples = pairs, folder, num_samples
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
        tensors = self._read(self._file(index, is_image=request.is_image))
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
        sample.name, sample.times = f"{self._folder.name}/{index}", tensors["times"].tolist()
        sample.extras.update(maps)
        if TEACHER_KEY in tensors:
            sample.extras[TEACHER_KEY] = teacher
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
        # Samples of one clip go to one worker, which keeps the clip.
        clips = groupby(todo, key=lambda index: index // self._pairs.samples_per_clip)
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
                self._write(self._file(sample.number, is_image=is_image), tensors)
                done += 1
                if progress is not None:
                    progress(done, len(todo))

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
