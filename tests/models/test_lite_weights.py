"""The weight files: small, safe to load, and refused with a helpful line when they do not fit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from sparkvsr.errors import WeightsError
from sparkvsr.models.lite.model import load_lite
from sparkvsr.models.lite.network import (
    Kernels,
    KeyframeUpscalerNet,
    Previous,
    PropagatorConfig,
    PropagatorNet,
    Reference,
    UpscalerConfig,
    agreement_of,
    propagate_step,
    to_channels,
    to_pixels,
    upscale_bicubic,
)
from sparkvsr.models.lite.resampling import luma, shrink_area
from sparkvsr.models.lite.upscaler import KeyframeUpscaler, load_keyframe_upscaler
from sparkvsr.models.lite.weights import (
    PROPAGATOR_FILE,
    UPSCALER_FILE,
    embedded_folder,
    fingerprint_of,
    save_lite,
)

SMALL = PropagatorConfig(channels=8, blocks=1, hidden=4)


def small_folder(folder, seed=0):
    torch.manual_seed(seed)
    save_lite(folder, PropagatorNet(SMALL), KeyframeUpscalerNet(UpscalerConfig(channels=8, blocks=1)))
    return folder


def test_embedded_weights_are_small():
    sizes = [path.stat().st_size for path in embedded_folder().glob("*.safetensors")]
    assert len(sizes) == 3
    assert sum(sizes) < 15_000_000


def test_folder_with_other_sizes_loads(tmp_path):
    model = load_lite(small_folder(tmp_path), dtype=torch.float32)
    assert model.restore(torch.rand(2, 3, 16, 20)).shape == (2, 3, 64, 80)
    assert load_keyframe_upscaler(tmp_path).upscale(torch.rand(3, 5, 7)).shape == (3, 20, 28)


def test_fingerprint_follows_the_weights(tmp_path):
    first = fingerprint_of(small_folder(tmp_path / "a"))
    assert first == fingerprint_of(small_folder(tmp_path / "b"))
    assert first != fingerprint_of(small_folder(tmp_path / "c", seed=1))
    assert load_lite(tmp_path / "a", dtype=torch.float32).fingerprint().endswith("float32")


@pytest.mark.parametrize("damage", ["missing", "truncated", "pickle", "other network", "other format"])
def test_bad_files_are_refused(tmp_path, damage):
    path = small_folder(tmp_path) / PROPAGATOR_FILE
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "pickle":
        torch.save({"a": torch.zeros(1)}, path)
    elif damage == "other network":
        path.write_bytes((tmp_path / UPSCALER_FILE).read_bytes())
    else:
        save_file({"a": torch.zeros(1)}, path, {"format": "else", "config": "{}"})
    with pytest.raises(WeightsError) as caught:
        load_lite(tmp_path)
    assert PROPAGATOR_FILE in str(caught.value)
    assert "\n" not in str(caught.value)


def test_upscaler_tiles_leave_no_seams():
    torch.manual_seed(0)
    net = KeyframeUpscalerNet(UpscalerConfig(channels=8, blocks=2))
    torch.nn.init.normal_(net.tail.weight, std=0.02)
    upscaler = KeyframeUpscaler(net.eval(), dtype=torch.float32)
    image = torch.rand(3, 50, 61)
    assert torch.allclose(upscaler.upscale(image, tile=17), upscaler.upscale(image, tile=None), atol=1e-5)


def test_channels_and_pixels_are_inverse():
    pixels = torch.rand(2, 3, 16, 20)
    assert torch.equal(to_pixels(to_channels(pixels)), pixels)


def reference_by(lr: torch.Tensor, hr: torch.Tensor, flow: torch.Tensor, plain_flow: torch.Tensor) -> Reference:
    sure = torch.ones(len(lr), 1, *lr.shape[-2:])
    return Reference(lr, hr, agreement_of(hr, lr), flow, plain_flow, sure, 0 * sure, torch.ones(len(lr), 1, 1, 1))


def test_an_untrained_propagator_takes_the_mean_of_both_flows():
    hr = 0.3 + 0.4 * torch.rand(1, 3, 64, 64)
    lr = torch.nn.functional.avg_pool2d(hr, 4)
    zero, off = torch.zeros(1, 2, 16, 16), torch.full((1, 2, 16, 16), 0.25)
    kernels = Kernels()
    details = [kernels.detail(kernels.warp_by_lr_flow(luma(hr), flow)) for flow in (zero, off)]
    restored = propagate_step(PropagatorNet(SMALL), lr, None, reference_by(lr, hr, zero, off)).output
    expected = luma(upscale_bicubic(lr)) + (details[0] + details[1]) / 2
    assert torch.allclose(luma(restored), expected, atol=2e-3)
    assert (details[0] - details[1]).abs().max() > 0.05


@pytest.mark.parametrize(("sure", "learned", "decided"), [(0.9, 0.9, 0.9955), (0.1, 0.1, 0.0122)])
def test_a_decided_keyframe_gives_nearly_all_of_its_detail_or_nearly_none(
    sure: float, learned: float, decided: float
) -> None:
    hr = 0.3 + 0.4 * torch.rand(1, 3, 64, 64)
    lr = shrink_area(hr)
    zero = torch.zeros(1, 2, 16, 16)
    reference = replace(reference_by(lr, hr, zero, zero), geometric=torch.full((1, 1, 16, 16), sure))
    detail = Kernels().detail(hr)
    for reference.decided, share in ((0.0, learned), (1.0, decided)):
        carried = propagate_step(PropagatorNet(SMALL), lr, None, reference).output - upscale_bicubic(lr)
        # sigmoid of twice the logit, and of one more where there is some trust
        assert torch.allclose(carried, share * detail, atol=2e-3)


def test_untrained_propagator_starts_classical():
    """With a perfect keyframe and no motion, the untrained step already moves most of the way to it."""
    hr = torch.rand(1, 3, 64, 64)
    lr = torch.nn.functional.avg_pool2d(hr, 4)
    zero = torch.zeros(1, 2, 16, 16)
    reference = reference_by(lr, hr, zero, zero)
    net = PropagatorNet(SMALL)
    blind = propagate_step(net, lr, None, None)
    keyed = propagate_step(net, lr, None, reference)
    assert torch.allclose(blind.output, upscale_bicubic(lr).clamp(0, 1), atol=1e-6)
    assert (keyed.output - hr).abs().mean() < 0.1 * (blind.output - hr).abs().mean()


def test_step_has_gradients_everywhere():
    net = PropagatorNet(SMALL)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    hr = torch.rand(2, 3, 64, 64)
    lr = torch.nn.functional.avg_pool2d(hr, 4)
    flow = torch.full((2, 2, 16, 16), 0.3)
    reference = reference_by(lr, hr, flow, flow)
    first = propagate_step(net, lr, None, None)
    previous = Previous(lr, first.output, first.hidden, flow, torch.ones(2, 1, 1, 1))
    propagate_step(net, lr, previous, reference).output.square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


def test_network_needs_neither_opencv_nor_lightning():
    code = (
        "import sys, sparkvsr.models.lite.network\n"
        "bad = {'cv2', 'lightning', 'av'} & set(sys.modules)\n"
        "sys.exit(f'imported {bad}' if bad else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
