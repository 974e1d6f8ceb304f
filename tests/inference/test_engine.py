"""The engine with a model that only counts: what reaches the model, in which order, and what comes back."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from sparkvsr.errors import DecodeError
from sparkvsr.inference.clip.engine import KeyframeLoader, RestoreSettings, restore_shots
from sparkvsr.keyframes.references import BicubicMaker
from sparkvsr.keyframes.shots import Shot
from sparkvsr.models.bicubic import BicubicModel
from sparkvsr.models.interface import Session, ShotRequest


@dataclass
class FakeFrame:
    """What the engine needs of a decoded frame."""

    index: int
    pixels: Tensor
    pts: int | None = None
    duration: int | None = None


def clip(start: int, stop: int) -> Iterator[FakeFrame]:
    for index in range(start, stop):
        yield FakeFrame(index, torch.full((3, 4, 6), index / 100))


class DelayedSession(Session):
    """Gives frames back two pushes late, as models with overlapping chunks do, and notes the keyframes."""

    def __init__(self, model: DelayedModel, request: ShotRequest) -> None:
        self.model, self.request = model, request
        self.held: list[Tensor] = []
        model.requests.append(request)
        model.keyframes.append({index: request.keyframes[index].lr.mean().item() for index in request.keyframes})

    def push(self, lr: Tensor) -> Tensor:
        self.model.pushes.append(lr.shape[0])
        self.held.append(lr)
        ready, self.held = self.held[:-2], self.held[-2:]
        return self._up(ready)

    def finish(self) -> Tensor:
        return self._up(self.held)

    def _up(self, segments: list[Tensor]) -> Tensor:
        if not segments:
            return torch.empty(0, 3, *self.request.size)
        return torch.cat(segments).repeat_interleave(4, -1).repeat_interleave(4, -2)


class DelayedModel(BicubicModel):
    def __init__(self) -> None:
        super().__init__()
        self.requests: list[ShotRequest] = []
        self.pushes: list[int] = []
        self.keyframes: list[Mapping[int, float]] = []

    def open_session(self, request: ShotRequest) -> Session:
        return DelayedSession(self, request)


def settings(chunk_frames: int = 4, size: tuple[int, int] = (16, 24)) -> RestoreSettings:
    return RestoreSettings(size=size, working_size=(16, 24), chunk_frames=chunk_frames)


def loader(stop: int) -> KeyframeLoader:
    return KeyframeLoader(lambda start: clip(start, stop), BicubicMaker(), (16, 24))


@pytest.mark.parametrize("chunk_frames", [1, 3, 8, 100])
def test_every_frame_comes_back_in_order_whatever_the_chunk(chunk_frames: int) -> None:
    shots = [Shot(5, 12), Shot(12, 13), Shot(13, 25)]
    out = list(restore_shots(DelayedModel(), clip(5, 25), shots, [], None, settings(chunk_frames)))
    assert [frame.index for frame, _ in out] == list(range(5, 25))
    for frame, sr in out:
        assert sr.shape == (3, 16, 24)
        torch.testing.assert_close(sr, torch.full_like(sr, frame.index / 100))


def test_one_session_a_shot_and_no_chunk_across_a_cut() -> None:
    model = DelayedModel()
    list(restore_shots(model, clip(0, 10), [Shot(0, 6), Shot(6, 10)], [], None, settings(4)))
    assert [request.num_frames for request in model.requests] == [6, 4]
    assert model.pushes == [4, 2, 4]


def test_keyframes_reach_only_their_shot_at_their_own_index() -> None:
    model = DelayedModel()
    shots = [Shot(0, 6), Shot(6, 10)]
    list(restore_shots(model, clip(0, 10), shots, [0, 4, 7], loader(10), settings()))
    assert [sorted(seen) for seen in model.keyframes] == [[0, 4], [1]]
    assert model.keyframes[0][4] == pytest.approx(0.04)
    assert model.keyframes[1][1] == pytest.approx(0.07)


def test_output_is_resized_to_the_asked_size() -> None:
    out = list(restore_shots(DelayedModel(), clip(0, 3), [Shot(0, 3)], [], None, settings(size=(10, 14))))
    assert all(sr.shape == (3, 10, 14) for _, sr in out)


def test_a_clip_that_ends_early_is_an_error() -> None:
    with pytest.raises(DecodeError, match="ended inside the shot"):
        list(restore_shots(DelayedModel(), clip(0, 7), [Shot(0, 10)], [], None, settings()))


def test_loader_decodes_each_part_once_when_keyframes_are_asked_in_order() -> None:
    opened: list[int] = []

    def open_frames(start: int) -> Iterator[FakeFrame]:
        opened.append(start)
        return clip(start, 100)

    maker = BicubicMaker()
    maker.weights = {8: 0.5}
    keyframes = KeyframeLoader(open_frames, maker, (16, 24))  # type: ignore[arg-type]
    for index in (4, 4, 8, 40, 8):
        assert keyframes.load(index).lr.mean().item() == pytest.approx(index / 100)
    assert opened == [4]
    assert keyframes.load(8).weight == 0.5
    keyframes.load(0)
    assert opened == [4, 0]


def test_loader_keeps_few_keyframes() -> None:
    made = []

    class NotingMaker(BicubicMaker):
        def make(self, lr: Tensor, size: tuple[int, int], index: int = 0) -> Tensor:
            made.append(index)
            return super().make(lr, size, index)

    keyframes = KeyframeLoader(lambda start: clip(start, 100), NotingMaker(), (16, 24), kept=2)  # type: ignore[arg-type, return-value]
    for index in (0, 10, 20, 30, 30, 20, 10):
        keyframes.load(index)
    assert made == [0, 10, 20, 30, 10]


class CountingSession(DelayedSession):
    """Notes how many restored chunks are still alive when the next one is made."""

    chunks: ClassVar[list[weakref.ref[Tensor]]] = []

    def push(self, lr: Tensor) -> Tensor:
        alive = sum(chunk() is not None for chunk in self.chunks)
        assert alive == 0, f"{alive} restored chunks are held while frame {len(self.chunks)} is made"
        restored = self._up([lr])
        self.chunks.append(weakref.ref(restored))
        return restored

    def finish(self) -> Tensor:
        return self._up([])


class CountingModel(DelayedModel):
    def open_session(self, request: ShotRequest) -> Session:
        return CountingSession(self, request)


def test_no_restored_chunk_is_held_while_the_next_is_made() -> None:
    CountingSession.chunks = []
    out = list(restore_shots(CountingModel(), clip(0, 9), [Shot(0, 4), Shot(4, 9)], [], None, settings(2)))
    assert len(out) == 9
    assert len(CountingSession.chunks) == 5


def test_keyframes_are_let_go_with_their_shot() -> None:
    keyframes = loader(12)
    shots = [Shot(0, 6), Shot(6, 12)]
    held = []
    for frame, _ in restore_shots(DelayedModel(), clip(0, 12), shots, [0, 4, 7], keyframes, settings(6)):
        if frame.index in (5, 11):
            held.append(sorted(keyframes._cache))
    assert held == [[0, 4], [7]]
    assert not keyframes._cache
