"""How each metric of the catalogue that looks at a whole clip is computed, by name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sparkvsr.errors import MetricError
from sparkvsr.metrics.clip_score import ClipScore
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.frame_pair import FramePair
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.metrics.vmaf import VmafMeter

if TYPE_CHECKING:
    from sparkvsr.metrics.video_quality import VideoMeter

_CVVDP_MEMORY_LIMIT = 3_000_000_000


@dataclass(frozen=True)
class ClipFacts:
    """What is known of a clip before its first frame.

    Attributes:
        fps: frames per second.
        num_frames: None where nobody knows.
    """

    fps: float
    num_frames: int | None


class ClipMeasure(ABC):
    """Takes the frames of one clip in order and fills a score.

    Args:
        name: of the metric.
        tools: networks, shared by the clips of a run.
        facts: of the clip.
        score: to fill.
    """

    def __init__(self, name: str, tools: Toolbox, facts: ClipFacts, score: ClipScore) -> None:
        self.name, self.tools, self.facts, self.score = name, tools, facts, score

    @abstractmethod
    def update(self, pair: FramePair) -> None:
        """Take the next frame.

        Raises:
            MetricError: the frame or the clip cannot be scored, or an outside program failed.
        """

    @abstractmethod
    def finish(self) -> None:
        """Fill the score after the last frame.

        Raises:
            MetricError: an outside program failed, or the clip is not as long as announced.
        """

    def close(self) -> None:  # noqa: B027  (most hold nothing outside the process)
        """Release outside programs after an error."""


class _Vmaf(ClipMeasure):
    _meter: VmafMeter | None = None

    def update(self, pair: FramePair) -> None:
        if self._meter is None:
            self._meter = VmafMeter((pair.sr.frame.shape[0], pair.sr.frame.shape[1]), self.facts.fps)
        self._meter.update(pair.sr.frame, pair.gt.frame)

    def finish(self) -> None:
        if self._meter is not None:
            self.score.values = list(self._meter.finish())
            self._meter = None

    def close(self) -> None:
        if self._meter is not None:
            self._meter.close()
            self._meter = None


class _Cvvdp(ClipMeasure):
    """It filters over time and takes only whole clips."""

    def __init__(self, name: str, tools: Toolbox, facts: ClipFacts, score: ClipScore) -> None:
        super().__init__(name, tools, facts, score)
        self._sr: list[Image8] = []
        self._gt: list[Image8] = []
        self._seen = 0

    def update(self, pair: FramePair) -> None:
        _ = self.tools.cvvdp  # a broken package is found at the first frame, not after the last
        self._seen += 1
        if 2 * self._seen * pair.sr.frame.nbytes > _CVVDP_MEMORY_LIMIT:
            self.score.reason = "the clip is too long for cvvdp (over 3 GB of frames)"
            self.score.unscored += 1
            self._sr, self._gt = [], []
        elif not self.score.reason:
            self._sr.append(pair.sr.frame)
            self._gt.append(pair.gt.frame)

    def finish(self) -> None:
        if not self._sr:
            return
        sr, gt = np.stack(self._sr), np.stack(self._gt)
        self._sr, self._gt = [], []
        value, _ = self.tools.cvvdp.predict(sr, gt, dim_order="FHWC", frames_per_second=self.facts.fps)
        self.score.clip_value = float(value)


class _VideoQuality(ClipMeasure):
    _meter: VideoMeter | None = None

    def update(self, pair: FramePair) -> None:
        if self._meter is None:
            self._meter = self._open((pair.sr.frame.shape[0], pair.sr.frame.shape[1]))
        self._meter.update(pair.sr.frame)

    def finish(self) -> None:
        if self._meter is not None:
            self.score.clip_value = self._meter.finish()
            self._meter = None

    def _open(self, size: tuple[int, int]) -> VideoMeter:
        from sparkvsr.metrics.video_quality import VideoMeter

        if self.facts.num_frames is None:
            msg = f"{self.name} needs the number of frames beforehand (ClipMeter's num_frames)"
            raise MetricError(msg)
        network = self.tools.video_network(self.name)
        return VideoMeter(self.name, network, self.facts.num_frames, size, self.tools.device)


CLIP_MEASURES: dict[str, Callable[[str, Toolbox, ClipFacts, ClipScore], ClipMeasure]] = {
    "vmaf": _Vmaf,
    "cvvdp": _Cvvdp,
    "dover": _VideoQuality,
    "fastervqa": _VideoQuality,
}
