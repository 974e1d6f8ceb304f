"""The embedded model keeps its promises: streaming, tiles, guidance, keyframes that help and never harm."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lite_clips import FRAMES, panning, psnr, texture
from torch import Tensor

from sparkvsr.errors import KeyframeError, ResourceError
from sparkvsr.models.interface import Keyframe, ShotRequest
from sparkvsr.models.lite.model import LiteModel, load_lite

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model() -> LiteModel:
    return load_lite(device="cpu", dtype=torch.float32, look="faithful")


@pytest.fixture(scope="module")
def clip() -> tuple[Tensor, Tensor]:
    return panning(192, 256)


@pytest.fixture(scope="module")
def blind(model: LiteModel, clip: tuple[Tensor, Tensor]) -> Tensor:
    return model.restore(clip[1])


def session_result(model: LiteModel, lr: Tensor, keys: dict[int, Tensor], cuts: list[int], **options) -> Tensor:
    h, w = lr.shape[-2:]
    keyframes = {index: Keyframe(lr[index], image) for index, image in keys.items()}
    session = model.open_session(ShotRequest(len(lr), (h, w), (4 * h, 4 * w), keyframes, **options))
    pieces = [session.push(part) for part in torch.split(lr, cuts)]
    return torch.cat([*pieces, session.finish()])


@pytest.mark.parametrize("guidance", [0.5, 1.0, 1.5])
def test_chunks_do_not_change_a_bit(model, clip, guidance):
    truth, lr = clip
    keys = {0: truth[0], 4: truth[4]}
    expected = model.restore(lr, truth[[0, 4]], [0, 4], guidance_scale=guidance)
    for cuts in ([1] * 5, [2, 3], [5]):
        got = session_result(model, lr, keys, cuts, guidance_scale=guidance)
        assert torch.equal(got, expected), f"chunks {cuts}"


def test_tiles_leave_no_seams(model, clip):
    truth, lr = clip
    whole = model.restore(lr, truth[:1], [0])
    tiled = session_result(model, lr, {0: truth[0]}, [5], tile=24)
    assert (tiled - whole).abs().mean() <= 1e-3
    assert (tiled - whole).abs().max() <= 2 / 255


def test_guidance_zero_is_the_blind_result(model, clip, blind):
    truth, lr = clip
    assert torch.equal(model.restore(lr, truth[:1], [0], guidance_scale=0.0), blind)


def test_more_guidance_is_closer_to_the_keyframe(model, clip):
    """The keyframe is warmer than the clip; at frame 0 the distance to it must fall with guidance."""
    truth, lr = clip
    key = (truth[:1] * torch.tensor([1.03, 1.0, 0.97]).view(1, 3, 1, 1)).clamp(0, 1)
    runs = [model.restore(lr, key, [0], guidance_scale=g) for g in (0.0, 0.5, 1.0, 1.5)]
    world_distance = [float((run[0] - key[0]).abs().mean()) for run in runs]
    assert world_distance == sorted(world_distance, reverse=True)
    assert len(set(world_distance)) == 4


def test_a_guidance_of_its_own_is_that_of_all_for_one_keyframe(model, clip):
    truth, lr = clip
    warm = (truth * torch.tensor([1.05, 1.0, 0.95]).view(1, 3, 1, 1)).clamp(0, 1)

    def run(first: float | None, last: float | None, of_all: float) -> Tensor:
        keyframes = {0: Keyframe(lr[0], warm[0], 1.0, first), 4: Keyframe(lr[4], warm[4], 1.0, last)}
        session = model.open_session(ShotRequest(5, (48, 64), (192, 256), keyframes, guidance_scale=of_all))
        return torch.cat([session.push(lr), session.finish()])

    plain, closest = run(None, None, 1.0), run(None, None, 2.0)
    assert torch.equal(run(2.0, 2.0, 1.0), closest)
    assert torch.equal(run(1.0, 1.0, 2.0), plain)
    mixed = run(2.0, None, 1.0)
    assert torch.equal(mixed[0], closest[0])
    assert torch.equal(mixed[4], plain[4])
    assert (plain[2] - warm[2]).abs().mean() > (mixed[2] - warm[2]).abs().mean() > (closest[2] - warm[2]).abs().mean()


def test_keyframe_lifts_later_frames(model, clip, blind):
    truth, lr = clip
    keyed = model.restore(lr, truth[:1], [0])
    assert psnr(keyed[1:], truth[1:]) > psnr(blind[1:], truth[1:]) + 1.5


def test_blind_beats_bicubic(clip, blind):
    truth, lr = clip
    bicubic = F.interpolate(lr, scale_factor=4, mode="bicubic").clamp(0, 1)
    assert psnr(blind[1:], truth[1:]) > psnr(bicubic[1:], truth[1:]) + 0.2


def test_coming_keyframe_helps(model, clip, blind):
    truth, lr = clip
    keyed = model.restore(lr, truth[4:], [4])
    assert psnr(keyed[:4], truth[:4]) > psnr(blind[:4], truth[:4]) + 1.0


@pytest.mark.parametrize("kind", ["other scene", "black", "white", "shifted", "weight 0"])
def test_wrong_keyframe_never_harms(model, clip, blind, kind):
    truth, lr = clip
    key = {
        "other scene": torch.from_numpy(texture(192, 256, seed=9)).permute(2, 0, 1),
        "black": torch.zeros(3, 192, 256),
        "white": torch.ones(3, 192, 256),
        "shifted": torch.roll(truth[0], 32, -1),
        "weight 0": truth[0],
    }[kind]
    weight = 0.0 if kind == "weight 0" else 1.0
    h, w = lr.shape[-2:]
    request = ShotRequest(FRAMES, (h, w), (4 * h, 4 * w), {0: Keyframe(lr[0], key, weight)})
    got = model.open_session(request).push(lr)
    assert psnr(got, truth) >= psnr(blind, truth) - 0.1


def test_undetected_cut_forgets_everything(model, clip, blind):
    """A keyframe and a scene from before a cut leave no trace after it."""
    _, lr = clip
    before, before_lr = panning(192, 256, 2, seed=7)
    got = model.restore(torch.cat([before_lr, lr]), before[:1], [0])[2:]
    assert torch.equal(got, blind)


def test_a_flash_is_no_cut(model, clip):
    """Two white frames: what a true keyframe gave before, it gives again after them."""
    truth, lr = clip
    white = torch.ones_like(lr[:2])
    got = model.restore(torch.cat([lr[:2], white, lr[2:]]), truth[:1], [0])
    quiet = model.restore(lr, truth[:1], [0])
    assert psnr(got[4:], truth[2:]) > psnr(quiet[2:], truth[2:]) - 0.5
    assert (got[2:4] - 1).abs().max() < 0.02


def test_fire_is_made_anew_where_nothing_can_be_carried(model):
    """Frames that have nothing to do with each other come out as single images do."""
    clips = [panning(128, 128, 1, seed=seed)[1] for seed in range(4)]
    lr = torch.cat([0.5 + 0.3 * (one - 0.5) + 0.4 * (clips[0] - 0.5) for one in clips[1:]])
    got = model.restore(lr)
    single = torch.cat([model.restore(frame[None]) for frame in lr])
    assert (got - single).abs().mean() < 0.004


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (45, 20)])
def test_odd_and_small_sizes(model, size):
    lr = panning(4 * size[0], 4 * size[1], 3)[1]
    key = panning(4 * size[0], 4 * size[1], 1)[0]
    out = model.restore(lr, key, [0])
    assert out.shape == (3, 3, 4 * size[0], 4 * size[1])
    assert out.isfinite().all()
    assert out.min() >= 0
    assert out.max() <= 1


def test_fractional_scale(model, clip):
    _, lr = clip
    small = lr[:2, :, :33, :41]
    key = F.interpolate(small[:1], size=(round(33 * 2.5), round(41 * 2.5)), mode="bicubic").clamp(0, 1)
    assert model.restore(small, key, [0], scale=2.5).shape == (2, 3, round(33 * 2.5), round(41 * 2.5))


def test_exported_state_continues_bit_for_bit(model, clip):
    truth, lr = clip
    keys = {0: Keyframe(lr[0], truth[0]), 4: Keyframe(lr[4], truth[4])}
    request = ShotRequest(FRAMES, (48, 64), (192, 256), keys, guidance_scale=0.5)
    first = model.open_session(request)
    first.push(lr[:3])
    state = first.export_state()
    assert state is not None
    assert all(isinstance(value, Tensor) for value in state.values())
    expected = first.push(lr[3:])
    second = model.open_session(request)
    second.import_state(state, 3)
    assert torch.equal(second.push(lr[3:]), expected)


def test_bf16_stays_close_to_float32(clip, model):
    truth, lr = clip
    low = load_lite(device="cpu", dtype=torch.bfloat16, look="faithful")
    exact, rounded = model.restore(lr, truth[:1], [0]), low.restore(lr, truth[:1], [0])
    assert psnr(rounded, exact) > 50
    assert abs(psnr(rounded, truth) - psnr(exact, truth)) < 0.05


def test_still_and_black_frames_stay_calm(model, clip):
    """Two dozen equal frames, then a fade to black: no drift, no blow-up."""
    _, lr = clip
    still = lr[:1, :, :32, :32].expand(24, -1, -1, -1)
    fade = torch.stack([lr[0, :, :32, :32] * (1 - t / 4) for t in range(5)] + [torch.zeros(3, 32, 32)] * 2)
    out = model.restore(torch.cat([still, fade]))
    assert (out[23] - out[8]).abs().mean() < 0.01
    assert out[-1].max() < 0.03


def test_errors_help(model, clip):
    truth, lr = clip
    with pytest.raises(KeyframeError, match="outside the clip"):
        model.restore(lr, truth[:1], [99])
    with pytest.raises(KeyframeError, match="one index per image"):
        model.restore(lr, truth[:1], [0, 1])
    with pytest.raises(KeyframeError, match="4 times the LR size"):
        model.open_session(ShotRequest(1, (48, 64), (96, 128)))
    session = model.open_session(ShotRequest(5, (48, 64), (192, 256)))
    with pytest.raises(ValueError, match=r"must be \(n, 3, 48, 64\)"):
        session.push(lr[:, :, :40])


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 40), (15, 16)])
def test_small_frames_are_continued_inside(model, size):
    lr = torch.rand(3, 3, *size)
    key = torch.rand(1, 3, 4 * size[0], 4 * size[1])
    blind, guided = model.restore(lr), model.restore(lr, key, [0])
    assert blind.shape == guided.shape == (3, 3, 4 * size[0], 4 * size[1])
    keyframes = {0: Keyframe(lr[0], key[0])}
    session = model.open_session(ShotRequest(3, size, (4 * size[0], 4 * size[1]), keyframes))
    pushed = torch.cat([session.push(lr[:1]), session.push(lr[1:]), session.finish()])
    assert torch.equal(pushed, guided)
    # A frame of one colour stays one, whatever its size.
    grey = model.restore(torch.full((2, 3, *size), 0.5))
    assert (grey - 0.5).abs().max() < 0.02


def test_plan_shrinks_before_it_gives_up(model):
    size = ((180, 320), (720, 1280), 100)
    roomy = model.plan(*size, guided_passes=1, memory_bytes=4 << 30)
    tight = model.plan(*size, guided_passes=1, memory_bytes=roomy.memory_bytes * 9 // 10)
    assert roomy.tile is None
    assert tight.memory_bytes < roomy.memory_bytes
    with pytest.raises(ResourceError, match="MiB"):
        model.plan(*size, guided_passes=2, memory_bytes=1 << 20)
