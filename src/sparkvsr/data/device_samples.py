"""The rest of a sample's making on the training device: degradation, crop, keyframes, some batches ahead of the step.

The loader's processes read and crop; the device blurs, resizes, adds noise and compresses to JPEG; video codecs run on
the CPU between the device's steps, in threads of the training process (FFmpeg works without the interpreter's lock).
Every sample has its own seeds, so what comes out does not depend on which thread is first.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from kornia.enhance import (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)
from kornia.filters import gaussian_blur2d
from torch import Tensor

from sparkvsr.data.keyframe_images import ReferenceChange, wrong_reference
from sparkvsr.data.raw_clips import as_float, enlarged
from sparkvsr.data.samples import TrainBatch, TrainSample, collate
from sparkvsr.degradation.on_device import run_steps_on_device

_ADJUST: tuple[Any, ...] = (
    adjust_brightness_accumulative,
    adjust_contrast_with_mean_subtraction,
    adjust_saturation_with_gray_subtraction,
)


@dataclass
class RawBatch:
    """Samples that still have to be made.

    Attributes:
        samples: with ``raw``.
    """

    samples: list[TrainSample]

    def pin_memory(self) -> RawBatch:
        """Page-locked copies, for the data loader."""
        return RawBatch([replace(one, raw=None if one.raw is None else one.raw.pinned()) for one in self.samples])


class SamplesAhead:
    """A data loader whose batches are finished on a device while the step before them runs.

    Args:
        loader: gives ``RawBatch``.
        device: where samples are made and left.
        ahead: how many batches are in work beyond the one that is asked for.
        threads: samples in work at once; codecs use a core each.
    """

    def __init__(self, loader: Any, device: torch.device, *, ahead: int = 2, threads: int = 4) -> None:
        self._loader, self._device, self._ahead, self._threads = loader, device, ahead, threads

    def __len__(self) -> int:
        """Batches."""
        return len(cast(Sized, self._loader))

    def __iter__(self) -> Iterator[TrainBatch]:
        """The batches, in order."""
        waiting: deque[list[Future[TrainSample]]] = deque()
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="sample")
        try:
            for batch in self._loader:
                waiting.append([pool.submit(finish_sample, sample, self._device) for sample in batch.samples])
                if len(waiting) > self._ahead:
                    yield self._collated(waiting.popleft())
            while waiting:
                yield self._collated(waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)

    def _collated(self, samples: Sequence[Future[TrainSample]]) -> TrainBatch:
        return collate([sample.result() for sample in samples]).to(self._device)


def finish_sample(sample: TrainSample, device: torch.device) -> TrainSample:
    """Make a sample's pixels.

    Args:
        sample: with ``raw``.
        device: where to.

    Returns:
        The same as a loader process would have made, but for the noise, on the device.
    """
    assert sample.raw is not None  # that is what it is for
    if device.type != "cuda":
        with torch.no_grad():
            return _finished(sample, device)
    # On a stream of its own: the step that runs meanwhile is not waited for.
    stream = torch.cuda.Stream(device)
    with torch.no_grad(), torch.cuda.device(device), torch.cuda.stream(stream):
        finished = _finished(sample, device)
        stream.synchronize()
    for tensor in (finished.lr, finished.hr, finished.keyframes):
        tensor.record_stream(torch.cuda.default_stream(device))
    return finished


def _finished(sample: TrainSample, device: torch.device) -> TrainSample:
    raw: Any = sample.raw
    clip = as_float(raw.frames.to(device, non_blocking=True))
    rows, columns = raw.window
    wide = enlarged(raw.window, raw.scale)
    lr = run_steps_on_device(clip, raw.steps).clamp(0, 1)[raw.times][..., rows, columns].contiguous()
    hr = clip[raw.times][..., wide[0], wide[1]].contiguous()
    keyframes = hr[sample.keyframe_indices] if sample.keyframe_indices else hr.new_zeros(0, *hr.shape[1:])
    if raw.changes:
        keyframes = augment_references(keyframes, raw.changes)
    return replace(sample, lr=lr, hr=hr, keyframes=keyframes, raw=None)


def augment_references(images: Tensor, changes: Sequence[ReferenceChange]) -> Tensor:
    """``augment_reference`` for all images of a sample at once, where they lie.

    Args:
        images: ``(K, 3, H, W)`` float32 in [0, 1]; not changed.
        changes: K.

    Returns:
        ``(K, 3, H, W)`` float32.
    """
    result = images.clone()
    for place in range(len(_ADJUST)):
        for kind, adjust in enumerate(_ADJUST):
            chosen = [k for k, one in enumerate(changes) if len(one.order) > place and one.order[place] == kind]
            if chosen:
                factors = result.new_tensor([(changes[k].factors or ())[kind] for k in chosen])
                result[chosen] = adjust(result[chosen], factors)
    blurred = [k for k, one in enumerate(changes) if one.blur]
    if blurred:
        sigmas = result.new_tensor([[changes[k].blur] * 2 for k in blurred])
        result[blurred] = gaussian_blur2d(result[blurred], (3, 3), sigmas)
    result.clamp_(0, 1)
    for k, one in enumerate(changes):
        if one.wrong or one.noise:
            generator = torch.Generator(images.device).manual_seed(one.seed)
            shape: dict[str, Any] = {"size": images.shape[1:], "device": images.device, "generator": generator}
            if one.wrong:
                result[k] = wrong_reference(images[k], one, torch.rand(**shape))
            else:
                result[k] += torch.randn(**shape) * one.noise
    return result
