"""The same names in other libraries, where they are installed (pyiqa is non-commercial and optional)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from reference_formulas import distorted, textured

from sparkvsr.errors import MetricError
from sparkvsr.metrics import colour, fidelity


def test_pyiqa_psnr_and_ssim() -> None:
    pyiqa = pytest.importorskip("pyiqa")
    hr = textured(1, (96, 128))
    sr = distorted(hr)
    tensors = [torch.from_numpy(np.ascontiguousarray(x.transpose(2, 0, 1))[None]).float() / 255 for x in (sr, hr)]
    luma = [colour.luma_bt601(x) for x in (sr, hr)]
    assert fidelity.psnr(sr, hr)[0] == pytest.approx(float(pyiqa.create_metric("psnr")(*tensors)), abs=1e-3)
    psnr_y = pyiqa.create_metric("psnry", color_space="ycbcr")
    assert fidelity.psnr(*luma)[0] == pytest.approx(float(psnr_y(*tensors)), abs=1e-3)
    yiq = [colour.luma_yiq_rounded(x) for x in (sr, hr)]
    ssim = pyiqa.create_metric("ssim")
    # One luma in a thousand lies halfway between two integers, where either library's last bit decides.
    assert fidelity.ssim(*yiq, clamp_structure=True) == pytest.approx(float(ssim(*tensors)), abs=5e-5)


def test_pyiqa_networks_are_filled_from_our_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights in a file of the right name; pyiqa's own cache and the network stay out of it."""
    pyiqa = pytest.importorskip("pyiqa")
    from sparkvsr.metrics.toolbox import Toolbox
    from sparkvsr.pretrained import weights

    network = pyiqa.create_metric("musiq", device=torch.device("cpu"), pretrained=False)
    torch.save(network.net.state_dict(), tmp_path / "musiq.pth")
    file = weights.KnownFile("musiq.pth", "")
    monkeypatch.setitem(weights.WEIGHTS, "musiq", weights.WeightSet("musiq", (file,), 0, "", ""))
    image = torch.from_numpy(textured(1, (96, 128)).transpose(2, 0, 1)[None].copy()).float() / 255
    ours = Toolbox(weights.WeightStore(tmp_path)).pyiqa("musiq")
    assert float(ours(image)) == pytest.approx(float(network(image)), rel=1e-5)
    with pytest.raises(MetricError, match="weights 'maniqa' are missing"):
        Toolbox(weights.WeightStore(tmp_path)).pyiqa("maniqa")


def test_cvvdp_sees_no_difference_between_identical_clips() -> None:
    pytest.importorskip("pycvvdp")
    from sparkvsr.metrics.catalogue import METRICS
    from sparkvsr.metrics.clip_meter import ClipMeter
    from sparkvsr.metrics.toolbox import Toolbox
    from sparkvsr.pretrained.weights import WeightStore

    frames = [np.roll(textured(1), i, axis=1) for i in range(3)]
    means = []
    for sr in (frames, [distorted(frame) for frame in frames]):
        meter = ClipMeter([METRICS["cvvdp"]], Toolbox(WeightStore()), fps=24)
        for a, b in zip(sr, frames, strict=True):
            meter.update(a, b)
        means.append(meter.finish()["cvvdp"].mean)
    assert means[0] == pytest.approx(10, abs=1e-3)
    assert means[1] < 9.5
