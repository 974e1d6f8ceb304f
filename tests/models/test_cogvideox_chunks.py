"""Chunk plans, tile spans, keyframe slots, coefficients, back-off: arithmetic only."""

from __future__ import annotations

import itertools

import pytest
import torch
from cogvideox_nano import SCHEDULER

from sparkvsr.errors import ConfigError, KeyframeError, WeightsError
from sparkvsr.models.cogvideox.networks.conditioning import check_slots, keyframe_slot, place_keyframes
from sparkvsr.models.cogvideox.networks.schedule import velocity_coefficients
from sparkvsr.models.cogvideox.networks.tiles import normalised_weights, spans
from sparkvsr.models.cogvideox.plan.chunks import (
    fade_in_weights,
    fit_overlap,
    largest_chunk,
    pad_frames,
    padded_length,
    plan_chunks,
)
from sparkvsr.models.cogvideox.plan.settings import RunSettings, back_off


@pytest.mark.parametrize("chunk_frames", [9, 17, 25, 33, 49, 105])
def test_chunk_plans_of_every_length(chunk_frames: int) -> None:
    for num_frames in range(1, 420):
        chunks = plan_chunks(num_frames, chunk_frames)
        total = padded_length(num_frames)
        assert chunks[0].start == 0
        assert chunks[-1].stop == total
        assert num_frames <= total < num_frames + 8
        lengths = [chunk.stop - chunk.start for chunk in chunks]
        assert max(lengths) - min(lengths) in (0, 8)
        for chunk in chunks:
            assert chunk.start % 8 == 0
            assert (chunk.stop - chunk.start) % 8 == 1
            assert chunk.stop - chunk.start <= chunk_frames
        for before, after in itertools.pairwise(chunks):
            overlap = before.stop - after.start
            assert overlap == fit_overlap(chunk_frames)
            assert overlap % 8 == 1, "the last shared frame must have an exact slot in the later chunk"
            assert after.start > before.start
        for before, after in zip(chunks, chunks[2:], strict=False):
            assert after.start >= before.stop - 1, "a frame is shared by two chunks at most, but for a single one"


def test_odd_chunk_lengths_are_rounded_down() -> None:
    assert [largest_chunk(n) for n in (1, 8, 9, 16, 17, 48, 49, 50)] == [9, 9, 9, 9, 17, 41, 49, 49]


def test_a_shot_needs_a_frame() -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        plan_chunks(0, 33)


def test_short_clips_repeat_their_last_frame() -> None:
    frames = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 3, 2, 2)
    assert pad_frames(frames, 9)[:, 0, 0, 0].tolist() == [0, 1, 2, 2, 2, 2, 2, 2, 2]


def test_fades_rise_and_stay_inside() -> None:
    weights = fade_in_weights(9).flatten()
    assert weights.min() > 0
    assert weights.max() < 1
    assert (weights.diff() > 0).all()


@pytest.mark.parametrize(("size", "overlap", "multiple"), [(16, 6, 1), (128, 48, 16), (160, 48, 16), (20, 4, 1)])
def test_spans_cover_every_length_and_weights_sum_to_one(size: int, overlap: int, multiple: int) -> None:
    for length in range(multiple, 40 * multiple, multiple):
        pieces = spans(length, size, overlap, multiple)
        assert pieces[0][0] == 0
        assert pieces[-1][1] == length
        assert len({stop - start for start, stop in pieces}) == 1
        for (start, stop), (after, _) in itertools.pairwise(pieces):
            assert start % multiple == 0
            assert stop - after >= overlap
            assert stop - start <= size
        total = torch.zeros(length)
        for (start, stop), weight in zip(pieces, normalised_weights(pieces, 1), strict=True):
            total[start:stop] += weight
        assert torch.allclose(total, torch.ones(length), atol=1e-6)


def test_a_tile_must_exceed_its_overlap() -> None:
    with pytest.raises(ValueError, match="must exceed the overlap"):
        spans(64, 8, 8)
    with pytest.raises(ValueError, match="not a multiple"):
        spans(65, 16, 8, 16)


def test_slots_floor_as_trained_and_exact_where_asked() -> None:
    assert [keyframe_slot(i) for i in (0, 3, 4, 5, 8)] == [0, 0, 1, 1, 2]
    assert [keyframe_slot(i, "exact") for i in (0, 3, 4, 5, 8)] == [0, 1, 1, 2, 2]
    assert all(keyframe_slot(i) == keyframe_slot(i, "exact") for i in range(0, 200, 4))
    with pytest.raises(ConfigError, match="use 'floor'"):
        keyframe_slot(0, "ceil")  # type: ignore[arg-type]


def test_two_keyframes_in_one_slot_are_refused() -> None:
    check_slots([0, 4, 9])
    with pytest.raises(KeyframeError, match="keyframes 4 and 7 fall into one latent frame"):
        check_slots([0, 4, 7])


def test_keyframes_fill_only_their_slot() -> None:
    lr_latents = torch.ones(2, 5, 16, 2, 2)
    placed = place_keyframes(lr_latents, {8: torch.full((2, 1, 16, 2, 2), 3.0)})
    assert placed[:, 2].eq(3).all()
    assert placed[:, [0, 1, 3, 4]].eq(0).all()
    with pytest.raises(KeyframeError, match="outside the chunk"):
        place_keyframes(lr_latents, {20: lr_latents[:, :1]})


def test_coefficients_exact_and_as_the_library_rounds_them() -> None:
    exact = velocity_coefficients(SCHEDULER, torch.float32)
    assert exact.signal == pytest.approx(0.627331, abs=1e-6)
    assert exact.noise == pytest.approx(0.778753, abs=1e-6)
    rounded = velocity_coefficients(SCHEDULER, torch.bfloat16)
    assert (rounded.signal, rounded.noise) == (0.625, 0.78125)
    half = velocity_coefficients(SCHEDULER, torch.float16)
    assert (half.signal, half.noise) == (pytest.approx(0.62744, abs=1e-5), pytest.approx(0.77881, abs=1e-5))


def test_coefficients_equal_the_published_recipe() -> None:
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    root = torch.cumprod(1 - betas, 0).sqrt()
    root = (root - root[-1]) * root[0] / (root[0] - root[-1])
    exact = velocity_coefficients(SCHEDULER, torch.float32)
    assert exact.signal == pytest.approx(float(root[399]), abs=1e-6)


def test_another_kind_of_scheduler_is_refused() -> None:
    with pytest.raises(WeightsError, match="prediction_type='epsilon'"):
        velocity_coefficients({**SCHEDULER, "prediction_type": "epsilon"}, torch.float32)


@pytest.mark.parametrize("phase", ["encode", "transformer", "decode"])
def test_backing_off_ends_and_never_grows(phase: str) -> None:
    settings: RunSettings | None = RunSettings(105, overlap_stages=True)
    seen = []
    while settings is not None:
        seen.append(settings)
        settings = back_off(settings, phase, (720, 1280), can_swap=True, fixed_vae=False)  # type: ignore[arg-type]
    assert len(set(seen)) == len(seen) < 40
    assert seen[1] == RunSettings(105)
    last = seen[-1]
    assert last.swap
    assert last.tile_px is not None
    assert min(last.tile_px) >= 128
    if phase == "transformer":
        assert last.chunk_frames == 9
    else:
        assert last.chunk_frames == 105
        assert last.vae.tile is not None
