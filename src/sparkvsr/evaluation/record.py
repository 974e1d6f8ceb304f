"""The record of a run: what ``results.json`` holds.

format      "sparkvsr-eval/1"
run         kind (bench or files), bench, model, keyframes, references, guidance, data, subset, date
protocol    one line that says everything that changes the numbers
metrics     NAME -> mean over clips, n_clips, n_frames, ci95, protocol, unit, gt_mean, excess, unscored, capped;
            skipped metrics have "value": null, "status": "skipped", "reason", "needs"
clips       per clip: means and the value of every frame
versions, weights, warnings, published
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.evaluation.bench import PUBLISHED_SHAPE
from sparkvsr.evaluation.measuring import MeasureOptions
from sparkvsr.evaluation.plain_values import misfit
from sparkvsr.evaluation.scores import summary
from sparkvsr.evaluation.whole_files import write_whole
from sparkvsr.metrics.catalogue import MetricSpec
from sparkvsr.metrics.readiness import Readiness, package_versions
from sparkvsr.plain_json import read_object
from sparkvsr.pretrained.weights import WeightStore

FORMAT = "sparkvsr-eval/1"
RECORD_FILE = "results.json"

_NUMBER = (float, None)
_SHAPE: dict[str, Any] = {
    "run": {"kind": str, "subset?": (str, None), "bench?": str},
    "protocol": str,
    "metrics": {
        "*": {"status": str, "mean": _NUMBER, "protocol": str, "higher_is_better?": (bool, None), "gt_mean?": _NUMBER}
    },
    "clips": [{"name": str, "frames": int, "metrics": {"*": {"mean": _NUMBER}}}],
    "warnings": [str],
    "published": PUBLISHED_SHAPE,
}
"""What others read of a record."""

_RUNS: dict[str, Any] = {
    "files": {"pred": str, "gt": str},
    "bench": {"bench": str, "keyframes": str, "references": str, "model": {"name": str}},
}


def build_record(
    run: dict[str, Any],
    clips: Sequence[dict[str, Any]],
    options: MeasureOptions,
    skipped: Sequence[Readiness],
    store: WeightStore,
    *,
    has_gt: bool,
    warnings: Sequence[str] = (),
    published: Sequence[dict[str, Any]] = (),
) -> dict[str, Any]:
    """Put a run together.

    Args:
        run: what was run, see the module.
        clips: records of ``measuring.measure_clips``.
        options: how they were measured.
        skipped: metrics that could not be computed.
        store: to name the weights that were used.
        has_gt: whether there was ground truth.
        warnings: about the whole run.
        published: tables of the bench.
    """
    metrics = {
        spec.name: summary(spec, [clip["metrics"][spec.name] for clip in clips], options.protocol(spec, has_gt))
        for spec in options.specs
    }
    for item in skipped:
        metrics[item.spec.name] = {
            "mean": None, "value": None, "status": "skipped", "reason": item.status, "needs": list(item.needs),
            "protocol": options.protocol(item.spec, has_gt),
        }  # fmt: skip
    clip_warnings = [f"{clip['name']}: {text}" for clip in clips for text in clip["warnings"]]
    return {
        "format": FORMAT,
        "run": {**run, "date": datetime.now(UTC).isoformat(timespec="seconds")},
        "protocol": protocol_line(run, options, has_gt),
        "metrics": metrics,
        "clips": list(clips),
        "versions": package_versions(list(options.specs)),
        "weights": _weights(options.specs, store),
        "warnings": [*warnings, *clip_warnings],
        "published": list(published),
    }


def protocol_line(run: dict[str, Any], options: MeasureOptions, has_gt: bool) -> str:
    """Everything that changes the numbers, in one line."""
    parts = ["frames rounded to 8 bit before any encoding" if run.get("kind") == "bench" else "frames as stored"]
    if run.get("degradation"):
        parts.append(f"LR: {run['degradation']}")
    parts.append(f"border {options.border}")
    parts.append("mean over frames, then over clips")
    if options.every > 1:
        parts.append(f"slow metrics on every {options.every}th frame")
    if run.get("subset"):
        parts.append(f"SUBSET: {run['subset']}")
    return "; ".join(parts) + "; " + " ".join(options.protocol(spec, has_gt) for spec in options.specs)


def _weights(specs: Sequence[MetricSpec], store: WeightStore) -> dict[str, Any]:
    used = {}
    for name in dict.fromkeys(name for spec in specs for name in spec.weights):
        found = store.find(name)
        if found is not None:
            used[name] = {"path": str(found.path), "sha256": found.sha256}
    return used


def write_json(record: dict[str, Any], path: Path) -> None:
    """Write a record; NaN and infinity are refused rather than written.

    Raises:
        EncodeError: the disk is full, or the folder cannot be written.
    """
    text = json.dumps(record, indent=1, allow_nan=False) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        msg = f"{path.parent} cannot be made ({exc.strerror}); give another -o"
        raise EncodeError(msg) from exc
    write_whole(path, text)


def read_record(path: Path) -> dict[str, Any]:
    """Read ``results.json``, or the folder that holds it.

    Raises:
        ConfigError: missing, damaged or not a record of this program.
    """
    file = path / RECORD_FILE if path.is_dir() else path
    try:
        record = read_object(file)
    except (OSError, ValueError) as exc:
        msg = f"{file} cannot be read as the result of `sparkvsr eval` ({exc}); give a results.json"
        raise ConfigError(msg) from exc
    if record.get("format") != FORMAT:
        found = str(record.get("format"))[:60]
        msg = f"{file} is not a result of this version of `sparkvsr eval` (format {found!r}, expected {FORMAT!r})"
        raise ConfigError(msg)
    wrong = misfit(record, _SHAPE) or misfit(record["run"], _RUNS.get(record["run"]["kind"], _RUNS["bench"]), "run")
    wrong = wrong or _unknown_metric(record)
    if wrong:
        msg = f"{file} is not a whole result of `sparkvsr eval`: {wrong}; measure again, or give another results.json"
        raise ConfigError(msg)
    return record


def _unknown_metric(record: dict[str, Any]) -> str | None:
    """A metric that the run has and a clip has not."""
    names = [name for name, item in record["metrics"].items() if item["status"] != "skipped"]
    for index, clip in enumerate(record["clips"]):
        for name in names:
            if name not in clip["metrics"]:
                return f"clips[{index}].metrics.{name} is missing"
    return None
