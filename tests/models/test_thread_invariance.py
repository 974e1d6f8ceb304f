"""What `is_thread_invariant` promises: the same bits with any number of threads, so that any worker may render."""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import pytest
import torch

import sparkvsr
from sparkvsr.models.interface import Keyframe, ShotRequest


@pytest.fixture(autouse=True)
def _kept_threads() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


@pytest.mark.parametrize("name", ["lite", "bicubic"])
@pytest.mark.parametrize("guidance", [1.0, 1.5])
def test_the_same_bits_with_any_number_of_threads(name: str, guidance: float) -> None:
    h, w = 90, 122
    grid = torch.linspace(0, 20, h)[:, None] + torch.linspace(0, 30, w)[None]
    frames = [torch.stack([(grid + k).sin(), (grid - k).cos(), grid.sin()]) * 0.4 + 0.5 for k in range(4)]
    lr = (torch.stack(frames) + 0.05 * torch.rand(4, 3, h, w)).clamp(0, 1)
    hr = torch.rand(3, 4 * h, 4 * w)
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
        model = sparkvsr.load_model(name, device="cpu", look="faithful" if name == "lite" else None)
        assert model.is_thread_invariant
        request = ShotRequest(4, (h, w), (4 * h, 4 * w), {1: Keyframe(lr[1], hr)}, guidance_scale=guidance)
        session = model.open_session(request)
        with torch.inference_mode():
            results.append(torch.cat([session.push(lr), session.finish()]))
    assert torch.equal(*results)


def test_the_vivid_look_does_not_promise_it() -> None:
    """Its detail network gives other last bits with more than two threads, so the work folder keeps them apart."""
    assert not sparkvsr.load_model("lite", device="cpu", look="vivid").is_thread_invariant
