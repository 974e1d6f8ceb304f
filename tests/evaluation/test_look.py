"""The look of a bench, and keyframes of the model's own kind as `sparkvsr upscale` would place them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from clips_on_disk import GOOD, FakeRestorer, moving, write_frames

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.bench import load_bench, parse_bench
from sparkvsr.evaluation.bench_run import BenchRun
from sparkvsr.evaluation.restoring import describe_model, load_restorer
from sparkvsr.evaluation.run_options import MetricChoice, RunOptions
from sparkvsr.models.interface import Session, ShotRequest


class VividRestorer(FakeRestorer):
    """Wants keyframes of its own kind, made by bicubic."""

    wants_own_keyframes = True
    own_references = "bicubic"
    look = "vivid"

    def __init__(self) -> None:
        super().__init__()
        self.own: list[frozenset[int]] = []

    def open_session(self, request: ShotRequest) -> Session:
        self.own.append(request.own_keyframes)
        return super().open_session(request)


def run(tmp_path: Path, restorer: FakeRestorer, **options: Any) -> dict[str, Any]:
    write_frames(tmp_path / "data" / "Set" / "GT" / "a", moving(0, frames=16))
    bench = parse_bench("Set", GOOD.replace("clips: [a, b]", "clips: [a]").replace("frames: 4", "frames: 16"))
    chosen = RunOptions(device="cpu", **options)
    prepared = BenchRun.prepare(bench, tmp_path / "data", MetricChoice("psnr"), chosen)
    return prepared.execute(tmp_path / "out", load_model=lambda _options: restorer)


def test_benches_name_a_look() -> None:
    looks = {name: load_bench(name).look for name in ("REDS4", "Vid4", "demo", "VideoLQ", "YouHQ40")}
    assert looks == {
        "REDS4": "faithful",
        "Vid4": "faithful",
        "demo": "faithful",
        "VideoLQ": "vivid",
        "YouHQ40": "vivid",
    }
    assert parse_bench("Set", GOOD).look == "faithful"
    assert parse_bench("Set", GOOD + "look: vivid\n").look == "vivid"
    with pytest.raises(ConfigError, match="look is 'pretty'"):
        parse_bench("Set", GOOD + "look: pretty\n")


def test_a_model_that_gains_from_its_own_keyframes_gets_them(tmp_path: Path) -> None:
    restorer = VividRestorer()
    record = run(tmp_path, restorer)
    (keyframes,) = restorer.keyframes
    assert keyframes[0] == 0
    assert len(keyframes) >= 2
    assert restorer.own == [frozenset(keyframes)]
    assert record["run"]["keyframes"] == "auto"
    assert record["run"]["references"] == "bicubic"
    assert record["run"]["model"]["look"] == "vivid"
    assert record["clips"][0]["own_keyframes"] == keyframes


def test_its_own_lie_between_those_from_ground_truth(tmp_path: Path) -> None:
    restorer = VividRestorer()
    run(tmp_path, restorer, keyframes="10", references="gt")
    (keyframes,), (own,) = restorer.keyframes, restorer.own
    assert 10 in keyframes
    assert own == set(keyframes) - {10}
    assert own


def test_none_is_none(tmp_path: Path) -> None:
    restorer = VividRestorer()
    record = run(tmp_path, restorer, keyframes="none")
    assert restorer.keyframes == [[]]
    assert record["run"]["references"] == "none"


def test_other_models_get_none(tmp_path: Path) -> None:
    restorer = FakeRestorer()
    assert run(tmp_path, restorer)["run"]["keyframes"] == "none"
    assert restorer.keyframes == [[]]


def test_the_look_reaches_the_model() -> None:
    asked = load_restorer(RunOptions("lite", "faithful", device="cpu"), usual_look="vivid")
    assert describe_model(asked)["look"] == "faithful"
    assert describe_model(load_restorer(RunOptions("lite", device="cpu"), "faithful"))["look"] == "faithful"
    with pytest.raises(ConfigError, match="one look only"):
        load_restorer(RunOptions("bicubic", "vivid", device="cpu"))
    assert "look" not in describe_model(load_restorer(RunOptions("bicubic", device="cpu"), "vivid"))
