"""What a data set hands over and what the training step gets.

Shapes: B batch, F frames, K keyframes, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from sparkvsr.data.raw_clips import RawClip


@dataclass(frozen=True)
class SampleRequest:
    """One sample, named by its number in the run: the same number gives the same sample, whoever makes it.

    Attributes:
        number: 0-based count of samples over the whole run and all processes.
        is_image: a still of the image source instead of a clip.
    """

    number: int
    is_image: bool = False


@dataclass
class TrainSample:
    """One clip.

    Attributes:
        lr: ``(F, 3, h, w)`` float32 in [0, 1].
        hr: ``(F, 3, H, W)`` float32 in [0, 1].
        keyframes: ``(K, 3, H, W)`` float32 in [0, 1], augmented.
        keyframe_indices: K frame indices, strictly increasing.
        number: of the request; seeds what the model draws for this sample.
        name: where it comes from.
        iframe_indices: intra frames of the file within the clip, None if unknown.
        times: when each frame is, in frames; None for neighbours. A keyframe from far away leaves a gap.
        extras: what the model asked to be computed with the sample (motion, latents).
        raw: what the training device makes ``lr``, ``hr`` and ``keyframes`` of, which are empty then.
    """

    lr: Tensor
    hr: Tensor
    keyframes: Tensor
    keyframe_indices: list[int]
    number: int = 0
    name: str = ""
    iframe_indices: list[int] | None = None
    times: list[int] | None = None
    extras: dict[str, Tensor] = field(default_factory=dict)
    raw: RawClip | None = None


@dataclass
class TrainBatch:
    """Samples of one kind (all clips or all stills) and one size.

    Attributes:
        lr: ``(B, F, 3, h, w)`` float32 in [0, 1].
        hr: ``(B, F, 3, H, W)`` float32 in [0, 1].
        keyframes: ``(B, K, 3, H, W)``, padded with zeros to the most keyframes of a sample.
        keyframe_indices: ``(B, K)`` int64, -1 where padded.
        numbers: ``(B,)`` int64.
        times: ``(B, F)`` int64, when each frame is.
        names: B names.
        extras: stacked over the samples.
    """

    lr: Tensor
    hr: Tensor
    keyframes: Tensor
    keyframe_indices: Tensor
    numbers: Tensor
    times: Tensor
    names: list[str]
    extras: dict[str, Tensor] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Samples in the batch."""
        return self.lr.shape[0]

    def to(self, device: torch.device | str, non_blocking: bool = False) -> TrainBatch:
        """Move every tensor."""
        moved = {
            item.name: getattr(self, item.name).to(device, non_blocking=non_blocking)
            for item in fields(self)
            if isinstance(getattr(self, item.name), Tensor)
        }
        extras = {key: value.to(device, non_blocking=non_blocking) for key, value in self.extras.items()}
        return replace(self, **moved, extras=extras)

    def pin_memory(self) -> TrainBatch:
        """Page-locked copies, for the data loader."""
        pinned = {
            item.name: getattr(self, item.name).pin_memory()
            for item in fields(self)
            if isinstance(getattr(self, item.name), Tensor)
        }
        return replace(self, **pinned, extras={key: value.pin_memory() for key, value in self.extras.items()})


def collate(samples: Sequence[TrainSample]) -> TrainBatch:
    """Stack samples; keyframes are padded to the largest count.

    Raises:
        ValueError: the samples differ in size, length or extras.
    """
    shapes = {(tuple(sample.lr.shape), tuple(sample.hr.shape), tuple(sorted(sample.extras))) for sample in samples}
    if len(shapes) != 1:
        msg = f"samples of one batch must have one size and length, got {sorted(shapes)}"
        raise ValueError(msg)
    most = max(len(sample.keyframe_indices) for sample in samples)
    height, width = samples[0].hr.shape[-2:]
    keyframes = samples[0].hr.new_zeros(len(samples), most, 3, height, width)
    indices = torch.full((len(samples), most), -1, dtype=torch.int64)
    for row, sample in enumerate(samples):
        count = len(sample.keyframe_indices)
        keyframes[row, :count] = sample.keyframes
        indices[row, :count] = torch.tensor(sample.keyframe_indices, dtype=torch.int64)
    return TrainBatch(
        lr=torch.stack([sample.lr for sample in samples]),
        hr=torch.stack([sample.hr for sample in samples]),
        keyframes=keyframes,
        keyframe_indices=indices,
        numbers=torch.tensor([sample.number for sample in samples], dtype=torch.int64),
        times=torch.tensor([sample.times or list(range(sample.lr.shape[0])) for sample in samples], dtype=torch.int64),
        names=[sample.name for sample in samples],
        extras={key: torch.stack([sample.extras[key] for sample in samples]) for key in samples[0].extras},
    )
