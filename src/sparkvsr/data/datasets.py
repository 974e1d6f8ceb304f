"""From a sample's number to the sample: pick a clip, cut it, degrade it, choose and augment keyframes.

Shapes: F frames, K keyframes, h w LR pixels, H W HR pixels.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from sparkvsr.data.keyframe_policies import KeyframePolicy
from sparkvsr.data.references import IsrReferences, ReferenceAugmentation
from sparkvsr.data.sampler import clip_index
from sparkvsr.data.samples import SampleRequest, TrainSample
from sparkvsr.data.sources import ClipSource, SourceClip
from sparkvsr.degradation.interface import Degradation
from sparkvsr.errors import ConfigError, DatasetError, VideoError

logger = logging.getLogger(__name__)

SamplePreparation = Callable[[TrainSample], dict[str, Tensor]]
MAX_SKIPS = 20
SKIP_FILE = "skipped.tsv"


class SkipReport:
    """Clips that could not be used: one line each in a file, so that nothing is skipped in silence.

    Args:
        path: text file, appended to; None only logs.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = None if path is None else Path(path)
        self._seen: set[str] = set()

    def add(self, name: str, reason: str) -> None:
        """Note a clip once."""
        if name in self._seen:
            return
        self._seen.add(name)
        # Each loader process has its own report, the file is theirs together.
        if self._path is not None and name in skipped_clips(self._path):
            return
        logger.warning("skipped %s: %s", name, reason)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{name}\t{reason}\n")


def skipped_clips(path: Path) -> set[str]:
    """Names of the clips in a report; none if there is no such file."""
    if not path.is_file():
        return set()
    return {line.partition("\t")[0] for line in path.read_text(encoding="utf-8").splitlines()}


class PairedClips(Dataset[TrainSample]):
    """Training pairs, each a function of the run's seed and the sample's number.

    Args:
        clips: moving sources.
        images: still sources, for requests with ``is_image``; None takes single frames of ``clips``.
        degradation: HR to LR.
        policy: which frames are keyframes; stills never have one (guide 5.2).
        augmentation: of keyframe images; None leaves them as they are.
        isr: keyframes made by an image upscaler for a share of the samples.
        num_frames: F of a clip.
        crop: ``(H, W)`` of the HR crop, multiples of ``scale``.
        scale: H over h.
        augment: mirror, turn and reverse in time.
        seed: of the run.
        prepare: what the model wants computed with each sample.
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
        augment: bool = False,
        seed: int = 42,
        prepare: SamplePreparation | None = None,
        skips: SkipReport | None = None,
    ) -> None:
        if num_frames < 1:
            msg = f"data.num_frames={num_frames} must be at least 1"
            raise ConfigError(msg)
        if any(side % (4 * scale) or side <= 0 for side in crop):
            msg = f"data.crop={list(crop)} must be multiples of {4 * scale} (height, width), for example [320,640]"
            raise ConfigError(msg)
        self._clips, self._images, self._degradation = clips, images, degradation
        self._policy, self._augmentation, self._isr = policy, augmentation, isr
        self._num_frames, self._crop, self._scale = num_frames, (int(crop[0]), int(crop[1])), scale
        self._augment, self._seed, self._prepare = augment, seed, prepare
        self._skips = skips or SkipReport()

    def __len__(self) -> int:
        """Clips; sample numbers go on beyond."""
        return len(self._clips)

    def __getitem__(self, request: SampleRequest) -> TrainSample:
        """Make the sample.

        Raises:
            DatasetError: too many clips in a row cannot be used.
        """
        rng = np.random.default_rng([self._seed, 3, request.number])
        sample = self.pair(request, rng)
        if self._prepare is not None:
            sample.extras.update(self._prepare(sample))
        return sample

    def pair(self, request: SampleRequest, rng: np.random.Generator) -> TrainSample:
        """The sample without what the model adds to it."""
        num_frames = 1 if request.is_image else self._num_frames
        # 1. A larger and longer piece than needed, so that the borders of blurs and codecs fall away (guide 6.1).
        margin = self._degradation.margin
        unit = 4 * self._scale
        outer = tuple(math.ceil(side * margin / unit) * unit for side in self._crop)
        extra = 0 if request.is_image else self._degradation.extra_frames
        clip = self._read(request, num_frames + extra, (outer[0], outer[1]), rng)
        hr = self._turned(clip.frames, rng) if self._augment else clip.frames
        # 2. Degrade, then cut the same window out of both.
        lr = self._degradation(hr, rng, scale=self._scale, is_image=request.is_image)
        first = int(rng.integers(0, hr.shape[0] - num_frames + 1))
        lr, hr = lr[first : first + num_frames], hr[first : first + num_frames]
        height, width = self._crop[0] // self._scale, self._crop[1] // self._scale
        top = int(rng.integers(0, lr.shape[-2] - height + 1))
        left = int(rng.integers(0, lr.shape[-1] - width + 1))
        lr = lr[..., top : top + height, left : left + width].clamp(0, 1).contiguous()
        top, left = top * self._scale, left * self._scale
        hr = hr[..., top : top + self._crop[0], left : left + self._crop[1]].contiguous()
        # 3. Keyframes.
        iframes = clip.iframe_indices
        if iframes is not None:
            iframes = [index - first for index in iframes if 0 <= index - first < num_frames]
        sample = self.with_keyframes(lr, hr, iframes, request, rng)
        sample.name = clip.name
        return sample

    def with_keyframes(
        self, lr: Tensor, hr: Tensor, iframes: list[int] | None, request: SampleRequest, rng: np.random.Generator
    ) -> TrainSample:
        """Choose keyframes for a pair and make their images.

        Args:
            lr: ``(F, 3, h, w)``.
            hr: ``(F, 3, H, W)``.
            iframes: intra frames of the file; None or ``[-1]`` if not known.
            request: stills get no keyframe (guide 5.2).
            rng: decides.
        """
        known = None if iframes is None or iframes == [-1] else iframes
        indices = [] if request.is_image else self._policy(lr.shape[0], rng, known)
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


def clip_name(source: ClipSource, index: int) -> str:
    """What a source calls a clip, for messages."""
    name = getattr(source, "name", None)
    return str(name(index)) if callable(name) else f"clip {index}"
