"""Measures one clip frame by frame, in bounded memory, with any set of metrics.

Rules: a frame that a metric cannot score is null and counted, never 0 or NaN; identical frames have a
capped PSNR and are counted; the mean is over the frames that were scored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sparkvsr.errors import MetricError
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.colour import Frame
from sparkvsr.metrics.fidelity import PSNR_CAP_DB
from sparkvsr.metrics.frame_pair import FramePair
from sparkvsr.metrics.measures import FRAME_MEASURES, PAIR_MEASURES
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.metrics.vmaf import VmafMeter

if TYPE_CHECKING:
    from sparkvsr.metrics.video_quality import VideoMeter

_CVVDP_MEMORY_LIMIT = 3_000_000_000


@dataclass
class ClipScore:
    """One metric over one clip.

    Attributes:
        values: by frame; None where the metric has no value (first frame of a pair metric, frames left out by
            ``every``, frames it could not score).
        gt_values: the ground truth's own values, by frame, where the metric has them.
        unscored: frames that it should have scored and could not (flat, too small).
        capped: frames with a capped PSNR (identical to the ground truth).
        clip_value: for metrics with one value a clip.
        reason: why frames went unscored, the first reason met.
    """

    values: list[float | None] = field(default_factory=list)
    gt_values: list[float | None] = field(default_factory=list)
    unscored: int = 0
    capped: int = 0
    clip_value: float | None = None
    reason: str = ""

    @property
    def mean(self) -> float | None:
        """Mean over the scored frames, or the clip's value."""
        return self.clip_value if self.clip_value is not None else mean(self.values)

    @property
    def gt_mean(self) -> float | None:
        """Mean of the ground truth's own values; None where there are none."""
        return mean(self.gt_values)


def mean(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are there, or None."""
    present = [value for value in values if value is not None]
    return math.fsum(present) / len(present) if present else None


class ClipMeter:
    """Takes a clip's frames in order and scores them.

    Args:
        specs: metrics to compute; those that need ground truth are an error without it.
        tools: networks and parameters, shared by the clips of a run.
        border: pixels left out on each side by PSNR and SSIM.
        every: slow metrics score only frames 0, N, 2N and so on.
        fps: frames per second, for metrics that know about time.
        num_frames: of the clip; metrics that draw frames over the whole clip need it beforehand.
        pool: where metrics without networks run side by side; None runs them one after another.
    """

    def __init__(
        self,
        specs: Sequence[MetricSpec],
        tools: Toolbox,
        *,
        border: int = 0,
        every: int = 1,
        fps: float = 25.0,
        num_frames: int | None = None,
        pool: Executor | None = None,
    ) -> None:
        if every < 1:
            msg = f"--every must be at least 1, got {every}"
            raise MetricError(msg)
        self.scores = {spec.name: ClipScore() for spec in specs}
        # The slowest first, so that the others run beside it.
        self._specs = sorted(specs, key=lambda spec: -spec.seconds)
        self._tools = tools
        self._border = border
        self._every = every
        self._fps = fps
        self._num_frames = num_frames
        self._pool = pool
        self._index = 0
        self._before: FramePair | None = None
        self._vmaf: VmafMeter | None = None
        self._cvvdp_frames: tuple[list[Frame], list[Frame]] = ([], [])
        self._video: dict[str, VideoMeter] = {}

    def update(self, sr: Frame, gt: Frame | None) -> None:
        """Score the next frame.

        Args:
            sr, gt: ``(H, W, 3)`` uint8 RGB of one size; ``gt`` None where there is no ground truth.

        Raises:
            MetricError: the sizes differ, or an outside program failed.
        """
        pair = FramePair(sr, gt, self._border)
        concurrent: list[Future[None]] = []
        for spec in self._specs:
            score = self.scores[spec.name]
            if spec.kind == "clip":
                self._update_clip_metric(spec, pair)
                continue
            skipped = spec.slow and self._index % self._every != 0
            if skipped or (spec.kind == "pair" and self._before is None):
                score.values.append(None)
                if spec.gt_value and pair.has_gt:
                    score.gt_values.append(None)
                continue
            if self._pool is not None and not spec.weights and not spec.packages:
                # OpenCV and numpy leave the interpreter free; networks use all cores by themselves.
                concurrent.append(self._pool.submit(self._score, spec, score, pair))
            else:
                self._score(spec, score, pair)
        for future in concurrent:
            future.result()
        self._before = pair
        self._index += 1

    def finish(self) -> dict[str, ClipScore]:
        """The scores of the whole clip, by metric name.

        Raises:
            MetricError: an outside program failed.
        """
        if self._vmaf is not None:
            vmaf = self.scores["vmaf"]
            vmaf.values = list(self._vmaf.finish())
            self._vmaf = None
        if self._cvvdp_frames[0]:
            self.scores["cvvdp"].clip_value = self._cvvdp()
        for name, meter in self._video.items():
            self.scores[name].clip_value = meter.finish()
        self._video = {}
        self._before = None
        return self.scores

    def close(self) -> None:
        """Release outside programs after an error; harmless otherwise."""
        if self._vmaf is not None:
            self._vmaf.close()
            self._vmaf = None

    def _score(self, spec: MetricSpec, score: ClipScore, pair: FramePair) -> None:
        value: float | None
        own: float | None
        try:
            if spec.kind == "frame":
                value, own = FRAME_MEASURES[spec.name](pair, self._tools)
            else:
                assert self._before is not None
                value, own = PAIR_MEASURES[spec.name](self._before, pair, self._tools)
        except MetricError as exc:
            value, own = None, None
            score.reason = score.reason or str(exc)
        if value is None:
            score.unscored += 1
            score.reason = score.reason or "flat or too small for this metric"
        elif spec.unit == "dB" and value >= PSNR_CAP_DB:
            score.capped += 1
        score.values.append(value)
        if spec.gt_value and pair.has_gt:
            score.gt_values.append(own)

    def _update_clip_metric(self, spec: MetricSpec, pair: FramePair) -> None:
        if spec.name == "vmaf":
            if self._vmaf is None:
                self._vmaf = VmafMeter((pair.sr.frame.shape[0], pair.sr.frame.shape[1]), self._fps)
            self._vmaf.update(pair.sr.frame, pair.gt.frame)
        elif spec.name == "cvvdp":
            score = self.scores["cvvdp"]
            _ = self._tools.cvvdp  # a broken package is found at the first frame, not after the last
            if 2 * (self._index + 1) * pair.sr.frame.nbytes > _CVVDP_MEMORY_LIMIT:
                # It filters over time and takes only whole clips.
                score.reason = "the clip is too long for cvvdp (over 3 GB of frames)"
                score.unscored += 1
                self._cvvdp_frames = ([], [])
            elif not score.reason:
                self._cvvdp_frames[0].append(pair.sr.frame)
                self._cvvdp_frames[1].append(pair.gt.frame)
        else:
            if spec.name not in self._video:
                self._video[spec.name] = self._video_meter(spec.name, pair)
            self._video[spec.name].update(pair.sr.frame)

    def _video_meter(self, name: str, pair: FramePair) -> VideoMeter:
        from sparkvsr.metrics.video_quality import VideoMeter

        if self._num_frames is None:
            msg = f"{name} needs the number of frames beforehand (ClipMeter's num_frames)"
            raise MetricError(msg)
        size = (pair.sr.frame.shape[0], pair.sr.frame.shape[1])
        return VideoMeter(name, self._tools.video_network(name), self._num_frames, size, self._tools.device)

    def _cvvdp(self) -> float | None:
        import numpy as np

        sr, gt = (np.stack(frames) for frames in self._cvvdp_frames)
        self._cvvdp_frames = ([], [])
        value, _ = self._tools.cvvdp.predict(sr, gt, dim_order="FHWC", frames_per_second=self._fps)
        return float(value)
