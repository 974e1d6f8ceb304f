"""The networks for x2: they start as those for x4, and sessions keep the same promises on half the grid."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lite_clips import panning, psnr
from torch import Tensor

from sparkvsr.errors import KeyframeError, WeightsError
from sparkvsr.models.interface import Keyframe, ShotRequest
from sparkvsr.models.lite.doubling import doubling_propagator, doubling_upscaler
from sparkvsr.models.lite.model import LiteModel, load_lite
from sparkvsr.models.lite.motion import track_keyframe
from sparkvsr.models.lite.network import shrink_area, to_pixels
from sparkvsr.models.lite.weights import embedded_folder, fingerprint_of, load_networks, save_lite

HEIGHT, WIDTH = 88, 104
"""Of the HR clip; LR frames are 44x52."""


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lite folder with networks for x2, fresh from those for x4 but for what they add, which would be nothing yet."""
    home = tmp_path_factory.mktemp("lite") / "model"
    shutil.copytree(embedded_folder(), home)
    shutil.rmtree(home / "x2", ignore_errors=True)
    propagator, upscaler = load_networks(home)
    propagator = doubling_propagator(propagator)
    torch.manual_seed(1)
    torch.nn.init.normal_(propagator.near[-1].weight, std=0.01)
    save_lite(home / "x2", propagator, doubling_upscaler(upscaler))
    return home


@pytest.fixture(scope="module")
def model(folder: Path) -> LiteModel:
    return load_lite(folder, device="cpu", dtype=torch.float32, look="faithful")


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor]:
    truth, _ = panning(HEIGHT, WIDTH, 4)
    lr = F.interpolate(truth, scale_factor=0.5, mode="bicubic", antialias=True).clamp(0, 1)
    return truth, (lr * 255).round() / 255


def session_result(model: LiteModel, lr: Tensor, keys: dict[int, Tensor], cuts: list[int], **options: object) -> Tensor:
    h, w = lr.shape[-2:]
    keyframes = {index: Keyframe(lr[index], image) for index, image in keys.items()}
    session = model.open_session(ShotRequest(len(lr), (h, w), (2 * h, 2 * w), keyframes, **options))
    return torch.cat([*[session.push(part) for part in torch.split(lr, cuts)], session.finish()])


def test_new_networks_do_what_those_for_x4_do_with_what_they_are_shown():
    propagator, upscaler = load_networks()
    twice, lr = doubling_upscaler(upscaler), torch.rand(1, 3, 12, 16)
    same = to_pixels(twice.residual(lr), 2) - shrink_area(to_pixels(upscaler.residual(lr)), 2)
    assert same.abs().max() < 1e-5
    double, fine, rest = doubling_propagator(propagator), torch.rand(1, 12, 8, 9) - 0.5, torch.rand(1, 73, 8, 9)
    small = shrink_area(to_pixels(fine, 2), 2)
    with torch.inference_mode():
        now, before = double.fuse(torch.cat([fine, rest], 1)), propagator.fuse(torch.cat([small, rest], 1))
    assert (now.key_logit - before.key_logit).abs().max() < 1e-3
    assert (now.hidden - before.hidden).abs().max() < 1e-4
    # Of the residual what two by two pixels show on average is gone, the rest is as it was.
    kept, whole = to_pixels(now.residual), to_pixels(before.residual)
    assert shrink_area(kept, 2).abs().max() < 1e-5
    assert (whole - kept - F.interpolate(shrink_area(whole, 2), scale_factor=2)).abs().max() < 1e-4


@pytest.mark.parametrize("guidance", [0.5, 1.5])
def test_chunks_do_not_change_a_bit(model, clip, guidance):
    truth, lr = clip
    expected = model.restore(lr, truth[[0, 3]], [0, 3], scale=2.0, guidance_scale=guidance)
    assert tuple(expected.shape) == tuple(truth.shape)
    for cuts in ([1] * 4, [3, 1]):
        assert torch.equal(
            session_result(model, lr, {0: truth[0], 3: truth[3]}, cuts, guidance_scale=guidance), expected
        )


def test_a_resumed_session_gives_the_same_bits(model, clip):
    """Blind, so that a keyframe of its own is in the state."""
    _, lr = clip
    expected = model.restore(lr, scale=2.0)
    request = ShotRequest(4, tuple(lr.shape[-2:]), (HEIGHT, WIDTH), {})
    first = model.open_session(request)
    begun = first.push(lr[:2])
    second = model.open_session(request)
    second.import_state(first.export_state(), 2)
    assert torch.equal(torch.cat([begun, second.push(lr[2:])]), expected)


def test_tiles_leave_no_seams(model, clip):
    truth, lr = clip
    whole = model.restore(lr, truth[:1], [0], scale=2.0)
    tiled = session_result(model, lr, {0: truth[0]}, [4], tile=24)
    assert (tiled - whole).abs().max() <= 2 / 255


def test_odd_sizes_are_continued_and_cut_again(model, clip):
    """The even part of a frame with one row and one column more comes out nearly as before."""
    truth, lr = clip
    odd = model.restore(F.pad(lr, (0, 1, 0, 1), mode="replicate"), scale=2.0)
    assert tuple(odd.shape[-2:]) == (HEIGHT + 2, WIDTH + 2)
    plain = model.restore(lr, scale=2.0)
    assert psnr(odd[..., :HEIGHT, :WIDTH], plain) > 40
    assert psnr(odd[..., :HEIGHT, :WIDTH], truth) > psnr(F.interpolate(lr, scale_factor=2, mode="bicubic"), truth)


def test_a_true_keyframe_helps_and_another_scene_does_not_harm(model, clip):
    truth, lr = clip
    blind, keyed = model.restore(lr, scale=2.0), model.restore(lr, truth[:1], [0], scale=2.0)
    assert psnr(keyed[1:], truth[1:]) > psnr(blind[1:], truth[1:]) + 0.1
    other, _ = panning(HEIGHT, WIDTH, 1, seed=9)
    assert psnr(model.restore(lr, other, [0], scale=2.0), truth) >= psnr(blind, truth) - 0.1


def test_the_size_decides_which_networks_work(model, folder):
    assert model.working_size((45, 60), (90, 120)) == (90, 120)
    assert model.working_size((45, 60), (45, 60)) == (90, 120)
    assert model.working_size((45, 60), (91, 121)) == (180, 240)
    assert model.restore(torch.rand(1, 3, 20, 24), scale=1.0).shape[-2:] == (20, 24)
    without = LiteModel(*_plain_networks(), dtype=torch.float32)
    assert without.scales == (4,)
    assert without.working_size((45, 60), (90, 120)) == (180, 240)
    with pytest.raises(KeyframeError, match="2 or 4 times the LR size"):
        model.open_session(ShotRequest(1, (20, 20), (60, 60), {}))


def _plain_networks():
    propagator, _ = load_networks()
    return propagator, None


def test_the_plan_counts_half_the_grid(model):
    large = model.plan((1080, 1920), (4320, 7680), 8, guided_passes=1, memory_bytes=64 << 30)
    small = model.plan((1080, 1920), (2160, 3840), 8, guided_passes=1, memory_bytes=64 << 30)
    assert small.memory_bytes < 0.4 * large.memory_bytes


def test_vivid_by_two_shows_what_the_detail_network_makes(folder, clip):
    """Close to what x4 made smaller shows, and not dependent on the tiles of the network."""
    lr = clip[1][:1, :, :32, :40]
    vivid = load_lite(folder, device="cpu", dtype=torch.float32)
    before = load_lite(embedded_folder_without_x2(folder), device="cpu", dtype=torch.float32)
    assert vivid.scales == before.scales == (2, 4)  # this look needs no networks of its own for x2
    del before._natives[2]
    now, then = vivid.restore(lr, scale=2.0), before.restore(lr, scale=2.0)
    assert psnr(now, then) > 30
    whole = vivid._natives[2].upscale(lr[0])
    tiled = vivid._natives[2].upscaler.upscale(lr[0], tile=28, scale=2)
    assert (whole - tiled).abs().max() < 3 / 255


def embedded_folder_without_x2(folder: Path) -> Path:
    plain = folder.parent / "plain"
    if not plain.is_dir():
        shutil.copytree(folder, plain)
        shutil.rmtree(plain / "x2")
    return plain


def test_weights_for_x2_are_part_of_the_fingerprint(folder):
    assert fingerprint_of(folder) != fingerprint_of(embedded_folder_without_x2(folder))


def test_networks_for_another_factor_are_refused(folder):
    with pytest.raises(WeightsError, match="networks for x2 where those for x4 belong"):
        load_lite(folder / "x2", device="cpu", look="faithful")


def test_flows_side_by_side_are_the_same_bits():
    greys = [np.random.default_rng(seed).integers(0, 255, (48, 64)).astype(np.uint8) for seed in range(2)]
    step = np.full((48, 64, 2), 0.3, np.float32)
    alone = track_keyframe(greys[0], greys[1])
    with ThreadPoolExecutor(2) as flows:
        for before in (None, alone):
            one = track_keyframe(greys[0], greys[1], before, step)
            other = track_keyframe(greys[0], greys[1], before, step, flows=flows)
            for part in ("to_key", "to_key_plain", "from_key"):
                assert np.array_equal(getattr(one, part), getattr(other, part))
