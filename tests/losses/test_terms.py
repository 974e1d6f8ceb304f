"""Loss terms and their sum: values against plain formulas, who is due when, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError, MetricError
from sparkvsr.losses.adversarial import UNetDiscriminator, artefact_map, looks_fake, looks_real
from sparkvsr.losses.given import LossInputs
from sparkvsr.losses.terms import (
    L1,
    Artefacts,
    Charbonnier,
    Dists,
    FrameDifference,
    Frequency,
    FromModule,
    Latent,
    Lpips,
    Mse,
    piece,
)
from sparkvsr.losses.weighted import WeightedLoss

TOLERANCE = 1e-5


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Two batches ``(2, 3, 24, 32)``."""
    torch.manual_seed(2)
    return torch.rand(2, 3, 24, 32), torch.rand(2, 3, 24, 32)


def test_frequency_term_equals_numpys_transform(pair: tuple[Tensor, Tensor]) -> None:
    sr, hr = (image.numpy().astype(np.float64) for image in pair)
    difference = np.fft.rfft2(sr, norm="ortho") - np.fft.rfft2(hr, norm="ortho")
    expected = (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
    assert float(Frequency()(*pair)) == pytest.approx(expected, rel=1e-4)


def test_artefact_map_equals_the_variance_of_each_window(pair: tuple[Tensor, Tensor]) -> None:
    sr, hr = pair
    found = artefact_map(sr, hr, window=7)
    error = (sr - hr).abs().sum(1).numpy().astype(np.float64)
    expected = error[1, 5:12, 9:16].var(ddof=1) * error[1].var(ddof=1) ** 0.2
    assert float(found[1, 0, 8, 12]) == pytest.approx(expected, rel=1e-3)
    assert float(artefact_map(hr + 0.1, hr).max()) < TOLERANCE  # an even error is no artefact


def test_artefacts_pull_by_their_map(pair: tuple[Tensor, Tensor]) -> None:
    sr, hr = pair[0].requires_grad_(True), pair[1]
    Artefacts()(sr, hr).backward()
    assert sr.grad is not None
    expected = artefact_map(sr, hr) * (sr - hr).sign() / sr.numel()
    assert torch.allclose(sr.grad, expected.detach(), atol=1e-8)


def test_the_sum_takes_each_target_and_only_what_is_due(pair: tuple[Tensor, Tensor]) -> None:
    sr, truth = (image[:, None] for image in pair)
    teacher = torch.full_like(truth, 0.5)
    loss = WeightedLoss(
        {
            "l1": L1(2.0),
            "teacher": L1(0.5, target="teacher", every=2),
            "late": Charbonnier(1.0, start_step=3),
            "gone": None,
        }
    )
    assert loss.taught == ["teacher"]
    to_truth, to_teacher = float((sr - truth).abs().mean()), float((sr - 0.5).abs().mean())
    expected = {0: 2 * to_truth + 0.5 * 2 * to_teacher, 1: 2 * to_truth}

    def at(step: int) -> dict[str, Tensor]:
        return dict(loss(LossInputs(restored=sr, truth=truth, teacher=teacher, step=step)))

    for step, value in expected.items():
        assert float(at(step)["loss"]) == pytest.approx(value, abs=TOLERANCE)
    assert set(at(1)) == {"l1", "loss"}
    assert set(at(3)) == {"l1", "late", "loss"}


def test_a_term_without_its_teacher_names_the_key(pair: tuple[Tensor, Tensor]) -> None:
    loss = WeightedLoss({"l1": L1(target="teacher")})
    with pytest.raises(ConfigError, match="data.precompute.teacher=FILE"):
        loss(LossInputs(restored=pair[0][:, None], truth=pair[1][:, None]))


@pytest.mark.parametrize(
    "wrong",
    [{"weight": -1.0}, {"target": "nobody"}, {"every": 0}, {"start_step": -1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_values_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        L1(**wrong)  # type: ignore[arg-type]


def test_no_terms_and_tiny_crops_are_refused() -> None:
    with pytest.raises(ConfigError, match="empty"):
        WeightedLoss({"l1": None})
    with pytest.raises(ConfigError, match="crop=8"):
        Dists(crop=8, weight=0.0)


def test_perceptual_terms_are_the_metrics(shared_dir: Path) -> None:
    from sparkvsr.metrics import Toolbox, WeightStore

    torch.manual_seed(0)
    sr, hr = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    folder = shared_dir / "weights" / "perceptual"
    lpips = Lpips("alex", folder)
    assert float(lpips(sr, hr)) == pytest.approx(Toolbox(WeightStore(folder)).lpips_alex(sr, hr), abs=1e-3)
    with pytest.raises(MetricError, match="no folder"):
        Lpips("alex", folder / "missing")


def test_pieces_are_of_one_place() -> None:
    image = torch.arange(3 * 20 * 30, dtype=torch.float32).view(1, 3, 20, 30)
    first, second = piece(8, 0, image, image + 1)
    assert first.shape == (1, 3, 8, 8)
    assert torch.equal(first + 1, second)
    assert piece(None, 0, image)[0] is image
    assert {float(piece(8, step, image)[0][0, 0, 0, 0]) for step in range(20)} != {float(first[0, 0, 0, 0])}


def test_the_discriminator_judges_every_pixel_and_learns_to_tell_two_kinds_apart() -> None:
    torch.manual_seed(0)
    network = UNetDiscriminator(features=8)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-4)
    real = torch.rand(2, 3, 32, 32)
    fake = torch.nn.functional.avg_pool2d(real, 3, 1, 1)
    assert network(real).shape == (2, 1, 32, 32)
    losses = []
    for _ in range(50):
        loss = looks_real(network(real)) + looks_fake(network(fake))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[0] == pytest.approx(2 * np.log(2), abs=0.15)
    assert min(losses[-10:]) < 0.7 * losses[0]


def test_adversarial_losses_equal_torchs_cross_entropy() -> None:
    logits = torch.randn(2, 1, 5, 5)
    entropy = torch.nn.functional.binary_cross_entropy_with_logits
    assert float(looks_real(logits)) == pytest.approx(float(entropy(logits, torch.ones_like(logits))), abs=TOLERANCE)
    assert float(looks_fake(logits)) == pytest.approx(float(entropy(logits, torch.zeros_like(logits))), abs=TOLERANCE)


def test_pixels_and_latents_are_summed_together() -> None:
    torch.manual_seed(4)
    restored, truth = torch.rand(2, 3, 3, 8, 8), torch.rand(2, 3, 3, 8, 8)
    latents, wanted = torch.rand(2, 1, 16, 1, 1), torch.rand(2, 1, 16, 1, 1)
    terms = {"latent": Latent(weight=3.0), "mse": Mse(2.0), "steps": FrameDifference(0.5)}
    loss = WeightedLoss({**terms, "huber": FromModule(torch.nn.SmoothL1Loss(reduction="none"), weight=0.25)})
    assert (loss.domain, loss.needs_pixels, loss.needs_latents) == ("pixel", True, True)
    given = LossInputs(restored=restored, truth=truth, restored_latents=latents, truth_latents=wanted)
    values = loss(given)
    steps = ((restored.diff(dim=1) - truth.diff(dim=1)).abs()).mean()
    expected = 3 * ((latents - wanted) ** 2).mean() + 2 * ((restored - truth) ** 2).mean() + 0.5 * steps
    expected = expected + 0.25 * torch.nn.functional.smooth_l1_loss(restored, truth)
    assert float(values["loss"]) == pytest.approx(float(expected), rel=1e-5)
    assert WeightedLoss(terms, frames="clip").domain == "latent"
    only = WeightedLoss({"latent": Latent()})
    assert (only.domain, only.needs_pixels) == ("latent", False)
    with pytest.raises(ConfigError, match="frames=pairs"):
        WeightedLoss(terms, frames="pairs")
    with pytest.raises(ConfigError, match=r"loss\.terms\.odd is a SmoothL1Loss"):
        WeightedLoss({"odd": torch.nn.SmoothL1Loss()})  # type: ignore[dict-item]
