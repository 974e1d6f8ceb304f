"""The time that a clip takes is measured on a small piece, kept, and held against what it really took."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from sparkvsr.cli.console import done_lines

from sparkvsr.inference.calibration import calibrate, can_calibrate
from sparkvsr.inference.clip.job import UpscaleJob, prepare
from sparkvsr.inference.clip.other_load import OtherLoad, _own_seconds
from sparkvsr.inference.clip.timing import Rates, estimate, keep_rates, kept_rates, learned, size_class
from sparkvsr.inference.options import UpscaleOptions
from sparkvsr.inference.upscale import run
from sparkvsr.models.bicubic import BicubicModel
from sparkvsr.video import VideoWriter

FRAMES = 26


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("timing") / "clip.mkv"
    still = torch.rand(3, 32, 48, generator=torch.Generator().manual_seed(0))
    with VideoWriter(path, source=None, size=(32, 48)) as writer:
        for shift in range(FRAMES):
            writer.write(torch.roll(still, shift, -1))
    return path


@pytest.fixture(scope="module")
def job(clip: Path) -> UpscaleJob:
    return prepare(clip, clip.parent / "out.mkv", OPTIONS, BicubicModel(), lambda event: None)


OPTIONS = UpscaleOptions(model="bicubic", scale=2.0, references="bicubic")


def test_the_estimate_counts_frames_and_the_images_that_are_made_here(job):
    rates = Rates(start=1.0, frame=10.0, keyframe=100.0)
    millions = 64 * 96 / 1e6
    keyframes = len(job.clip.selection.indices)
    assert keyframes > 0
    expected = 1 + millions * (FRAMES * 10 + keyframes * 100)
    assert estimate(job, rates) == pytest.approx(expected)
    # Runs of this size took twice as long, larger ones ten times: the nearest size counts.
    here = size_class(64 * 96)
    known = replace(rates, factors={str(here + 1): 2.0, str(here + 6): 10.0})
    assert estimate(job, known) == pytest.approx(2 * expected)
    # Those of quite another size tell nothing.
    assert estimate(job, replace(rates, factors={str(here - 6): 10.0})) == pytest.approx(expected)


def test_a_run_corrects_the_next_estimate(job):
    rates = Rates(start=0.0, frame=10.0, keyframe=0.0)
    before = estimate(job, rates)
    once = learned(job, rates, 3 * before)
    assert estimate(job, once) == pytest.approx(3 * before)
    twice = learned(job, once, before)
    assert estimate(job, twice) == pytest.approx(2 * before)


def test_what_cannot_be_read_is_no_rate(job, tmp_path):
    rates = Rates(0.5, 2.0, 3.0, {"12": 1.5})
    assert kept_rates(job, tmp_path / "none") is None
    keep_rates(job, rates, tmp_path)
    (file,) = tmp_path.glob("*.json")
    assert kept_rates(job, tmp_path) == rates
    for text in ("", "[1]", '{"start": 0}', '{"start": 0, "frame": NaN, "keyframe": 0, "factors": {}}', "{" * 9):
        file.write_text(text)
        assert kept_rates(job, tmp_path) is None
    keep_rates(job, rates, file)  # not a folder: no reason to fail


def test_a_calibrated_run_says_how_good_the_estimate_was(job, timing_folder, monkeypatch):
    monkeypatch.setattr(OtherLoad, "share", lambda self: None)
    assert can_calibrate(job.model)
    rates = calibrate(job, OPTIONS, lambda event: None)
    assert rates.frame > 0
    keep_rates(job, rates)
    events: list[dict] = []
    result = run(job, events.append)
    plan, done = (next(event for event in events if event["event"] == name) for name in ("plan", "done"))
    assert plan["estimated_seconds"] == pytest.approx(estimate(job, rates), abs=0.06)
    assert done["estimated_seconds"] == plan["estimated_seconds"]
    (file,) = timing_folder.glob("*.json")
    factors = json.loads(file.read_text())["factors"]
    assert list(factors) == [str(size_class(64 * 96))]
    assert estimate(job, kept_rates(job)) == pytest.approx(result.seconds, rel=0.05)


def test_a_run_beside_other_programs_teaches_nothing_and_says_so(job, timing_folder, monkeypatch):
    monkeypatch.setattr(OtherLoad, "share", lambda self: 0.4)
    notes: list[dict] = []
    job = replace(job, clip=replace(job.clip, output=job.clip.output.with_name("busy.mkv")))
    busy = calibrate(job, OPTIONS, notes.append)
    assert "other programs took 40% of the machine" in notes[-1]["text"]
    keep_rates(job, busy)
    events: list[dict] = []
    run(job, events.append)
    assert kept_rates(job) == busy
    assert len(done_lines(events[-1])) == 1, "too short to be judged"
    assert done_lines(events[-1] | {"seconds": 60.0})[1].endswith("; other programs took 40% of the machine meanwhile")


@pytest.mark.parametrize(
    ("idle", "own", "expected"),
    [(0.0, 200.0, None), (0.0, 120.0, 0.4), (100.0, 20.0, None), (0.0, 195.0, None), (10.0, 90.0, 0.5)],
)
def test_what_other_programs_take(monkeypatch, idle: float, own: float, expected: float | None):
    """Two cores over 100 s: 200 s in all."""
    Times = namedtuple("Times", "user system idle")
    monkeypatch.setattr("psutil.cpu_times", lambda: Times(50.0, 50.0, 100.0))
    monkeypatch.setattr("sparkvsr.inference.clip.other_load._own_seconds", lambda: 1.0)
    load = OtherLoad()
    monkeypatch.setattr("psutil.cpu_times", lambda: Times(150.0 - idle, 150.0, 100.0 + idle))
    monkeypatch.setattr("sparkvsr.inference.clip.other_load._own_seconds", lambda: 1.0 + own)
    assert load.share() == (None if expected is None else pytest.approx(expected))


def test_the_time_of_this_process_and_of_its_children_is_its_own():
    load = OtherLoad()
    before, started = load._own, time.process_time()
    child = subprocess.Popen([sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"])
    child.wait()
    spent = _own_seconds() - before
    assert spent >= 0.3 + time.process_time() - started - 0.05
