"""Film in television's rate is told from what its frames show, and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from sparkvsr.video.cadence import Cadence

WORLD = torch.nn.functional.interpolate(
    torch.rand(1, 3, 20, 60, generator=torch.Generator().manual_seed(1)), scale_factor=6, mode="bicubic"
)[0].clamp(0, 1)


def film(count: int) -> list[Tensor]:
    """A pan, with a cut and some noise as an encoder leaves it."""
    noise = torch.Generator().manual_seed(2)
    found = []
    for k in range(count):
        picture = WORLD if k < count // 2 else WORLD.flip(-1)
        left = 3 * (k % (count // 2))
        found.append(picture[:, 10:74, left : left + 96] + 0.004 * torch.randn(3, 64, 96, generator=noise))
    return found


def pulled_down(frames: Sequence[Tensor]) -> list[Tensor]:
    """Two fields of one, three of the next, and so on."""
    fields = [frame for k, frame in enumerate(frames) for _ in range(2 + k % 2)]
    found = []
    for top, bottom in zip(fields[::2], fields[1::2], strict=False):
        mixed = top.clone()
        mixed[:, 1::2] = bottom[:, 1::2]
        found.append(mixed)
    return found


def repeated(frames: Sequence[Tensor]) -> list[Tensor]:
    return [frame for k, frame in enumerate(frames) for _ in range(2 if k % 4 == 3 else 1)]


def note_of(frames: Sequence[Tensor]) -> str | None:
    cadence = Cadence()
    for frame in frames:
        cadence.see(frame)
    return cadence.note()


def test_pulldown_is_told() -> None:
    frames = film(64)
    assert "every 5th frame repeats" in (note_of(repeated(frames)) or "")
    assert "2 of 5 frames mix" in (note_of(pulled_down(frames)) or "")


@pytest.mark.parametrize("kind", ["film", "twos", "still", "short", "combed", "one pixel"])
def test_other_clips_are_left_alone(kind: str) -> None:
    frames = film(64)
    clips = {
        "film": frames,
        "twos": [frame for frame in frames[:32] for _ in range(2)],
        "still": [frames[0]] * 60,
        "short": repeated(frames[:12]),
        "combed": [pulled_down(frames[k : k + 3])[1] for k in range(0, 60)],
        "one pixel": [frame[:, :1, :1] for frame in frames],
    }
    assert note_of(clips[kind]) is None
