"""LPIPS, DISTS and NIQE against libraries that hold the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from reference_formulas import basicsr_luma, basicsr_niqe, distorted, textured

from sparkvsr.losses.perceptual import dists_network, lpips_network
from sparkvsr.metrics.niqe import Niqe
from sparkvsr.metrics.perceptual import PerceptualMetric
from sparkvsr.metrics.toolbox import Toolbox
from sparkvsr.pretrained import loading, perceptual
from sparkvsr.pretrained.weights import WeightStore

LAYERS = {"alexnet": (0, 3, 6, 8, 10), "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
FILES = {"alexnet": "alexnet-owt-7be5be79.pth", "vgg16": "vgg16-397923af.pth"}


def images() -> tuple[torch.Tensor, torch.Tensor]:
    hr = textured(1, (64, 80))
    return tuple(torch.from_numpy(x.transpose(2, 0, 1)[None].copy()).float() / 255 for x in (distorted(hr), hr))  # type: ignore[return-value]


def library_weights(name: str, home: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random convolutions, also put where torchvision looks for its own, so that torchmetrics takes them."""
    with torch.device("meta"):  # shapes only: filling 138 M numbers takes seconds
        shapes = {key: value.shape for key, value in getattr(torchvision.models, name)().state_dict().items()}
    state = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    convolutions = []
    for layer in LAYERS[name]:
        weight, bias = f"features.{layer}.weight", f"features.{layer}.bias"
        fan_in = shapes[weight][1:].numel()
        state[weight] = torch.randn(shapes[weight]) * (2 / fan_in) ** 0.5
        state[bias] = torch.full(shapes[bias], 0.05)
        convolutions.append((state[weight], state[bias]))
    folder = home / "hub" / "checkpoints"
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(state, folder / FILES[name])
    return convolutions


@pytest.mark.parametrize(("name", "net", "heads"), [("alexnet", "alex", "alex"), ("vgg16", "vgg", "vgg")])
def test_lpips_equals_torchmetrics(
    name: str, net: str, heads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    convolutions = library_weights(name, tmp_path)
    from torchmetrics.image import LearnedPerceptualImagePatchSimilarity

    reference = LearnedPerceptualImagePatchSimilarity(net, normalize=True)  # type: ignore[arg-type]
    found = WeightStore().require(f"lpips_lin_{heads}")  # shipped inside torchmetrics
    ours = PerceptualMetric(perceptual.Lpips(convolutions, loading.linear_heads(found)))
    sr, hr = images()
    assert ours(sr, hr) == pytest.approx(float(reference(sr, hr)), rel=1e-5)
    assert ours(hr, hr) == 0


def test_dists_equals_torchmetrics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    convolutions = library_weights("vgg16", tmp_path)
    from torchmetrics.image import DeepImageStructureAndTextureSimilarity

    parameters = loading.state_dict(WeightStore().require("dists"))
    ours = PerceptualMetric(perceptual.Dists(convolutions, parameters["alpha"], parameters["beta"]))
    sr, hr = images()
    assert ours(sr, hr) == pytest.approx(float(DeepImageStructureAndTextureSimilarity()(sr, hr).detach()), rel=1e-4)
    assert ours(hr, hr) == pytest.approx(0, abs=1e-5)


@pytest.mark.shared
def test_values_with_the_real_weights(shared_dir: Path) -> None:
    """Values of torchmetrics 1.9 with the float32 weights, computed once; our fp16 copies move the fifth digit."""
    sr, hr = images()
    weights = shared_dir / "weights"
    tools = Toolbox(WeightStore(weights))
    measured = [measure(sr, hr) for measure in (tools.lpips_alex, tools.lpips_vgg, tools.dists)]
    assert measured == pytest.approx(REAL_VALUES, abs=2e-4)
    losses = [lpips_network("alex", weights), lpips_network("vgg", weights), dists_network(weights)]
    assert [float(loss(sr, hr)) for loss in losses] == pytest.approx(REAL_VALUES, abs=2e-4)


REAL_VALUES = (0.33024, 0.25430, 0.23105)


def niqe_parameters(folder: Path) -> Path:
    """Parameters of the right form; the real ones are not part of the tests."""
    rng = np.random.default_rng(0)
    basis = rng.standard_normal((36, 36))
    axis = np.exp(-(np.arange(-3, 4) ** 2) / (2 * (7 / 6) ** 2))
    window = np.outer(axis, axis)
    path = folder / "niqe_pris_params.npz"
    np.savez(
        path, mu_pris_param=rng.random((1, 36)), cov_pris_param=basis @ basis.T / 36,
        gaussian_window=window / window.sum(),
    )  # fmt: skip
    return path


def test_niqe_equals_basicsr(tmp_path: Path) -> None:
    path = niqe_parameters(tmp_path)
    luma = basicsr_luma(textured(1, (200, 300)))
    with np.load(path) as stored:
        expected = basicsr_niqe(luma, stored["mu_pris_param"], stored["cov_pris_param"], stored["gaussian_window"])
    assert Niqe(path)(luma.astype(np.float32)) == pytest.approx(expected, rel=1e-9)


def test_niqe_has_no_value_for_flat_and_small_frames(tmp_path: Path) -> None:
    niqe = Niqe(niqe_parameters(tmp_path))
    assert niqe(np.full((200, 300), 16.0, np.float32)) is None
    assert niqe(basicsr_luma(textured(1, (96, 120))).astype(np.float32)) is None


@pytest.mark.shared
def test_niqe_with_the_real_parameters_ranks_noise_below_texture(shared_dir: Path) -> None:
    niqe = Niqe(WeightStore(shared_dir / "weights").require("niqe").path)
    noise = np.random.default_rng(0).uniform(16, 235, (200, 300)).astype(np.float32)
    clean = basicsr_luma(textured(1, (200, 300))).astype(np.float32)
    noisy, better = niqe(noise), niqe(clean)
    assert noisy is not None
    assert better is not None
    assert better < noisy
