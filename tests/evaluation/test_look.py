"""The look of a bench, and keyframes of the model's own kind as `sparkvsr upscale` would place them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from clips_on_disk import FakeRestorer, moving, write_frames
from test_bench import GOOD
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.bench import load_bench, parse_bench
from sparkvsr.evaluation.bench_run import BenchRun, RunOptions
from sparkvsr.evaluation.file_run import MetricChoice
from sparkvsr.evaluation.restoring import load_restorer


class VividRestorer(FakeRestorer):
    """Wants keyframes of its own kind, made by bicubic."""

    wants_own_keyframes = True
    own_references = "bicubic"

    def __init__(self) -> None:
        super().__init__()
        self.own: list[frozenset[int]] = []

    def restore_clip(
        self,
        lr: Tensor,
        keyframes: Sequence[tuple[int, Tensor]],
        size: tuple[int, int],
        guidance_scale: float,
        own: frozenset[int] = frozenset(),
    ) -> Iterator[Tensor]:
        self.own.append(own)
        return super().restore_clip(lr, keyframes, size, guidance_scale)

    def describe(self) -> dict[str, str]:
        return {**super().describe(), "look": "vivid"}


def run(tmp_path: Path, restorer: FakeRestorer, **options: object) -> dict:
    write_frames(tmp_path / "data" / "Set" / "GT" / "a", moving(0, frames=16))
    bench = parse_bench("Set", GOOD.replace("clips: [a, b]", "clips: [a]").replace("frames: 4", "frames: 16"))
    chosen = RunOptions(load_restorer=lambda _name, _device: restorer, device="cpu", **options)  # type: ignore[arg-type]
    prepared = BenchRun.prepare(bench, tmp_path / "data", MetricChoice("psnr"), chosen)
    return prepared.execute(tmp_path / "out")


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
    restorer = load_restorer("lite", "cpu", look="faithful", usual_look="vivid")
    assert restorer.describe()["look"] == "faithful"
    assert load_restorer("lite", "cpu", usual_look="faithful").describe()["look"] == "faithful"
    with pytest.raises(ConfigError, match="one look only"):
        load_restorer("bicubic", "cpu", look="vivid")
    assert "look" not in load_restorer("bicubic", "cpu", usual_look="vivid").describe()
