"""The second-order pipeline: sizes, reproducibility, and the parameters of docs/method.md 5.3."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.degradation import codec
from sparkvsr.degradation.bicubic import BicubicDegradation
from sparkvsr.degradation.blur import BlurRange, apply_kernels, draw_kernels, gaussian_kernel, sinc_kernel
from sparkvsr.degradation.codec import CODECS, compress_bit_rate, compress_crf
from sparkvsr.degradation.jpeg import compress_jpeg, draw_qualities
from sparkvsr.degradation.mixed import MixedDegradation
from sparkvsr.degradation.noise import gaussian_noise, poisson_noise
from sparkvsr.degradation.second_order import SecondOrderDegradation
from sparkvsr.degradation.steps import Blur, Codec, Jpeg, PoissonNoise, Resize, run_steps
from sparkvsr.errors import ConfigError


@pytest.fixture(scope="module")
def clip() -> Tensor:
    """Six frames of a moving gradient with texture, 96x112."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 96), torch.linspace(0, 1, 112), indexing="ij")
    frames = [torch.stack([x, y, 0.5 + 0.4 * torch.sin(40 * (x + y) + 0.3 * t)]) for t in range(6)]
    return torch.stack(frames).float()


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_same_seed_gives_same_clip_at_a_quarter_of_the_size(clip: Tensor, quirks: bool, seed: int) -> None:
    degrade = SecondOrderDegradation(quirks=quirks)
    first = degrade(clip, np.random.default_rng(seed))
    second = degrade(clip, np.random.default_rng(seed))
    assert first.shape == (6, 3, 24, 28)
    assert torch.equal(first, second)
    assert float(first.min()) >= 0
    assert float(first.max()) <= 1


def test_another_seed_gives_another_clip(clip: Tensor) -> None:
    degrade = SecondOrderDegradation()
    assert not torch.equal(degrade(clip, np.random.default_rng(0)), degrade(clip, np.random.default_rng(1)))


def test_corrected_output_is_8_bit(clip: Tensor) -> None:
    levels = SecondOrderDegradation(quirks=False)(clip, np.random.default_rng(3)) * 255
    assert torch.allclose(levels, levels.round(), atol=1e-3)


def test_a_still_is_not_compressed_as_video(clip: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr("sparkvsr.degradation.steps.compress_bit_rate", refuse)
    assert SecondOrderDegradation()(clip[:1], np.random.default_rng(0), is_image=True).shape == (1, 3, 24, 28)


@pytest.mark.parametrize("name", CODECS)
@pytest.mark.parametrize("size", [(24, 28), (31, 45)])
def test_codecs_keep_frame_count_and_odd_sizes(clip: Tensor, name: str, size: tuple[int, int]) -> None:
    small = clip[..., : size[0], : size[1]]
    out = compress_bit_rate(small, name, 50_000)
    assert out.shape == small.shape
    assert torch.equal(out, compress_bit_rate(small, name, 50_000))
    assert float((out - small).abs().mean()) < 0.1


def test_more_crf_is_further_from_the_clip(clip: Tensor) -> None:
    errors = [float((compress_crf(clip, crf) - clip).abs().mean()) for crf in (5, 25, 45)]
    assert errors == sorted(errors)


def test_kernels_sum_to_one_and_sinc_has_its_known_centre() -> None:
    for kind, beta in (("gaussian", 1.0), ("generalized", 2.5), ("plateau", 1.5)):
        kernel = gaussian_kernel(13, (1.2, 2.4), 0.7, kind=kind, beta=beta)
        assert kernel.sum() == pytest.approx(1)
        assert np.allclose(kernel, kernel[::-1, ::-1])
    cutoff = math.pi / 2
    kernel = sinc_kernel(15, cutoff)
    # docs/method.md 5.4: centre w^2 / (4 pi) against w J1(w) / (2 pi) one pixel away
    ratio = (cutoff**2 / (4 * math.pi)) / (
        cutoff * float(torch.special.bessel_j1(torch.tensor(cutoff))) / (2 * math.pi)
    )
    assert kernel[7, 7] / kernel[7, 8] == pytest.approx(ratio, rel=1e-5)


def test_isotropic_gaussian_equals_the_textbook_formula() -> None:
    axis = np.arange(9) - 4
    expected = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    assert np.allclose(gaussian_kernel(9, (1.5, 1.5), 0.0), expected / expected.sum())


def test_kernel_shape_flickers_only_with_the_quirk() -> None:
    spec = BlurRange(1.0, shares={"generalized_iso": 1.0})
    kept = draw_kernels(spec, 5, np.random.default_rng(0), flickering_shape=False)
    flickering = draw_kernels(spec, 5, np.random.default_rng(0), flickering_shape=True)
    assert kept is not None
    assert flickering is not None
    assert torch.equal(kept[0], kept[4])
    assert not torch.equal(flickering[0], flickering[4])


def test_filter_reflects_without_repeating_the_edge() -> None:
    ramp = torch.arange(12.0).expand(1, 3, 12, 12)
    kernel = torch.zeros(1, 7, 7)
    kernel[0, 3, 0] = 1  # takes the pixel three to the left
    assert apply_kernels(ramp, kernel)[0, 0, 5, 0] == 3


@pytest.mark.parametrize("size", [7, 13, 21])
def test_filter_equals_kornia(clip: Tensor, size: int) -> None:
    from kornia.filters import filter2d

    kernels = torch.rand(6, size, size)
    kernels = kernels / kernels.sum(dim=(1, 2), keepdim=True)
    expected = filter2d(clip, kernels, border_type="reflect")
    # OpenCV filters with large kernels through a Fourier transform.
    assert float((apply_kernels(clip, kernels) - expected).abs().max()) < 1e-5


def test_resizing_equals_torch_where_both_mean_the_same(clip: Tensor) -> None:
    for name, mode in (("linear", "bilinear"), ("cubic", "bicubic")):
        for size in ((40, 50), (120, 150)):
            expected = torch.nn.functional.interpolate(clip, size=size, mode=mode, align_corners=False)
            assert torch.allclose(run_steps(clip, [Resize(size, name)]), expected, atol=1e-4)  # type: ignore[arg-type]
    # 1.5 pixels into one: the half ones count half
    ramp = torch.arange(6.0).expand(1, 3, 6, 6).contiguous()
    area = run_steps(ramp, [Resize((6, 4), "area")])
    assert torch.allclose(area[0, 0, 0], torch.tensor([(0 + 0.5) / 1.5, (0.5 + 2) / 1.5, (3 + 2) / 1.5, 7 / 1.5]))


def test_an_odd_side_is_padded_by_its_reflection(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(codec, "_encode", lambda frames, *rest: seen.append(frames))
    monkeypatch.setattr(codec, "_decode", lambda file: list(seen[-1]))
    ramp = torch.arange(5.0).div(255).expand(2, 3, 6, 5).contiguous()
    assert torch.equal(compress_bit_rate(ramp, "mpeg4", 1000), ramp)
    assert seen[0][0, 0, :, 0].tolist() == [0, 1, 2, 3, 4, 3]


def test_poisson_noise_is_16_times_weaker_with_the_quirk() -> None:
    grey = torch.full((2, 3, 64, 64), 0.5) + torch.linspace(0, 0.2, 64)
    deviations = [
        float(poisson_noise(grey, 2.0, np.random.default_rng(0), is_grey=False, is_weak=weak).std())
        for weak in (False, True)
    ]
    assert deviations[0] / deviations[1] == pytest.approx(math.sqrt(255), rel=0.1)


def test_gaussian_noise_has_the_drawn_strength() -> None:
    noise = gaussian_noise(torch.empty(2, 3, 64, 64), 20 / 255, np.random.default_rng(0), is_grey=False)
    assert float(noise.std()) * 255 == pytest.approx(20, rel=0.05)


def test_every_number_of_the_published_pipeline_is_a_key() -> None:
    """docs/method.md 5.3: one setting after the other, alone, changes what is drawn as it says."""

    def steps(kind: type, **settings: object) -> list[object]:
        degradation = SecondOrderDegradation(**settings)  # type: ignore[arg-type]
        drawn = [degradation.draw(4, (96, 112), np.random.default_rng(seed)) for seed in range(12)]
        return [step for one in drawn for step in one if isinstance(step, kind)]

    assert {step.kernels.shape[-1] for step in steps(Blur, kernel_sizes=[9])} == {9}  # type: ignore[attr-defined]
    none = {"blur_probability": 0, "blur_probability2": 0, "blur_probability_final": 0}
    assert not steps(Blur, **none)
    keep = {"resize_shares": {"keep": 1}, "resize_shares2": {"keep": 1}}
    assert {step.size for step in steps(Resize, **keep)} == {(24, 28)}  # type: ignore[attr-defined]
    up = {**keep, "resize_shares": {"up": 1}, "resize_up": [1.5, 1.5]}
    assert {step.size for step in steps(Resize, **up)} == {(144, 168), (24, 28)}  # type: ignore[attr-defined]
    down = {**keep, "resize_shares2": {"down": 1}, "resize_down2": [0.5, 0.5]}
    assert {step.size for step in steps(Resize, **down)} == {(48, 56), (24, 28)}  # type: ignore[attr-defined]
    cubic = steps(Resize, interpolations={"cubic": 1})
    assert {step.interpolation for step in cubic} == {"cubic"}  # type: ignore[attr-defined]
    light = steps(PoissonNoise, gaussian_share=0, gaussian_share2=0, grey_share=1, grey_share2=1)
    assert len(light) == 24
    assert all(step.is_grey for step in light)  # type: ignore[attr-defined]
    assert {step.name for step in steps(Codec, codec_shares={"mpeg4": 2})} == {"mpeg4"}  # type: ignore[attr-defined]
    jpeg = steps(Jpeg, jpeg_quality=[40, 40])
    assert {quality for step in jpeg for quality in step.qualities} == {40}  # type: ignore[attr-defined]
    drawn = SecondOrderDegradation(codec_first_share=1).draw(4, (96, 112), np.random.default_rng(0))
    assert not isinstance(drawn[-2], Codec)
    # A cut-off of pi lets everything through but what no grid can show, one of half of it only half.
    shares = {"sinc": 1.0}
    open_, half = (
        steps(Blur, kernel_shares=shares, sinc_cutoff=[c, c], sinc_cutoff_small=[c, c])[0] for c in (1.0, 0.5)
    )
    assert float(open_.kernels.max()) > 2 * float(half.kernels.max())  # type: ignore[attr-defined]
    thin = {"kernel_shares": {"aniso": 1}, "blur_sigma": [3, 3], "rotation": [90, 90]}
    assert len(steps(Blur, **thin)) > 12
    shape = {
        "kernel_shares": {"plateau_iso": 1},
        "blur_sigma": [2, 2],
        "kernel_sizes": [21],
        **{"beta_plateau": [1, 1]},
    }
    flat, steep = steps(Blur, **shape)[0], steps(Blur, **{**shape, "beta_plateau": [2, 2]})[0]
    assert float(flat.kernels[0, 0, 10]) > float(steep.kernels[0, 0, 10])  # type: ignore[attr-defined]


def test_jpeg_quality_walks_within_its_range() -> None:
    qualities = draw_qualities(40, (30, 95), 3.0, np.random.default_rng(0))
    assert all(30 <= quality <= 95 for quality in qualities)
    assert max(abs(a - b) for a, b in itertools.pairwise(qualities)) <= 4
    assert len(set(qualities)) > 5


def test_swapped_jpeg_keeps_colours_but_not_the_same_error() -> None:
    red = torch.zeros(1, 3, 32, 32)
    red[:, 0, :, ::2] = 1  # fine red stripes: full luma weight only when swapped right
    plain, swapped = (compress_jpeg(red, [50], swapped=s) for s in (False, True))
    assert float(plain[:, 0].mean() - plain[:, 2].mean()) > 0.2
    assert float(swapped[:, 0].mean() - swapped[:, 2].mean()) > 0.2
    assert not torch.equal(plain, swapped)


def test_bicubic_equals_torch_and_is_8_bit(clip: Tensor) -> None:
    lr = BicubicDegradation()(clip, np.random.default_rng(0))
    expected = torch.nn.functional.interpolate(clip, size=(24, 28), mode="bicubic", antialias=True)
    assert float((lr - expected.clamp(0, 1)).abs().max()) <= 0.5 / 255 + 1e-6


def test_mixture_draws_by_weight(clip: Tensor) -> None:
    mixture = MixedDegradation(
        {"clean": BicubicDegradation(), "rough": BicubicDegradation(crf=(51, 51))}, {"clean": 1.0, "rough": 0.0}
    )
    assert torch.equal(mixture(clip, np.random.default_rng(5)), BicubicDegradation()(clip, np.random.default_rng(5)))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: BicubicDegradation(crf=(30, 20)), "crf="),
        (lambda: SecondOrderDegradation(jpeg_quality=(90, 30)), "jpeg_quality"),
        (lambda: SecondOrderDegradation(margin=0.5), "margin"),
        (lambda: SecondOrderDegradation(kernel_sizes=[8]), "kernel_sizes"),
        (lambda: SecondOrderDegradation(codec_shares={"hevc": 1}), "codec_shares.hevc is unknown; use libx264"),
        (lambda: SecondOrderDegradation(resize_shares={"keep": 0}), "resize_shares"),
        (lambda: SecondOrderDegradation(grey_share2=2), "grey_share2"),
        (lambda: MixedDegradation({"a": BicubicDegradation()}, {"b": 1.0}), "same names"),
        (lambda: MixedDegradation({"a": BicubicDegradation()}, {"a": 0.0}), "above 0"),
    ],
)
def test_wrong_settings_are_refused(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()  # type: ignore[operator]
