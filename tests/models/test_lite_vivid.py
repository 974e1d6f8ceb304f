"""The vivid look: whole pictures carried from both sides, light from the source, and never where they do not fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lite_clips import Sharpener, panning, psnr, texture
from torch import Tensor

from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.models.interface import Keyframe, ShotRequest
from sparkvsr.models.lite import detail
from sparkvsr.models.lite.model import LiteModel, load_lite
from sparkvsr.models.lite.upscaler import DetailUpscaler, load_detail
from sparkvsr.models.lite.vivid import Layer, mix
from sparkvsr.models.lite.weights import load_propagator
from sparkvsr.models.registry import load_model

FRAMES = 9


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> LiteModel:
    return LiteModel(load_propagator(), Sharpener(), "cpu", torch.float32, "test", "vivid")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor]:
    """Truth, and LR frames with noise, 8 bit."""
    truth, lr = panning(160, 224, FRAMES)
    noisy = lr + torch.from_numpy(np.random.default_rng(3).normal(0, 4 / 255, lr.shape).astype(np.float32))
    return truth, (noisy.clamp(0, 1) * 255).round() / 255


def test_a_guidance_of_its_own_is_that_of_all_for_one_keyframe(model: LiteModel, clip: tuple[Tensor, Tensor]) -> None:
    truth, lr = clip
    warm = (truth * torch.tensor([1.05, 1.0, 0.95]).view(1, 3, 1, 1)).clamp(0, 1)

    def run(first: float | None, last: float | None, of_all: float) -> Tensor:
        keyframes = {0: Keyframe(lr[0], warm[0], 1.0, first), 4: Keyframe(lr[4], warm[4], 1.0, last)}
        size = (4 * lr.shape[-2], 4 * lr.shape[-1])
        session = model.open_session(
            ShotRequest(5, (size[0] // 4, size[1] // 4), size, keyframes, guidance_scale=of_all)
        )
        return torch.cat([session.push(lr[:5]), session.finish()])

    plain, closest = run(None, None, 1.0), run(None, None, 2.0)
    assert torch.equal(run(2.0, 2.0, 1.0), closest)
    assert torch.equal(run(1.0, 1.0, 2.0), plain)
    mixed = run(2.0, None, 1.0)
    assert torch.equal(mixed[0], closest[0])
    assert (mixed[4] - plain[4]).abs().mean() < 1e-3 < (closest[4] - plain[4]).abs().mean()
    assert (plain[2] - warm[2]).abs().mean() > (mixed[2] - warm[2]).abs().mean() > (closest[2] - warm[2]).abs().mean()


def request(lr: Tensor, keys: dict[int, Tensor], own: set[int] | None = None, **options: float) -> ShotRequest:
    h, w = lr.shape[-2:]
    keyframes = {index: Keyframe(lr[index], image) for index, image in sorted(keys.items())}
    kinds = frozenset(keys if own is None else own)
    return ShotRequest(len(lr), (h, w), (4 * h, 4 * w), keyframes, kinds, **options)  # type: ignore[arg-type]


def restored(model: LiteModel, lr: Tensor, wanted: ShotRequest, cuts: list[int] | None = None) -> Tensor:
    session = model.open_session(wanted)
    return torch.cat([session.push(part) for part in torch.split(lr, cuts or [len(lr)])])


@pytest.mark.parametrize("guidance", [0.5, 1.0, 1.5])
def test_chunks_do_not_change_a_bit(model, clip, guidance):
    truth, lr = clip
    keys = {0: truth[0], 4: truth[4], 8: truth[8]}
    wanted = request(lr, keys, own={0, 8}, guidance_scale=guidance)
    expected = restored(model, lr, wanted)
    for cuts in ([1] * FRAMES, [2, 3, 4]):
        assert torch.equal(restored(model, lr, wanted, cuts), expected), f"chunks {cuts}"


def test_a_session_gives_what_restore_gives(model, clip):
    truth, lr = clip
    assert torch.equal(
        restored(model, lr, request(lr, {0: truth[0], 8: truth[8]}, own=set())),
        model.restore(lr, truth[[0, 8]], [0, 8]),
    )
    assert torch.equal(restored(model, lr, request(lr, {})), model.restore(lr))


def test_tiles_leave_no_seams(model, clip):
    truth, lr = clip
    keys = {0: truth[0], 8: truth[8]}
    tiled, whole = (restored(model, lr, request(lr, keys, tile=tile)) for tile in (24, None))
    assert (tiled - whole).abs().mean() <= 1e-3
    assert (tiled - whole).abs().max() <= 2 / 255


def test_exported_state_continues_bit_for_bit(model, clip):
    truth, lr = clip
    wanted = request(lr, {0: truth[0], 5: truth[5], 8: truth[8]}, own={0, 8}, guidance_scale=0.5)
    first = model.open_session(wanted)
    first.push(lr[:3])
    state = first.export_state()
    second = model.open_session(wanted)
    second.import_state(state, 3)
    assert torch.equal(second.push(lr[3:]), first.push(lr[3:]))


def test_the_whole_picture_is_carried_noise_and_all_else_goes(model, clip):
    """Between two true keyframes the noise of the LR frames is gone, which the faithful look keeps."""
    truth, lr = clip
    vivid = restored(model, lr, request(lr, {0: truth[0], 8: truth[8]}))
    faithful = load_lite(look="faithful", dtype=torch.float32).restore(lr, truth[[0, 8]], [0, 8])
    small = [F.avg_pool2d(x, 4) for x in (vivid, faithful, truth)]
    gains = [psnr(a, t) - psnr(b, t) for a, b, t in zip(*small, strict=True)]
    assert min(gains) > 0.5
    assert psnr(vivid[0], truth[0]) > 40


def test_frames_in_the_middle_are_as_sharp_as_keyframes(model, clip):
    truth, lr = clip
    both = restored(model, lr, request(lr, {0: truth[0], 8: truth[8]}))
    one = restored(model, lr, request(lr, {0: truth[0]}))

    def sharpness(image: Tensor) -> float:
        return float((image[..., 1:] - image[..., :-1]).abs().mean())

    assert sharpness(both[4]) > 0.9 * sharpness(truth[4])
    assert psnr(both[7], truth[7]) > psnr(one[7], truth[7])


def test_light_and_colours_stay_those_of_the_source(model, clip):
    truth, lr = clip
    tinted = (truth * torch.tensor([1.06, 1.0, 0.94]).view(3, 1, 1)).clamp(0, 1)
    keys = {0: tinted[0], 8: tinted[8]}
    plain, further = (restored(model, lr, request(lr, keys, guidance_scale=g)) for g in (1.0, 2.0))
    source, keyframes, at_one, at_two = (x.mean((0, 2, 3)) for x in (lr, tinted, plain, further))
    assert (keyframes - source).abs().max() > 0.015
    assert (at_one - source).abs().max() < 0.004
    assert (at_two - keyframes).abs().max() < 0.006


def test_a_flash_is_light_and_not_motion(model, clip):
    """One frame is much brighter: the keyframes stay in use there, and its light is kept."""
    truth, lr = clip
    light = torch.ones(FRAMES, 1, 1, 1)
    light[4] = 1.35
    bright, bright_lr = (truth * 0.7 * light).clamp(0, 1), (lr * 0.7 * light).clamp(0, 1)
    out = restored(model, bright_lr, request(bright_lr, {0: bright[0], 8: bright[8]}))
    bicubic = F.interpolate(bright_lr[4:5], scale_factor=4, mode="bicubic").clamp(0, 1)[0]
    assert psnr(out[4], bright[4]) > psnr(bicubic, bright[4]) + 3
    assert abs(float(out[4].mean() - bright_lr[4].mean())) < 0.003


@pytest.mark.parametrize("kind", ["other scene", "black", "white", "shifted"])
def test_a_wrong_picture_that_somebody_gave_leaves_no_trace(model, clip, kind):
    truth, lr = clip
    key = {
        "other scene": torch.from_numpy(texture(160, 224, seed=9)).permute(2, 0, 1),
        "black": torch.zeros(3, 160, 224),
        "white": torch.ones(3, 160, 224),
        "shifted": torch.roll(truth[0], 32, -1),
    }[kind]
    blind = model.restore(lr)
    got = model.restore(lr, key[None], [0])
    for made, without, wanted in zip(got, blind, truth, strict=True):
        assert psnr(made, wanted) >= psnr(without, wanted) - 0.1


def test_a_picture_that_somebody_gave_beats_the_models_own(model, clip):
    """A given keyframe far away wins over the model's own right here."""
    truth, lr = clip
    marked = truth[0].clone()
    marked[:, 60:100, 100:140] = (marked[:, 60:100, 100:140] + 0.12 * (torch.rand(3, 40, 40) - 0.5)).clamp(0, 1)
    own = {index: Sharpener().upscale(lr[index]) for index in (4, 8)}
    out = restored(model, lr, request(lr, {0: marked, **own}, own={4, 8}))
    without = restored(model, lr, request(lr, own))
    assert psnr(out[4], truth[4]) > psnr(without[4], truth[4]) + 3


def test_weight_moves_between_a_given_picture_and_the_models_own(model, clip):
    truth, lr = clip
    marked = truth[4].clone()
    marked[:, 60:100, 100:140] = (marked[:, 60:100, 100:140] + 0.12 * (torch.rand(3, 40, 40) - 0.5)).clamp(0, 1)
    keyframes = {index: Keyframe(lr[index], truth[index]) for index in (0, 8)}

    def run(weight: float) -> Tensor:
        given = {4: Keyframe(lr[4], marked, weight)} if weight else {}
        return restored(
            model, lr, replace(request(lr, {}, own={0, 8}), keyframes=dict(sorted((keyframes | given).items())))
        )

    without, whole = run(0.0), run(1.0)
    for index in (3, 4, 5):
        way = (whole - without)[index]
        assert way.abs().mean() > 5e-4
        for weight in (0.25, 0.5, 0.75):
            moved = float(((run(weight) - without)[index] * way).sum() / way.square().sum())
            assert moved == pytest.approx(weight, abs=0.15), (index, weight)


def test_a_keyframe_of_less_weight_costs_no_more(clip):
    """What it leaves comes from keyframes of the model's own, not from the network on every frame."""
    truth, lr = clip
    asked = []

    class Counting(Sharpener):
        def upscale(self, image: Tensor) -> Tensor:
            asked.append(image.shape[-1] * image.shape[-2])
            return super().upscale(image)

    model = LiteModel(load_propagator(), Counting(), "cpu", torch.float32, "test", "vivid")  # type: ignore[arg-type]
    keyframes = {0: Keyframe(lr[0], truth[0]), 4: Keyframe(lr[4], truth[4], 0.4), 8: Keyframe(lr[8], truth[8])}
    for guidance in (1.0, 2.0):
        restored(model, lr, replace(request(lr, {}, own={0, 8}, guidance_scale=guidance), keyframes=keyframes))
        assert asked == []
    # Without a plan, as in a session that knows nothing of the clip: one picture of its own.
    restored(model, lr, replace(request(lr, {}, own=set()), keyframes={0: keyframes[4]}))
    assert sum(asked) <= 1.5 * lr[0, 0].numel()


def test_parts_of_layers():
    def layer(share: float, importance: float, **more: float) -> Layer:
        return Layer(torch.full((1, 1, 8, 8), share), importance, **more)

    def mixed(*layers: Layer) -> tuple[list[float], float]:
        mixture = mix(layers)
        assert mixture is not None
        return [float(part.mean()) for part in mixture.parts], float(mixture.covered.mean())

    ours = layer(1.0, 0.01)
    # Somebody's picture wins where it is trusted, gives way where it would be made anew, and moves by its influence.
    assert mixed(ours, layer(0.6, 0.1, unsure=0.01)) == ([1, pytest.approx(1, abs=2e-3)], pytest.approx(0.6, abs=2e-3))
    assert mixed(ours, layer(0.3, 0.1, unsure=0.01)) == ([1, pytest.approx(0, abs=1e-2)], pytest.approx(1, abs=1e-2))
    assert mixed(ours, layer(1.0, 0.1, influence=0.4)) == (
        [1, pytest.approx(0.4, abs=1e-3)],
        pytest.approx(1, abs=1e-3),
    )
    # Over nothing it is all there is, but counts as much as it should only.
    assert mixed(layer(0.0, 0.01), layer(1.0, 0.1, influence=0.4)) == ([1, pytest.approx(1)], pytest.approx(0.4))
    assert mixed(layer(1.0, 0.1, influence=0.4)) == ([1], pytest.approx(0.4))


def test_guidance_zero_is_the_blind_result(model, clip):
    truth, lr = clip
    assert torch.equal(model.restore(lr, truth[:1], [0], guidance_scale=0.0), model.restore(lr))


def test_an_undetected_cut_forgets_everything(model, clip):
    _, lr = clip
    before, before_lr = panning(160, 224, 2, seed=7)
    got = model.restore(torch.cat([before_lr, lr]), before[:1], [0])[2:]
    assert torch.equal(got, model.restore(lr))


def test_long_shots_do_not_drift(model):
    """A loop of frames with keyframes at the same places in each round: 60 frames later nothing has changed."""
    _, lr = panning(96, 96, 6)
    loop = torch.cat([lr, lr[1:-1].flip(0)]).repeat(8, 1, 1, 1)
    keys = {index: Sharpener().upscale(loop[index]) for index in range(0, 80, 10)}
    rounds = restored(model, loop, request(loop, keys)).view(8, 10, 3, 96, 96)
    assert (rounds[6] - rounds[1]).abs().mean() < 1e-3
    blind = model.restore(loop).view(8, 10, 3, 96, 96)
    assert float(blind[6].std()) < 1.05 * float(blind[1].std())


@pytest.mark.parametrize("size", [(16, 16), (17, 31)])
def test_odd_and_small_sizes(model, size):
    truth, lr = panning(4 * size[0], 4 * size[1], 3)
    out = model.restore(lr, truth[:1], [0])
    assert out.shape == truth.shape
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_the_look_is_part_of_the_fingerprint(model):
    assert load_lite(look="faithful").fingerprint() != model.fingerprint()
    assert "vivid" in model.fingerprint()
    assert load_lite(look="faithful").look == "faithful"


def test_looks_that_are_not_there_are_refused():
    with pytest.raises(ConfigError, match="use vivid or faithful"):
        load_model("lite", look="pretty")
    with pytest.raises(ConfigError, match="bicubic has one look only"):
        load_model("bicubic", look="vivid")


def test_detail_network_in_tiles_and_in_bf16(tmp_path):
    torch.manual_seed(0)
    net = detail.DetailUpscalerNet(detail.DetailConfig(8, 4, 1))
    with torch.no_grad():
        net.conv_last.bias.fill_(0.5)
    detail.save_detail_upscaler(tmp_path, net)
    exact, rounded = (load_detail(tmp_path, dtype=kind) for kind in (torch.float32, torch.bfloat16))
    assert isinstance(exact, DetailUpscaler)
    image = torch.rand(3, 40, 70)
    whole = exact.upscale(image, tile=None)
    assert whole.shape == (3, 160, 280)
    assert whole.std() > 1e-3
    assert (exact.upscale(image, tile=24) - whole).abs().max() < 1e-3
    assert psnr(rounded.upscale(image), whole) > 40
    with pytest.raises(ValueError, match=r"must be float \(3, h, w\)"):
        exact.upscale(image[None])


def test_a_folder_without_the_network_is_named(tmp_path):
    with pytest.raises(WeightsError, match="has no detail_upscaler.safetensors"):
        load_detail(tmp_path)
