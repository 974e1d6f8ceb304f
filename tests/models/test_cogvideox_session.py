"""Sessions: every frame back in order, cuts into pushes, chunks, carry, tiles, memory running out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from cogvideox_nano import (
    moving_gradient,
    one_thread,  # noqa: F401  (autouse)
    write_nano,
)

from sparkvsr.errors import ConfigError, KeyframeError, ResourceError
from sparkvsr.models.cogvideox import load_cogvideox
from sparkvsr.models.cogvideox.model import CogVideoXModel
from sparkvsr.models.cogvideox.session import ChunkSession
from sparkvsr.models.interface import Keyframe, ShotRequest


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_nano(tmp_path_factory.mktemp("nano") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> CogVideoXModel:
    return load_cogvideox(folder, colour="none")


def request_for(
    lr: torch.Tensor, scale: int = 2, keyframes: dict[int, float] | None = None, **options: Any
) -> ShotRequest:
    """A request for the clip; keyframes are flat images of the given grey."""
    frames, _, height, width = lr.shape
    size = (height * scale, width * scale)
    options = {"chunk_frames": 9, **options}
    given = {i: Keyframe(lr[min(i, frames - 1)], torch.full((3, *size), grey)) for i, grey in (keyframes or {}).items()}
    return ShotRequest(frames, (height, width), size, given, **options)


def run(model: CogVideoXModel, lr: torch.Tensor, request: ShotRequest, step: int | None = None) -> torch.Tensor:
    session = model.open_session(request)
    step = step or lr.shape[0]
    parts = [session.push(lr[start : start + step]) for start in range(0, lr.shape[0], step)]
    return torch.cat([*parts, session.finish()])


@pytest.mark.parametrize("frames", [1, 2, 8, 9])
def test_one_chunk_equals_restore_exactly(frames: int, model: CogVideoXModel) -> None:
    lr = moving_gradient(frames, 8, 11)  # 16 x 22 out: the width is padded to 32
    keyframe = torch.full((1, 3, 16, 22), 0.7)
    whole = model.restore(lr, keyframe, [0], scale=2)
    assert whole.shape == (frames, 3, 16, 22)
    assert torch.equal(run(model, lr, request_for(lr, keyframes={0: 0.7}), step=1), whole)


@pytest.mark.parametrize("frames", [10, 17, 18, 35])
def test_every_frame_comes_back_however_the_shot_is_cut(frames: int, model: CogVideoXModel) -> None:
    lr = moving_gradient(frames, 8, 8)
    request = request_for(lr, keyframes={0: 0.2, 8: 0.6}, chunk_frames=17)
    whole = run(model, lr, request)
    assert whole.shape == (frames, 3, 16, 16)
    assert whole.dtype is torch.float32
    assert whole.min() >= 0
    assert whole.max() <= 1
    for step in (1, 4, 13):
        assert torch.equal(run(model, lr, request, step), whole)


def test_frames_before_the_first_overlap_are_the_first_chunks_own(model: CogVideoXModel) -> None:
    lr = moving_gradient(33, 8, 8)
    chunked = run(model, lr, request_for(lr, chunk_frames=25))
    # Chunks [0, 25) and [16, 33): the first 16 frames are untouched by the fade.
    first = run(model, lr[:25], request_for(lr[:25], chunk_frames=25))
    assert torch.equal(chunked[:16], first[:16])
    assert not torch.equal(chunked[16:25], first[16:25])


def test_bounded_memory_frames_come_while_pushing(model: CogVideoXModel) -> None:
    lr = moving_gradient(41, 8, 8)
    session = model.open_session(request_for(lr, chunk_frames=17))
    assert isinstance(session, ChunkSession)
    counts = [session.push(lr[i : i + 1]).shape[0] for i in range(41)]
    assert sum(counts) == 41, "the last push finishes the shot"
    assert counts.index(8) == 16, "a chunk of 17 gives all but its overlap of 9 as soon as it is full"
    assert session.finish().shape == (0, 3, 16, 16)


def test_a_shot_that_ends_early_is_restored_as_far_as_it_goes(model: CogVideoXModel) -> None:
    lr = moving_gradient(40, 8, 8)
    for pushed in (1, 12, 17, 18, 26):
        session = model.open_session(request_for(lr, chunk_frames=17))
        parts = [session.push(lr[i : i + 1]) for i in range(pushed)]
        assert torch.cat([*parts, session.finish()]).shape[0] == pushed
    session = model.open_session(request_for(lr))
    assert session.finish().shape[0] == 0


@contextmanager
def spied(model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[int, torch.Tensor]]]:
    """Record the keyframes of every chunk."""
    seen: list[dict[int, torch.Tensor]] = []
    original = model.pipeline.encode_keyframes

    def spy(keyframes: Any, *arguments: Any) -> Any:
        seen.append({index: image for index, (image, _) in keyframes.items()})
        return original(keyframes, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(model.pipeline, "encode_keyframes", spy)
        yield seen


def test_keyframes_are_mapped_to_their_chunks_and_carried(
    model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = moving_gradient(41, 8, 8)
    # Chunks of 17 start at 0, 8, 16, 24.
    request = request_for(lr, keyframes={4: 0.3, 20: 0.8}, chunk_frames=17)
    with spied(model, monkeypatch) as seen:
        whole = run(model, lr, request)
    assert [sorted(keyframes) for keyframes in seen] == [[4], [12], [4], [8]]
    carried = seen[3][8]
    assert carried.shape == (3, 16, 16)
    with spied(model, monkeypatch) as seen:
        model.carry = False
        try:
            without = run(model, lr, request)
        finally:
            model.carry = True
    assert [sorted(keyframes) for keyframes in seen] == [[4], [12], [4], []]
    assert torch.equal(without[:24], whole[:24])
    assert not torch.equal(without[33:], whole[33:])


def test_carried_keyframes_lie_at_multiples_of_four(model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for frames, chunk in ((30, 9), (50, 25), (45, 17)):
        lr = moving_gradient(frames, 8, 8)
        with spied(model, monkeypatch) as seen:
            run(model, lr, request_for(lr, chunk_frames=chunk))
        assert not seen[0]
        assert len(seen) > 1
        for keyframes in seen[1:]:
            (index,) = keyframes
            assert index % 4 == 0


def test_guidance_zero_is_blind_and_never_loads_a_keyframe(model: CogVideoXModel) -> None:
    lr = moving_gradient(17, 8, 8)

    class Exploding(dict):  # type: ignore[type-arg]
        def __getitem__(self, index: int) -> Keyframe:
            raise AssertionError(index)

    keyed = request_for(lr, guidance_scale=0.0)
    lazy = ShotRequest(17, (8, 8), (16, 16), Exploding({0: None}), guidance_scale=0.0, chunk_frames=17)
    blind = request_for(lr, chunk_frames=17)
    assert torch.equal(run(model, lr, lazy), run(model, lr, blind))
    assert run(model, lr, keyed).shape[0] == 17


def test_a_keyframe_of_weight_zero_changes_nothing(model: CogVideoXModel) -> None:
    lr = moving_gradient(9, 8, 8)
    weightless = ShotRequest(9, (8, 8), (16, 16), {0: Keyframe(lr[0], torch.rand(3, 16, 16), 0.0)}, chunk_frames=9)
    assert torch.equal(run(model, lr, weightless), run(model, lr, request_for(lr)))
    half = ShotRequest(9, (8, 8), (16, 16), {0: Keyframe(lr[0], torch.rand(3, 16, 16), 0.5)}, chunk_frames=9)
    assert not torch.equal(run(model, lr, half), run(model, lr, request_for(lr)))


def test_two_guidance_passes_equal_one_batch_of_two(model: CogVideoXModel) -> None:
    lr = moving_gradient(9, 8, 8)
    request = request_for(lr, keyframes={0: 0.5}, guidance_scale=1.7)
    batched = run(model, lr, request)
    session = model.open_session(request)
    assert isinstance(session, ChunkSession)
    session._runner.settings = type(session._runner.settings)(9, batch_guidance=False)
    apart = torch.cat([session.push(lr), session.finish()])
    assert torch.allclose(batched, apart, atol=1e-5)


def test_decoding_aside_changes_nothing(model: CogVideoXModel) -> None:
    lr = moving_gradient(41, 8, 8)
    request = request_for(lr, keyframes={0: 0.5}, chunk_frames=17)
    expected = run(model, lr, request)
    session = model.open_session(request)
    assert isinstance(session, ChunkSession)
    session._runner.settings = type(session._runner.settings)(17, overlap_stages=True)
    parts = [session.push(lr[start : start + 7]) for start in range(0, 41, 7)]
    assert torch.equal(torch.cat([*parts, session.finish()]), expected)


def test_tiles_cover_frames_of_any_size(model: CogVideoXModel) -> None:
    lr = moving_gradient(9, 37, 83)
    request = request_for(lr, keyframes={0: 0.4}, chunk_frames=9, tile=64)
    tiled = run(model, lr, request)
    assert tiled.shape == (9, 3, 74, 166)
    whole = run(model, lr, request_for(lr, keyframes={0: 0.4}, chunk_frames=9))
    assert (tiled - whole).abs().mean() < 0.1
    session = model.open_session(request)
    assert isinstance(session, ChunkSession)
    settings = session._runner.settings
    assert settings.tile_px == (80, 128)
    assert settings.tile_batch > 1, "there is memory for more than one of these tiles"


class OutOfMemory:
    """Raise for the given calls of a function, counted from 0."""

    def __init__(self, work: Callable[..., Any], calls: set[int]) -> None:
        self.work, self.calls, self.count = work, calls, -1

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        if self.count in self.calls:
            msg = "CUDA out of memory (simulated)"
            raise torch.OutOfMemoryError(msg)
        return self.work(*arguments, **options)


@pytest.mark.parametrize("stage", ["encode", "restore", "decode"])
def test_memory_running_out_midway_keeps_finished_chunks(
    stage: str, model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = moving_gradient(33, 8, 128)  # wide enough for two tiles of the autoencoder
    request = request_for(lr, scale=2, keyframes={0: 0.5}, chunk_frames=25)
    expected = run(model, lr, request)
    # The second chunk fails once.
    failing = OutOfMemory(getattr(model.pipeline, stage), {1})
    monkeypatch.setattr(model.pipeline, stage, failing)
    session = model.open_session(request)
    assert isinstance(session, ChunkSession)
    restored = torch.cat([session.push(lr), session.finish()])
    assert restored.shape == expected.shape
    assert torch.equal(restored[:16], expected[:16]), "frames of the finished chunk stay"
    assert len(session.notes) >= 1
    assert "out of memory in the" in session.notes[0]
    assert "going on with" in session.notes[0]


def test_memory_running_out_again_and_again_shrinks_chunks_and_tiles(
    model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    lr = moving_gradient(60, 8, 8)
    request = request_for(lr, scale=2, chunk_frames=49)
    failing = OutOfMemory(model.pipeline.restore, {1, 2, 3, 4})
    monkeypatch.setattr(model.pipeline, "restore", failing)
    session = model.open_session(request)
    assert isinstance(session, ChunkSession)
    restored = torch.cat([session.push(lr), session.finish()])
    assert restored.shape == (60, 3, 16, 16)
    assert session._runner.settings.chunk_frames < 33


def test_memory_too_small_for_the_smallest_settings(model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch) -> None:
    lr = moving_gradient(9, 8, 8)
    monkeypatch.setattr(model.pipeline, "restore", OutOfMemory(model.pipeline.restore, set(range(1000))))
    session = model.open_session(request_for(lr))
    with pytest.raises(ResourceError, match="out of memory in the transformer stage with the smallest settings"):
        session.push(lr)
    with pytest.raises(ResourceError, match="transformer stage"):
        model.restore(lr, scale=2)
    with pytest.raises(ResourceError, match=r"call sparkvsr.upscale, which works in chunks and tiles"):
        model.restore(moving_gradient(10, 8, 8), scale=2)


def test_other_errors_are_not_taken_for_memory(model: CogVideoXModel, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any) -> Any:
        msg = "a bug"
        raise RuntimeError(msg)

    monkeypatch.setattr(model.pipeline, "restore", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        model.open_session(request_for(moving_gradient(9, 8, 8))).push(moving_gradient(9, 8, 8))


def test_bad_requests_are_refused_before_any_work(model: CogVideoXModel) -> None:
    lr = moving_gradient(9, 8, 8)
    with pytest.raises(KeyframeError, match="keyframe 9 is outside the shot"):
        model.open_session(request_for(lr, keyframes={9: 0.5}))
    with pytest.raises(KeyframeError, match="keyframes 1 and 2 fall into one latent frame"):
        model.open_session(request_for(lr, keyframes={1: 0.5, 2: 0.5}))
    with pytest.raises(ConfigError, match="tile=4 is 16 pixels of the output; this model needs at least 128"):
        model.open_session(request_for(lr, scale=4, tile=4))
    session = model.open_session(request_for(lr))
    with pytest.raises(ValueError, match="`lr` must be float"):
        session.push(lr[:, :, :4])
    with pytest.raises(ValueError, match="10 frames were pushed, the request has 9"):
        session.push(moving_gradient(10, 8, 8))
    wrong = ShotRequest(9, (8, 8), (16, 16), {0: Keyframe(lr[0], torch.rand(3, 8, 8))}, chunk_frames=9)
    with pytest.raises(KeyframeError, match="keyframe 0 is"):
        model.open_session(wrong).push(lr)
    session.finish()
    with pytest.raises(ValueError, match="this session is over"):
        session.push(lr)


def test_restore_checks_its_arguments(model: CogVideoXModel) -> None:
    lr = moving_gradient(9, 8, 8)
    with pytest.raises(KeyframeError, match="fall into one latent frame"):
        model.restore(lr, torch.rand(2, 3, 16, 16), [4, 6], scale=2)
    with pytest.raises(KeyframeError, match="must be"):
        model.restore(lr, torch.rand(1, 3, 8, 8), [4], scale=2)
    assert model.working_size((8, 8), (21, 30)) == (21, 30)
