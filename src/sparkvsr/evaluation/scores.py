"""Scores as the record holds them: one metric over one clip, and one metric over all clips of a run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from sparkvsr.evaluation.statistics import bootstrap_interval
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.clip_score import ClipScore, mean


def score_record(spec: MetricSpec, score: ClipScore, keyframes: Collection[int]) -> dict[str, Any]:
    """One metric over one clip.

    Args:
        spec: the metric.
        score: its score.
        keyframes: frames that the mean without keyframes leaves out.
    """
    record: dict[str, Any] = {"mean": score.mean, "frames": score.values, "unscored": score.unscored}
    if spec.unit == "dB":
        record["capped"] = score.capped
    if score.reason:
        record["reason"] = score.reason
    if score.gt_values:
        record["gt_mean"], record["gt_frames"] = score.gt_mean, score.gt_values
    if keyframes and spec.kind == "frame":
        record["mean_without_keyframes"] = mean([v for i, v in enumerate(score.values) if i not in keyframes])
    return record


def summary(spec: MetricSpec, scores: Sequence[dict[str, Any]], protocol: str) -> dict[str, Any]:
    """One metric over all clips.

    Args:
        spec: the metric.
        scores: of each clip, see ``score_record``.
        protocol: see ``MeasureOptions.protocol``.
    """
    means = [score["mean"] for score in scores if score["mean"] is not None]
    values = [value for score in scores for value in score["frames"] if value is not None]
    interval = bootstrap_interval(means)
    found: dict[str, Any] = {
        "mean": mean(means),
        "status": "ok" if means else "not scored",
        "n_clips": len(means),
        "n_frames": len(values),
        "ci95": list(interval) if interval else None,
        "protocol": protocol,
        "unit": spec.unit,
        "higher_is_better": spec.higher_is_better,
        "unscored": sum(score["unscored"] for score in scores),
    }
    reasons = [score["reason"] for score in scores if score.get("reason")]
    if reasons:
        found["reason"] = reasons[0]
    if spec.unit == "dB":
        found["capped"] = sum(score.get("capped", 0) for score in scores)
    own = mean([score.get("gt_mean") for score in scores])
    if own is not None:
        found["gt_mean"] = own
        found["excess"] = abs(found["mean"] - own) if found["mean"] is not None else None
    rest = mean([score.get("mean_without_keyframes") for score in scores])
    if rest is not None:
        found["mean_without_keyframes"] = rest
    return found
