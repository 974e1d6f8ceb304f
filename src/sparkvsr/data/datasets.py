"""From a sample's number to the sample: pick a clip, degrade it, choose keyframes, cut samples out of it.

Shapes: F frames, S frames of a take, K keyframes, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from sparkvsr.data.keyframe_images import IsrReferences, ReferenceAugmentation
from sparkvsr.data.keyframe_policies import KeyframePolicy
from sparkvsr.data.raw_clips import RawClip, enlarged, stored
from sparkvsr.data.sampler import clip_index
from sparkvsr.data.samples import SampleRequest, TrainSample
from sparkvsr.data.skips import MAX_SKIPS, SKIP_FILE, SkipReport
from sparkvsr.data.sources import ClipSource, SourceClip
from sparkvsr.degradation.interface import Degradation
from sparkvsr.errors import ConfigError, DatasetError, VideoError

ClipPreparation = Callable[[Tensor, Sequence[int]], dict[str, Tensor]]
"""LR frames ``(S, 3, h, w)`` and keyframes to maps ``(S, C, h, w)`` and values ``(S,)`` that are cut like them."""
KeyframeFilter = Callable[[Sequence[int]], list[int]]
"""Rising keyframe indices to those that the model can take together."""
_NEAR_SHARE = 0.5


@dataclass
class Take:
    """A degraded piece of a clip, from which samples are cut.

    Attributes:
        lr: ``(S, 3, h, w)``.
        hr: ``(S, 3, H, W)``.
        keyframe_indices: within the S frames.
        iframe_indices: within the S frames, None if unknown.
        maps: what the model wants computed with the clip.
        name: for messages.
    """

    lr: Tensor
    hr: Tensor
    keyframe_indices: list[int]
    iframe_indices: list[int] | None
    maps: dict[str, Tensor]
    name: str


class PairedClips(Dataset[TrainSample]):
    """Training pairs, each a function of the run's seed and the sample's number.

    Args:
        clips: moving sources.
        images: still sources, for requests with ``is_image``; None takes single frames of ``clips``.
        degradation: HR to LR.
        policy: which frames are keyframes; stills never have one (docs/method.md 4.3).
        augmentation: of keyframe images; None leaves them as they are.
        isr: keyframes made by an image upscaler for a share of the samples.
        num_frames: F of a clip.
        crop: ``(H, W)`` of the HR crop, multiples of ``scale``.
        scale: H over h.
        span: the keyframe (one at most) lies anywhere within so many frames; a sample then has ``num_frames``
            neighbouring frames and one more, the keyframe's or another neighbour. None keeps keyframes among the
            ``num_frames``.
        samples_per_clip: so many samples with neighbouring numbers are cut from one degraded clip, which saves time
            where reading and degrading are slow.
        crop_tries: places looked at for a crop, of which the busiest is taken.
        crop_step: crops begin at multiples of so many LR pixels; maps may be on a grid that coarse.
        augment: mirror, turn and reverse in time.
        seed: of the run.
        prepare: what the model wants computed with each clip.
        usable: which of the chosen keyframes the model can take; None takes all.
        made_on: ``cpu`` or ``cuda``: leave degradation and augmentation to the training device; samples then carry a
            ``RawClip`` and no pixels. Both have to be able to draw what they do beforehand. None makes whole samples.
        skips: where unusable clips are noted.

    Raises:
        ConfigError: crop, scale and length do not fit each other.
    """

    def __init__(
        self,
        clips: ClipSource,
        images: ClipSource | None,
        degradation: Degradation,
        policy: KeyframePolicy,
        augmentation: ReferenceAugmentation | None = None,
        isr: IsrReferences | None = None,
        *,
        num_frames: int,
        crop: tuple[int, int],
        scale: int = 4,
        span: int | None = None,
        samples_per_clip: int = 1,
        crop_tries: int = 1,
        crop_step: int = 1,
        augment: bool = False,
        seed: int = 42,
        prepare: ClipPreparation | None = None,
        usable: KeyframeFilter | None = None,
        made_on: str | None = None,
        skips: SkipReport | None = None,
    ) -> None:
        if num_frames < 1:
            msg = f"data.num_frames={num_frames} must be at least 1"
            raise ConfigError(msg)
        if any(side % (4 * scale) or side <= 0 for side in crop):
            msg = f"data.crop={list(crop)} must be multiples of {4 * scale} (height, width), for example [320,640]"
            raise ConfigError(msg)
        if span is not None and span <= num_frames:
            msg = f"data.span={span} must be larger than data.num_frames={num_frames}, or null"
            raise ConfigError(msg)
        if samples_per_clip < 1 or crop_tries < 1:
            msg = f"data.samples_per_clip={samples_per_clip} and data.crop_tries={crop_tries} must be at least 1"
            raise ConfigError(msg)
        self._clips, self._images, self._degradation = clips, images, degradation
        self._policy, self._augmentation, self._isr = policy, augmentation, isr
        self._num_frames, self._crop, self._scale = num_frames, (int(crop[0]), int(crop[1])), scale
        self._span, self._per_clip, self._tries, self._step = span, samples_per_clip, crop_tries, crop_step
        self._augment, self._seed, self._prepare, self._usable = augment, seed, prepare, usable
        self.made_on = made_on
        self._skips = skips or SkipReport()
        self._last: tuple[SampleRequest, Take] | None = None

    @property
    def samples_per_clip(self) -> int:
        """How many samples with neighbouring numbers share a clip."""
        return self._per_clip

    @property
    def degradation(self) -> Degradation:
        """HR to LR."""
        return self._degradation

    @property
    def is_augmented(self) -> bool:
        """Whether clips are mirrored and turned."""
        return self._augment

    def __len__(self) -> int:
        """Clips; sample numbers go on beyond."""
        return len(self._clips)

    def __getitem__(self, request: SampleRequest) -> TrainSample:
        """Make the sample.

        Raises:
            DatasetError: too many clips in a row cannot be used.
        """
        wanted = SampleRequest(request.number // self._per_clip, request.is_image)
        rng = np.random.default_rng([self._seed, 3, wanted.number])
        if self.made_on is not None:
            return self._raw(wanted, rng, rng)
        if self._per_clip == 1:
            return self._cut(self._take(wanted, rng, rng), request, rng, rng)
        if self._last is None or self._last[0] != wanted:
            self._last = wanted, self._take(wanted, rng, rng)
        rng = np.random.default_rng([self._seed, 6, request.number])
        return self._cut(self._last[1], request, rng, rng)

    def at(self, place: int, request: SampleRequest) -> TrainSample:
        """A sample whose crop in space and time is that of ``place`` every time, everything else drawn anew.

        Args:
            place: any whole number; the same one cuts out the same ground truth.
            request: decides the degradation, the keyframes and what happens to them.
        """
        rng, where = (np.random.default_rng(seed) for seed in ([self._seed, 3, request.number], [self._seed, 7, place]))
        wanted = SampleRequest(place, request.is_image)
        made = (
            self._raw(wanted, rng, where)
            if self.made_on
            else self._cut(self._take(wanted, rng, where), request, rng, where)
        )
        made.number = request.number
        return made

    def target_at(self, place: int, *, is_image: bool) -> TrainSample:
        """The ground truth of ``at`` alone; LR is empty."""
        where = np.random.default_rng([self._seed, 7, place])
        clip, hr, num_frames = self._outer(SampleRequest(place, is_image), where)
        first = int(where.integers(0, hr.shape[0] - num_frames + 1))
        window = self._place((hr.shape[-2] // self._scale, hr.shape[-1] // self._scale), where)
        rows, columns = enlarged(window, self._scale)
        hr = hr[first : first + num_frames][..., rows, columns].contiguous()
        return TrainSample(hr.new_zeros(0), hr, hr.new_zeros(0, *hr.shape[1:]), [], place, clip.name)

    def _raw(self, request: SampleRequest, rng: np.random.Generator, where: np.random.Generator) -> TrainSample:
        """All that is drawn for a sample, in the order of ``_take`` and ``_cut``, and the pixels to do it to."""
        clip, hr, num_frames = self._outer(request, where)
        degradation: Any = self._degradation
        steps = degradation.draw(len(hr), tuple(hr.shape[-2:]), rng, scale=self._scale, is_image=request.is_image)
        first = int(where.integers(0, hr.shape[0] - num_frames + 1))
        iframes = _within(clip.iframe_indices, first, num_frames)
        indices = self._indices(request, num_frames, iframes, rng)
        times = self._times(request, num_frames, indices, rng)
        rows, columns = self._place((hr.shape[-2] // self._scale, hr.shape[-1] // self._scale), where)
        keep = [times.index(index) for index in indices]
        augmentation: Any = self._augmentation
        changes = augmentation.draw(len(keep), self._crop, rng) if augmentation is not None else []
        raw = RawClip(stored(hr), steps, [first + t for t in times], (rows, columns), self._scale, changes)
        nothing = hr.new_zeros(0)
        known = None if iframes is None else [times.index(i) for i in iframes if i in times]
        return TrainSample(nothing, nothing, nothing, keep, request.number, clip.name, known, times, raw=raw)

    def _outer(self, request: SampleRequest, rng: np.random.Generator) -> tuple[SourceClip, Tensor, int]:
        """A larger and longer clip than needed: the borders of blurs and codecs fall away (docs/method.md 5.1)."""
        num_frames = 1 if request.is_image else self._span or self._num_frames
        margin = self._degradation.margin
        unit = 4 * self._scale
        outer = tuple(math.ceil(side * margin / unit) * unit for side in self._crop)
        extra = 0 if request.is_image else self._degradation.extra_frames
        clip = self._read(request, num_frames + extra, (outer[0], outer[1]), rng)
        return clip, self._turned(clip.frames, rng) if self._augment else clip.frames, num_frames

    def _take(self, request: SampleRequest, rng: np.random.Generator, where: np.random.Generator) -> Take:
        # 1. Pixels.
        clip, hr, num_frames = self._outer(request, where)
        # 2. Degrade, then take the same frames of both.
        lr = self._degradation(hr, rng, scale=self._scale, is_image=request.is_image).clamp(0, 1)
        first = int(where.integers(0, hr.shape[0] - num_frames + 1))
        lr, hr = lr[first : first + num_frames], hr[first : first + num_frames]
        # 3. Keyframes, and what the model wants of the clip.
        iframes = _within(clip.iframe_indices, first, num_frames)
        indices = self._indices(request, num_frames, iframes, rng)
        maps = {} if self._prepare is None else self._prepare(lr, indices)
        return Take(lr, hr, indices, iframes, maps, clip.name)

    def _indices(
        self, request: SampleRequest, num_frames: int, iframes: list[int] | None, rng: np.random.Generator
    ) -> list[int]:
        indices = [] if request.is_image else self.choose(num_frames, iframes, rng)
        if self._span is not None and len(indices) > 1:
            msg = (
                f"data.span={self._span} takes one keyframe per clip, the policy chose {len(indices)}; "
                "use keyframes=any keyframes.policy.max_keyframes=1, or data.span=null"
            )
            raise ConfigError(msg)
        return indices

    def _times(
        self, request: SampleRequest, num_frames: int, keyframe_indices: Sequence[int], rng: np.random.Generator
    ) -> list[int]:
        """Frames of a sample within so many that were taken."""
        if self._span is None or request.is_image:
            return list(range(num_frames))
        return sample_times(num_frames, self._num_frames, keyframe_indices, rng)

    def _cut(
        self, take: Take, request: SampleRequest, rng: np.random.Generator, where: np.random.Generator
    ) -> TrainSample:
        times = self._times(request, take.lr.shape[0], take.keyframe_indices, rng)
        rows, columns = self._window(take.lr[times[0]], where)
        wide_rows, wide_columns = enlarged((rows, columns), self._scale)
        lr = take.lr[times][..., rows, columns].contiguous()
        hr = take.hr[times][..., wide_rows, wide_columns].contiguous()
        keep = [times.index(index) for index in take.keyframe_indices]
        iframes = None if take.iframe_indices is None else [times.index(i) for i in take.iframe_indices if i in times]
        sample = self.with_keyframes(lr, hr, iframes, keep, request, rng)
        sample.name, sample.times = take.name, times
        grid = tuple(side // self._step for side in take.lr.shape[-2:])
        coarse = [slice(side.start // self._step, side.stop // self._step) for side in (rows, columns)]
        for name, values in take.maps.items():
            chosen = values[times]
            if chosen.ndim > 2 and tuple(chosen.shape[-2:]) == grid:
                chosen = chosen[..., coarse[0], coarse[1]]
            sample.extras[name] = chosen.contiguous()
        return sample

    def _window(self, lr: Tensor, rng: np.random.Generator) -> tuple[slice, slice]:
        """Rows and columns of a crop on the LR grid."""
        best: tuple[float, tuple[slice, slice]] | None = None
        for _ in range(self._tries):
            window = self._place(tuple(lr.shape[-2:]), rng)
            busy = float(lr[..., window[0], window[1]].std()) if self._tries > 1 else 0.0
            if best is None or busy > best[0]:
                best = busy, window
        assert best is not None  # at least one try
        return best[1]

    def _place(self, size: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice]:
        sides = self._crop[0] // self._scale, self._crop[1] // self._scale
        top, left = (
            int(rng.integers(0, (full - side) // self._step + 1)) * self._step
            for full, side in zip(size, sides, strict=True)
        )
        return slice(top, top + sides[0]), slice(left, left + sides[1])

    def choose(self, num_frames: int, iframes: list[int] | None, rng: np.random.Generator) -> list[int]:
        """Keyframes of a clip of so many frames: of those that the policy chooses, what the model can take."""
        chosen = self._policy(num_frames, rng, iframes)
        return chosen if self._usable is None else self._usable(chosen)

    def with_keyframes(
        self,
        lr: Tensor,
        hr: Tensor,
        iframes: list[int] | None,
        indices: list[int],
        request: SampleRequest,
        rng: np.random.Generator,
    ) -> TrainSample:
        """Make the images of a pair's keyframes.

        Args:
            lr: ``(F, 3, h, w)``.
            hr: ``(F, 3, H, W)``.
            iframes: intra frames of the file; None if not known.
            indices: its keyframes.
            request: whose sample it is.
            rng: decides.
        """
        keyframes = self._keyframes(lr, hr, indices, rng)
        return TrainSample(lr, hr, keyframes, indices, number=request.number, iframe_indices=iframes)

    def _read(
        self, request: SampleRequest, num_frames: int, size: tuple[int, int], rng: np.random.Generator
    ) -> SourceClip:
        source = self._images if request.is_image and self._images is not None else self._clips
        first = clip_index(self._seed, request.number, len(source))
        reason = ""
        for skip in range(min(MAX_SKIPS, len(source))):
            index = (first + skip) % len(source)
            try:
                clip = source.sample(index, num_frames, size, rng)
                if clip.frames.shape[-2] < self._crop[0] or clip.frames.shape[-1] < self._crop[1]:
                    msg = (
                        f"it is {clip.frames.shape[-1]}x{clip.frames.shape[-2]}, smaller than data.crop "
                        f"{self._crop[1]}x{self._crop[0]}"
                    )
                    raise DatasetError(msg)
            except (DatasetError, VideoError, OSError) as exc:
                reason = str(exc)
                self._skips.add(clip_name(source, index), reason)
            else:
                return clip
        tried, last = min(MAX_SKIPS, len(source)), (first + min(MAX_SKIPS, len(source)) - 1) % len(source)
        msg = (
            f"none of {tried} clips in a row can be used, the last one is {clip_name(source, last)}: {reason}; "
            f"all reasons are in {SKIP_FILE} of the run folder"
        )
        raise DatasetError(msg)

    def _keyframes(self, lr: Tensor, hr: Tensor, indices: list[int], rng: np.random.Generator) -> Tensor:
        if not indices:
            return hr.new_zeros(0, *hr.shape[1:])
        if self._isr is not None and self._isr.ratio > 0 and rng.random() < self._isr.ratio:
            return self._isr.make(lr[indices], (hr.shape[-2], hr.shape[-1]))
        keyframes = hr[indices]
        return keyframes if self._augmentation is None else self._augmentation(keyframes, rng)

    @staticmethod
    def _turned(frames: Tensor, rng: np.random.Generator) -> Tensor:
        if rng.random() < 0.5:
            frames = frames.flip(-1)
        if rng.random() < 0.5:
            frames = frames.flip(-2)
        if rng.random() < 0.5 and frames.shape[-1] == frames.shape[-2]:
            frames = frames.transpose(-1, -2)
        if rng.random() < 0.5:
            frames = frames.flip(0)
        return frames.contiguous()


def _within(iframes: list[int] | None, first: int, num_frames: int) -> list[int] | None:
    """I-frames of a clip as indices of the frames from ``first`` on."""
    return None if iframes is None else [i - first for i in iframes if 0 <= i - first < num_frames]


class ValidationClips(Dataset[TrainSample]):
    """The same few clips every time, degraded the same way, one clean keyframe at frame 0.

    Args:
        pairs: made with the validation source; its keyframe policy is not used.
        count: how many clips.
    """

    def __init__(self, pairs: PairedClips, count: int) -> None:
        self._pairs, self._count = pairs, min(count, len(pairs))

    def __len__(self) -> int:
        """Clips."""
        return self._count

    def __getitem__(self, index: int) -> TrainSample:
        """Clip ``index`` with its first frame as the keyframe."""
        return self._pairs[SampleRequest(index)]


def sample_times(num_frames: int, window: int, keyframe_indices: Sequence[int], rng: np.random.Generator) -> list[int]:
    """Frames of a sample with a far keyframe: a window of neighbours, and the keyframe or one neighbour more.

    Args:
        num_frames: of the take, more than ``window``.
        window: how many neighbours.
        keyframe_indices: one or none.
        rng: decides where; half of the windows lie within a third of the take around the keyframe, as near frames are
            what a keyframe helps most.
    """
    last = num_frames - window
    start = int(rng.integers(0, last + 1))
    if keyframe_indices and rng.random() < _NEAR_SHARE:
        reach = max(1, num_frames // 3)
        start = int(np.clip(keyframe_indices[0] + rng.integers(-reach - window + 1, reach + 1), 0, last))
    times = set(range(start, start + window)) | set(keyframe_indices)
    if len(times) == window:
        times.add(start + window if start < last else start - 1)
    return sorted(times)


def clip_name(source: ClipSource, index: int) -> str:
    """What a source calls a clip, for messages."""
    name = getattr(source, "name", None)
    return str(name(index)) if callable(name) else f"clip {index}"
