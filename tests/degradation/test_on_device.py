"""The same steps on the device and in the loader: equal where nothing is drawn, of the same statistics elsewhere.

The device here is the CPU, with the code that would run on a GPU.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.degradation.blur import BlurRange, draw_kernels
from sparkvsr.degradation.on_device import run_steps_on_device
from sparkvsr.degradation.recorded import RecordedDegradation
from sparkvsr.degradation.second_order import SecondOrderDegradation
from sparkvsr.degradation.steps import (
    Blur,
    Codec,
    GaussianBlur,
    GaussianNoise,
    GrainyNoise,
    Jpeg,
    PoissonNoise,
    Reduce,
    Resize,
    Step,
    run_steps,
)

SEEDS = 5


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Three frames of 70x90: a moving gradient, fine stripes, hard edges."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 70), torch.linspace(0, 1, 90), indexing="ij")
    frames = [torch.stack([x, (y > 0.4).float(), 0.5 + 0.4 * torch.sin(60 * (x + y) + 0.3 * t)]) for t in range(3)]
    return torch.stack(frames).mul(255).round().div(255)


def difference(clip: Tensor, step: Step) -> float:
    loader, device = run_steps(clip, [step]), run_steps_on_device(clip, [step])
    assert loader.shape == device.shape
    return float((loader - device).abs().max())


@pytest.mark.parametrize("kind", ["aniso", "generalized_aniso", "plateau_iso", "sinc"])
def test_blurs_are_equal(clip: Tensor, kind: str) -> None:
    spec = BlurRange(1.0, shares={kind: 1.0})
    for seed in range(3):
        kernels = draw_kernels(spec, 3, np.random.default_rng(seed), flickering_shape=True)
        assert kernels is not None
        assert difference(clip, Blur(kernels)) < 2e-5
    assert difference(clip, GaussianBlur(1.7)) < 2e-5


@pytest.mark.parametrize("interpolation", ["linear", "area", "cubic"])
@pytest.mark.parametrize("size", [(34, 44), (18, 22), (64, 84), (92, 118), (70, 100)], ids=str)
def test_resizes_are_equal(clip: Tensor, interpolation: str, size: tuple[int, int]) -> None:
    assert difference(clip, Resize(size, interpolation)) < 5e-5  # type: ignore[arg-type]


def test_reductions_are_equal(clip: Tensor) -> None:
    whole = clip[..., :68, :88]
    assert difference(whole, Reduce((17, 22), "area")) < 1e-6
    assert difference(whole, Reduce((17, 22), "bicubic")) < 1e-6


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("size", [(64, 80), (70, 90), (37, 51)], ids=str)
def test_jpeg_is_that_of_opencv(clip: Tensor, swapped: bool, size: tuple[int, int]) -> None:
    part = clip[..., : size[0], : size[1]]
    for qualities in ((30, 45, 60), (75, 88, 95)):
        step = Jpeg(qualities, swapped)
        levels = (run_steps(part, [step]) - run_steps_on_device(part, [step])).abs() * 255
        assert float(levels.max()) <= 1.01
        assert float((levels > 0.5).float().mean()) < 0.002, "single pixels, by one level"


def moments(noise: Tensor) -> list[float]:
    values = noise.double().flatten()
    deviation = values.std()
    return [float(values.mean()), float(deviation), float(((values / deviation) ** 4).mean())]


@pytest.mark.parametrize(
    "step",
    [
        GaussianNoise(0.05, False, 1),
        GaussianNoise(0.05, True, 2),
        PoissonNoise(1.5, False, False, 3),
        PoissonNoise(1.5, True, False, 4),
        PoissonNoise(2.5, False, True, 5),
        GrainyNoise(0.03, 0.8, 6),
    ],
    ids=lambda step: type(step).__name__,
)
def test_noise_has_the_same_moments_and_repeats(step: Step) -> None:
    ramp = torch.linspace(0.1, 0.9, 128).expand(2, 3, 128, 128).contiguous()
    loader, device = (run(ramp, [step]) - ramp for run in (run_steps, run_steps_on_device))
    assert torch.equal(run_steps_on_device(ramp, [step]) - ramp, device)
    for ours, theirs, tolerance in zip(moments(device), moments(loader), (2e-3, 1e-3, 0.15), strict=True):
        assert ours == pytest.approx(theirs, abs=tolerance)
    # Dark and bright columns apart, and channels alike or not.
    for columns in (slice(0, 40), slice(88, 128)):
        assert float(device[..., columns].std()) == pytest.approx(float(loader[..., columns].std()), rel=0.06)
    same = [bool(torch.allclose(noise[:, 0], noise[:, 2], atol=1e-6)) for noise in (loader, device)]
    assert same[0] == same[1] == getattr(step, "is_grey", False)


def test_codecs_are_the_same_in_the_middle_of_a_chain(clip: Tensor) -> None:
    steps: list[Step] = [Codec("mpeg4", bit_rate=40_000), Resize((34, 44), "linear")]
    assert float((run_steps(clip, steps) - run_steps_on_device(clip, steps)).abs().max()) < 1e-5


@pytest.mark.parametrize(
    "degradation", [SecondOrderDegradation(), RecordedDegradation()], ids=lambda made: type(made).__name__
)
def test_whole_chains_agree_in_distribution(degradation: SecondOrderDegradation | RecordedDegradation) -> None:
    """Pictures of the same drawn parameters: as light, as busy, and as far from each other as two draws of noise."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 64), torch.linspace(0, 1, 64), indexing="ij")
    clip = torch.stack([x, y, 0.5 + 0.4 * torch.sin(30 * (x + y))]).expand(2, 3, 64, 64).contiguous()
    apart, busy, histogram = [], [], torch.zeros(2, 8)
    for seed in range(SEEDS):
        pair = []
        for number, run in enumerate((run_steps, run_steps_on_device)):
            steps = degradation.draw(2, (64, 64), np.random.default_rng(seed))
            lr = run(clip, steps)
            assert lr.shape == (2, 3, 16, 16)
            assert 0 <= float(lr.min()) <= float(lr.max()) <= 1
            pair.append(lr)
            histogram[number] += torch.histc(lr, 8, 0, 1) / lr.numel()
        apart.append(float(pair[0].mean() - pair[1].mean()))
        busy.append([float(lr.diff(dim=-1).abs().mean()) for lr in pair])
    assert abs(float(np.mean(apart))) < 0.01
    assert max(map(abs, apart)) < 0.06
    loader, device = np.array(busy).mean(0)
    assert device == pytest.approx(loader, rel=0.06)
    assert float((histogram[0] - histogram[1]).abs().sum()) / SEEDS < 0.06


def test_calling_carries_out_what_is_drawn(clip: Tensor) -> None:
    whole = clip[..., :68, :88]
    for degradation in (SecondOrderDegradation(), RecordedDegradation(), BicubicDegradation(crf=(20, 30))):
        steps = degradation.draw(3, (68, 88), np.random.default_rng(4))
        assert torch.equal(run_steps(whole, steps), degradation(whole, np.random.default_rng(4)))


def test_stills_of_the_published_pipeline_are_8_bit(clip: Tensor) -> None:
    for seed in range(4):
        lr = (
            SecondOrderDegradation(quirks=True)(clip[:1, :, :68, :88], np.random.default_rng(seed), is_image=True) * 255
        )
        assert float((lr - lr.round()).abs().max()) < 1e-3
