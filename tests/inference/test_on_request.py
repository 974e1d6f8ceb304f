"""Frames on request: any order gives what the order of the clip gives, and a window bounds what is kept."""

from __future__ import annotations

from fractions import Fraction

import pytest
import torch

from sparkvsr.errors import ConfigError, DecodeError
from sparkvsr.inference.stream import on_request
from sparkvsr.inference.stream.on_request import FramesOnRequest
from sparkvsr.inference.upscale import make_options
from sparkvsr.models.registry import load_model

FRAMES, CUT = 26, 11


def picture(index: int) -> torch.Tensor:
    coarse = torch.rand(1, 3, 6, 10, generator=torch.Generator().manual_seed(int(index >= CUT)))
    texture = torch.nn.functional.interpolate(coarse, size=(24, 64), mode="bilinear")[0]
    return torch.roll(texture, index // 2, 2)[:, :, :32].contiguous()


def opened(**options: object) -> tuple[FramesOnRequest, list[int]]:
    read: list[int] = []

    def look(index: int) -> torch.Tensor:
        read.append(index)
        return picture(index)

    chosen = make_options(keyframes="every:8", references="bicubic", scale=2, **options)
    model = load_model("lite", device="cpu", dtype="fp32", look="faithful")
    return FramesOnRequest(look, FRAMES, (24, 32), Fraction(25), chosen, model, lambda text: None, window=4), read


def test_any_order_gives_the_same_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_request, "STATE_EVERY", 4)
    clip, read = opened()
    expected = [clip.frame(index).clone() for index in range(FRAMES)]
    assert clip.size == (48, 64)
    assert read == list(range(FRAMES))
    assert len(clip._done) == 4
    for index in (25, 3, 20, 12, 0):
        assert torch.equal(clip.frame(index), expected[index]), index
    fresh, _ = opened()
    for index in (19, 2):
        assert torch.equal(fresh.frame(index), expected[index]), index
    with pytest.raises(DecodeError, match="frame 26 was asked for; the clip has 26"):
        clip.frame(FRAMES)


def test_what_cannot_be_asked_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="--guidance 11"):
        opened(guidance_scale=11)
