"""Cuts against a labelled set that benchmarks/cuts.py makes, and keyframes that avoid bad frames."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from sparkvsr.keyframes.choice import KeyframeChoice
from sparkvsr.keyframes.cuts import detect_cuts
from sparkvsr.keyframes.frame_watch import FrameWatch
from sparkvsr.keyframes.select import Selection, off_bad_frames, selection_notes
from sparkvsr.keyframes.shots import Shot, shots_from_cuts

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "cuts.py"


@pytest.fixture(scope="module")
def labelled() -> ModuleType:
    spec = importlib.util.spec_from_file_location("benchmark_cuts", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    torch.set_num_threads(1)
    return module


def test_cuts_of_the_labelled_set(labelled: ModuleType) -> None:
    total, kinds = labelled.measure(labelled.make_clips(len(labelled.TRAPS)))
    assert total.precision >= 0.98, kinds
    assert total.recall >= 0.98, kinds
    assert total.found >= 2 * len(labelled.TRAPS) - 1


@pytest.mark.parametrize("kind", ["plain", "flash", "blackout", "damaged frame", "motion blur"])
def test_bad_frames_are_told_from_good_ones(labelled: ModuleType, kind: str) -> None:
    clip = labelled.make_clip(kind, 77)
    watch = FrameWatch()
    for frame in labelled.tensors(clip):
        watch.see(frame)
    assert watch.bad(0, shots_from_cuts(clip.cuts, 0, len(clip.frames))) == clip.bad


def test_no_automatic_keyframe_lies_on_a_bad_frame(labelled: ModuleType) -> None:
    clips = [labelled.make_clip(kind, 55) for kind in ("flash", "strobe", "fade in", "garbage frame")]
    bad, chosen = labelled.keyframes_on_bad_frames(clips)
    assert bad == 0
    assert chosen > 40


def test_two_frames_of_another_scene_are_no_shot(labelled: ModuleType) -> None:
    rng = np.random.default_rng(5)
    one, other = labelled.scene(rng, 40), labelled.scene(rng, 3)
    clip = labelled.Clip("insert", one[:20] + other + one[20:])
    assert detect_cuts(labelled.tensors(clip)) == ([], 43)
    longer = labelled.Clip("insert", one[:20] + labelled.scene(rng, 12) + one[20:])
    assert detect_cuts(labelled.tensors(longer)) == ([20, 32], 52)


def test_a_cut_between_two_flashes_is_seen(labelled: ModuleType) -> None:
    rng = np.random.default_rng(7)
    for before, after in ((1, 1), (2, 1), (2, 2), (3, 2), (2, 3)):
        frames = labelled.scene(rng, 30)[:30] + labelled.scene(rng, 30)
        for place in (30 - before, 30 + after):
            frames[place] = np.ones_like(frames[0])
        assert detect_cuts(labelled.tensors(labelled.Clip("two flashes", frames))) == ([30], 60), (before, after)


@pytest.mark.parametrize("speed", [0.0, 4.0, 16.0])
def test_flashes_in_fast_motion_make_no_cut(labelled: ModuleType, speed: float) -> None:
    frames = labelled.scene(np.random.default_rng(8), 48, speed=speed)
    for place in (20, 23, 24, 30):
        frames[place] = np.ones_like(frames[0])
    assert detect_cuts(labelled.tensors(labelled.Clip("flashes", frames))) == ([], 48)


def test_bad_keyframes_move_within_their_shot_and_keep_apart() -> None:
    shots = [Shot(0, 20), Shot(20, 24), Shot(24, 40)]
    bad = {0, 1, 20, 21, 22, 23, 30}
    moved = off_bad_frames(Selection((0, 8, 20, 24, 28, 30)), shots, bad)
    # 0 goes to 2; all of the second shot is bad, so its keyframe stays; 30 keeps four frames from 28.
    assert moved.indices == (2, 8, 20, 24, 28, 32)
    assert moved.moved == ((0, 2), (30, 32))
    assert selection_notes(moved) == ["moved 2 keyframes off empty, blurred or damaged frames: 0 to 2, 30 to 32"]
    assert off_bad_frames(Selection((0,)), shots, bad, multiple=4).indices == (4,)
    mine = KeyframeChoice("manual", indices=(0, 8)).select(shots, list, 0, bad=bad)
    assert mine.indices == (0, 8)
