"""Measures one clip frame by frame, in bounded memory, with any set of metrics.

Rules: a frame that a metric cannot score is null and counted, never 0 or NaN; identical frames have a
capped PSNR and are counted; the mean is over the frames that were scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, Future

from sparkvsr.errors import MetricError
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.clip_measures import CLIP_MEASURES, ClipFacts
from sparkvsr.metrics.clip_score import ClipScore
from sparkvsr.metrics.colour import Image8
from sparkvsr.metrics.fidelity import PSNR_CAP_DB
from sparkvsr.metrics.frame_pair import FramePair
from sparkvsr.metrics.measures import FRAME_MEASURES, PAIR_MEASURES
from sparkvsr.metrics.toolbox import Toolbox

__all__ = ["ClipMeter", "ClipScore"]


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
        facts = ClipFacts(fps, num_frames)
        self._clip_measures = {
            spec.name: CLIP_MEASURES[spec.name](spec.name, tools, facts, self.scores[spec.name])
            for spec in specs
            if spec.kind == "clip"
        }
        self._pool = pool
        self._index = 0
        self._before: FramePair | None = None

    def update(self, sr: Image8, gt: Image8 | None) -> None:
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
                self._clip_measures[spec.name].update(pair)
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
        for measure in self._clip_measures.values():
            measure.finish()
        self._before = None
        return self.scores

    def close(self) -> None:
        """Release outside programs after an error; harmless otherwise."""
        for measure in self._clip_measures.values():
            measure.close()

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
