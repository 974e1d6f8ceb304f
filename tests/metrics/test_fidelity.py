"""PSNR and SSIM against BasicSR's formulas and scikit-image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from reference_formulas import basicsr_luma, basicsr_psnr, basicsr_ssim, distorted, textured
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from sparkvsr.errors import MetricError
from sparkvsr.metrics import colour, fidelity, functional

PSNR_TOLERANCE_DB = 1e-5  # luma is float32
SSIM_TOLERANCE = 2e-6  # float32 filters; the project's limit is 1e-5

SIZES = [(72, 88), (37, 53), (11, 11)]


@pytest.fixture(params=SIZES, ids=str)
def pair(request: pytest.FixtureRequest) -> tuple[np.ndarray, np.ndarray]:
    hr = textured(1, request.param)
    return distorted(hr), hr


def test_rgb_values_equal_basicsr(pair: tuple[np.ndarray, np.ndarray]) -> None:
    sr, hr = pair
    assert fidelity.psnr(sr, hr)[0] == pytest.approx(basicsr_psnr(sr, hr), abs=1e-9)
    assert fidelity.ssim(sr, hr) == pytest.approx(basicsr_ssim(sr, hr), abs=SSIM_TOLERANCE)


def test_luma_values_equal_basicsr(pair: tuple[np.ndarray, np.ndarray]) -> None:
    sr, hr = pair
    sr_y, hr_y = colour.luma_bt601(sr), colour.luma_bt601(hr)
    expected = basicsr_psnr(basicsr_luma(sr), basicsr_luma(hr))
    assert fidelity.psnr(sr_y, hr_y)[0] == pytest.approx(expected, abs=PSNR_TOLERANCE_DB)
    assert fidelity.ssim(sr_y, hr_y) == pytest.approx(
        basicsr_ssim(basicsr_luma(sr), basicsr_luma(hr)), abs=SSIM_TOLERANCE
    )


def test_rgb_values_equal_scikit_image() -> None:
    hr = textured(2)
    sr = distorted(hr)
    assert fidelity.psnr(sr, hr)[0] == pytest.approx(peak_signal_noise_ratio(hr, sr, data_range=255), abs=1e-9)
    _, full = structural_similarity(
        hr.astype(np.float64), sr.astype(np.float64), channel_axis=2, gaussian_weights=True, sigma=1.5,
        use_sample_covariance=False, data_range=255, full=True,
    )  # fmt: skip
    assert fidelity.ssim(sr, hr) == pytest.approx(full[5:-5, 5:-5].mean(), abs=SSIM_TOLERANCE)


def test_psnr_y_is_the_limited_range_one() -> None:
    """Full-range luma, which some libraries use, gives 20 log10(219/255) dB less."""
    hr = textured(3)
    sr = distorted(hr)
    full_range = basicsr_psnr((basicsr_luma(sr) - 16) * 255 / 219, (basicsr_luma(hr) - 16) * 255 / 219)
    ours = fidelity.psnr(colour.luma_bt601(sr), colour.luma_bt601(hr))[0]
    assert ours - full_range == pytest.approx(20 * math.log10(255 / 219), abs=1e-4)


def test_ssim_is_accurate_on_bright_flat_areas() -> None:
    """float32 without centring loses E[x^2] - E[x]^2 there."""
    rng = np.random.default_rng(0)
    hr = (250 + rng.integers(0, 3, (64, 64, 3))).astype(np.uint8)
    sr = (250 + rng.integers(0, 3, (64, 64, 3))).astype(np.uint8)
    assert fidelity.ssim(sr, hr) == pytest.approx(basicsr_ssim(sr, hr), abs=SSIM_TOLERANCE)


def test_identical_frames_are_capped_and_said_so() -> None:
    frame = textured(4)
    assert fidelity.psnr(frame, frame) == (fidelity.PSNR_CAP_DB, True)
    assert fidelity.ssim(frame, frame) == pytest.approx(1.0, abs=1e-6)


def test_ssim_yiq_equals_the_formula_of_pyiqa() -> None:
    hr = textured(5)
    sr = distorted(hr)
    weights = np.array([0.299, 0.587, 0.114])
    expected = basicsr_ssim(np.rint(sr @ weights), np.rint(hr @ weights))
    value = fidelity.ssim(colour.luma_yiq_rounded(sr), colour.luma_yiq_rounded(hr), clamp_structure=True)
    assert value == pytest.approx(expected, abs=1e-5)  # no negative structure in this pair, so clamping is idle


def test_ms_ssim_agrees_with_torchmetrics() -> None:
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure as reference

    hr = textured(6, (192, 208))
    sr = distorted(hr)
    tensors = [torch.from_numpy(x.transpose(2, 0, 1)[None].astype(np.float64)) for x in (sr, hr)]
    # torchmetrics pads where we use the valid region.
    assert fidelity.ms_ssim(sr, hr) == pytest.approx(float(reference(*tensors, data_range=255.0)), abs=3e-3)
    assert fidelity.ms_ssim(hr, hr) == pytest.approx(1.0, abs=1e-6)


def test_functions_take_float_tensors_and_round_them() -> None:
    hr, sr = textured(7), distorted(textured(7))
    as_tensors = [torch.from_numpy(x.transpose(2, 0, 1).copy()).float() / 255 + 0.001 for x in (sr, hr)]
    assert functional.psnr(*as_tensors) == fidelity.psnr(sr, hr)[0]
    assert functional.ssim(*as_tensors) == fidelity.ssim(sr, hr)
    inner = (sr[4:-4, 4:-4], hr[4:-4, 4:-4])
    assert functional.psnr(sr, hr, border=4) == pytest.approx(basicsr_psnr(*inner), abs=1e-9)
    assert functional.psnr_y(sr, hr, border=4) == pytest.approx(
        basicsr_psnr(*map(basicsr_luma, inner)), abs=PSNR_TOLERANCE_DB
    )
    assert functional.ssim_y(sr, hr) == pytest.approx(
        basicsr_ssim(basicsr_luma(sr), basicsr_luma(hr)), abs=SSIM_TOLERANCE
    )


@pytest.mark.parametrize("function", [fidelity.psnr, fidelity.ssim])
def test_different_sizes_are_refused(function: object) -> None:
    with pytest.raises(MetricError, match="88x72x3 but the ground truth 88x64x3"):
        function(textured(0), textured(0, (64, 88)))  # type: ignore[operator]


def test_too_small_frames_are_refused() -> None:
    small = textured(0, (10, 40))
    with pytest.raises(MetricError, match="at least 11x11 pixels, got 40x10"):
        fidelity.ssim(small, small)
    with pytest.raises(MetricError, match="at least 161 pixels"):
        fidelity.ms_ssim(textured(0), textured(0))


def test_wrong_layouts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"must be float \(3, H, W\)"):
        colour.to_uint8(torch.zeros(4, 8, 8))
    with pytest.raises(ValueError, match="int64"):
        colour.to_uint8(np.zeros((3, 8, 8), dtype=np.int64))


def test_rounding_clips_and_rounds_to_nearest() -> None:
    pixels = torch.tensor([-0.5, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 1.5]).view(1, 1, 6).expand(3, 1, 6)
    assert colour.to_uint8(pixels)[0, :, 0].tolist() == [0, 0, 0, 1, 255, 255]
