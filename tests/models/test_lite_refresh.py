"""Where nothing can be carried to, the frame itself is upscaled: there, and only there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.models.interface import ShotRequest
from sparkvsr.models.lite.model import LiteModel
from sparkvsr.models.lite.refresh import TRUSTED, refreshed
from sparkvsr.models.lite.weights import load_propagator


class Counter:
    """Stands for the detail network: a bluer picture, and how many LR pixels it was asked for."""

    def __init__(self, tint: float = 1.0) -> None:
        self.pixels = 0
        self.tint = tint

    def upscale(self, image: Tensor) -> Tensor:
        self.pixels += image.shape[-2] * image.shape[-1]
        made = F.interpolate(image[None], scale_factor=4, mode="bicubic", align_corners=False)[0].clamp(0, 1)
        made[2] = torch.maximum(made[2], torch.tensor(self.tint))
        return made


def test_only_what_is_not_covered_is_made_anew():
    lr = torch.rand(1, 3, 64, 96)
    covered = torch.ones(1, 1, 64, 96)
    covered[..., 20:44, 30:60] = 0.1
    network = Counter()
    patches, after = refreshed(lr, covered, network.upscale)
    image = torch.zeros(1, 3, 256, 384)
    for patch in patches:
        patch.put_on(image)
    blue = F.avg_pool2d(image, 4)[0, 2]
    assert blue[24:40, 34:56].min() > 0.99
    assert blue[covered[0, 0] == 1].max() < 0.6
    assert blue[:12].max() == 0
    assert blue[:, 76:].max() == 0
    assert network.pixels < 0.5 * 64 * 96
    assert (after >= covered).all()
    assert after[..., 24:40, 34:56].min() > TRUSTED


def test_specks_are_not_worth_it_and_a_lost_frame_is_made_as_a_whole():
    lr = torch.rand(1, 3, 64, 96)
    specks = torch.ones(1, 1, 64, 96)
    specks[..., 10:13, 10:13] = 0
    specks[..., 40:44, 80:83] = 0
    network = Counter()
    assert refreshed(lr, specks, network.upscale)[0] == []
    assert network.pixels == 0
    (patch,), after = refreshed(lr, torch.zeros(1, 1, 64, 96), network.upscale)
    assert patch.picture.shape == (1, 3, 256, 384)
    assert network.pixels == 64 * 96
    assert after.min() == 1


def test_moving_noise_is_as_sharp_as_single_frames_and_a_standing_picture_costs_one_keyframe():
    generator = torch.Generator().manual_seed(0)
    noise = F.interpolate(torch.rand(5, 3, 24, 32, generator=generator), scale_factor=2, mode="bicubic").clamp(0, 1)
    network = Counter(tint=0.0)
    model = LiteModel(load_propagator(), network, "cpu", torch.float32, "test", "vivid")  # type: ignore[arg-type]
    made = model.restore(noise)
    for frame, source in zip(made, noise, strict=True):
        single = network.upscale(source)
        assert (frame - single).abs().mean() < 0.02
        assert frame.std() > 0.97 * single.std()
    network.pixels = 0
    model.restore(noise[:1].repeat(5, 1, 1, 1))
    assert network.pixels == noise[0, 0].numel()


def test_what_was_made_anew_is_carried_on_and_state_goes_along():
    """The state holds how far the last output is trusted, so that a session goes on where another one stopped."""
    generator = torch.Generator().manual_seed(1)
    lr = F.interpolate(torch.rand(4, 3, 12, 16, generator=generator), scale_factor=4, mode="bicubic").clamp(0, 1)
    lr = lr.repeat_interleave(2, 0)
    model = LiteModel(load_propagator(), Counter(), "cpu", torch.float32, "test", "vivid")  # type: ignore[arg-type]
    wanted = ShotRequest(8, (48, 64), (192, 256), {})
    first = model.open_session(wanted)
    first.push(lr[:3])
    second = model.open_session(wanted)
    second.import_state(first.export_state(), 3)
    assert torch.equal(second.push(lr[3:]), first.push(lr[3:]))
