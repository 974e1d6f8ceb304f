"""Keyframe policies, reference augmentation, samplers, synthetic clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparkvsr.data.keyframe_images import IsrReferences, ReferenceAugmentation
from sparkvsr.data.keyframe_policies import AnyPolicy, IframePolicy, PaperPolicy, RandomPolicy, near_uniform_indices
from sparkvsr.data.sampler import StepSampler, clip_index
from sparkvsr.data.samples import TrainSample, collate
from sparkvsr.data.synthetic import SyntheticClips
from sparkvsr.errors import ConfigError, DatasetError
from sparkvsr.video import VideoWriter

# docs/method.md 4.3, read off the published code for 33 frames
PAPER_33 = {
    1: [0],
    2: [0, 32],
    3: [0, 16, 32],
    4: [0, 10, 21, 32],
    5: [0, 8, 16, 24, 32],
    6: [0, 6, 12, 19, 25, 32],
    7: [0, 5, 10, 16, 21, 26, 32],
    8: [0, 4, 9, 13, 18, 22, 27, 32],
    9: list(range(0, 33, 4)),
}


@pytest.mark.parametrize("count", range(1, 10))
def test_paper_spacing_equals_the_published_lists(count: int) -> None:
    assert near_uniform_indices(count, 33) == PAPER_33[count]


@pytest.mark.parametrize("num_frames", [1, 2, 3, 9, 17, 33, 40])
@pytest.mark.parametrize(
    "policy", [PaperPolicy(), RandomPolicy(), AnyPolicy(), IframePolicy()], ids=lambda p: type(p).__name__
)
def test_policies_give_rising_indices_inside_the_clip(policy: object, num_frames: int) -> None:
    for seed in range(60):
        indices = policy(num_frames, np.random.default_rng(seed))  # type: ignore[operator]
        assert indices == sorted(set(indices))
        assert all(0 <= index < num_frames for index in indices)


def test_dropout_is_one_in_ten() -> None:
    rng = np.random.default_rng(0)
    empty = sum(not PaperPolicy(0.1)(33, rng) for _ in range(2000))
    assert 150 < empty < 250


def test_any_policy_also_leaves_frame_0_out() -> None:
    draws = [AnyPolicy(dropout=0, max_keyframes=1)(9, np.random.default_rng(seed)) for seed in range(60)]
    assert {indices[0] for indices in draws} == set(range(9))


def test_random_policy_snaps_and_keeps_the_gap() -> None:
    for seed in range(40):
        indices = RandomPolicy(dropout=0)(33, np.random.default_rng(seed))
        assert indices[0] == 0
        assert all(index % 4 == 0 for index in indices)


def test_iframe_policy_takes_the_files_own() -> None:
    assert IframePolicy(dropout=0)(33, np.random.default_rng(0), [2, 4, 20]) == [2, 20]


def test_augmentation_adds_the_published_noise_after_the_clamp() -> None:
    augment = ReferenceAugmentation(jitter_probability=0, blur_probability=0)
    white = torch.ones(1, 3, 64, 64)
    out = augment(white, np.random.default_rng(0))
    # 0.05 in the [-1, 1] range is 0.025 in [0, 1]
    assert float((out - white).std()) == pytest.approx(0.025, rel=0.03)
    assert float(out.max()) > 1
    assert torch.equal(out, augment(white, np.random.default_rng(0)))


def test_wrong_keyframes_are_wrong() -> None:
    augment = ReferenceAugmentation(0, 0, 0, noise_sigma=0, wrong_probability=1.0)
    image = torch.rand(8, 3, 32, 32)
    out = augment(image, np.random.default_rng(0))
    assert all(float((a - b).abs().mean()) > 0.1 for a, b in zip(out, image, strict=True))


def test_isr_references_are_made_once_and_read_back(tmp_path: Path) -> None:
    calls = []

    def upscale(lr: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        calls.append(size)
        return torch.nn.functional.interpolate(lr[None], size=size)[0]

    references = IsrReferences(1.0, upscale, tmp_path)
    lr = torch.rand(2, 3, 8, 8).mul(255).round().div(255)
    first = references.make(lr, (32, 32))
    second = references.make(lr, (32, 32))
    assert torch.equal(first, second)
    assert len(calls) == 2
    assert first.shape == (2, 3, 32, 32)


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0])
def test_blur_equals_torchvision(sigma: float) -> None:
    import torchvision.transforms.functional as tv

    augment = ReferenceAugmentation(0, 0, blur_probability=1, blur_sigma=(sigma, sigma), noise_sigma=0)
    image = torch.rand(1, 3, 24, 32)
    expected = tv.gaussian_blur(image, [3, 3], [sigma, sigma])
    assert torch.allclose(augment(image, np.random.default_rng(0)), expected, atol=1e-6)


def test_jitter_equals_torchvision() -> None:
    import torchvision.transforms.functional as tv

    steps = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation)
    augment = ReferenceAugmentation(jitter_probability=1, blur_probability=0, noise_sigma=0)
    image = torch.rand(1, 3, 24, 32)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        rng.random()  # whether to jitter
        factors, expected = rng.uniform(0.9, 1.1, 3), image
        for step in rng.permutation(3):
            expected = steps[step](expected, float(factors[step]))
        # its grey weights are rounded to four digits
        assert torch.allclose(augment(image, np.random.default_rng(seed)), expected, atol=1e-3)


def test_isr_references_belong_to_their_upscaler(tmp_path: Path) -> None:
    lr = torch.rand(1, 3, 8, 8).mul(255).round().div(255)
    images = [IsrReferences(1.0, name, tmp_path / "cache").make(lr, (32, 32)) for name in ("bicubic", "lite")]
    assert not torch.equal(*images)
    assert len(list((tmp_path / "cache").rglob("*.npy"))) == 2
    (tmp_path / "images").mkdir()
    write_png(tmp_path / "images" / "00000.png")
    with pytest.raises(ConfigError, match="is a folder of images"):
        IsrReferences(1.0, str(tmp_path / "images"), tmp_path).check()


def write_png(path: Path) -> None:
    """A grey image."""
    with VideoWriter(path, source=None, size=(16, 16)) as writer:
        writer.write(torch.full((3, 16, 16), 0.5))


def test_two_processes_see_together_what_one_sees_with_twice_the_batch() -> None:
    one = [[r.number for r in batch] for batch in StepSampler(4, max_steps=3, accumulate=2)]
    ranks = [list(StepSampler(2, max_steps=3, accumulate=2, rank=rank, world_size=2)) for rank in (0, 1)]
    joined = [[r.number for r in a + b] for a, b in zip(*ranks, strict=True)]
    assert joined == one


def test_a_resumed_sampler_goes_on_where_it_stopped() -> None:
    whole = list(StepSampler(2, max_steps=5, accumulate=2, image_ratio=0.5))
    rest = list(StepSampler(2, max_steps=5, accumulate=2, image_ratio=0.5, start_step=3))
    assert rest == whole[6:]
    assert {request.is_image for batch in whole for request in batch} == {True, False}
    assert all(len({request.is_image for request in batch}) == 1 for batch in whole)


def test_every_clip_comes_once_a_pass() -> None:
    passes = [[clip_index(7, number, 5) for number in range(5 * n, 5 * n + 5)] for n in range(4)]
    assert all(sorted(one) == list(range(5)) for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_collate_pads_keyframes() -> None:
    def sample(indices: list[int]) -> TrainSample:
        return TrainSample(
            torch.rand(5, 3, 4, 4), torch.rand(5, 3, 16, 16), torch.rand(len(indices), 3, 16, 16), indices
        )

    batch = collate([sample([0, 4]), sample([])])
    assert batch.keyframe_indices.tolist() == [[0, 4], [-1, -1]]
    assert float(batch.keyframes[1].abs().max()) == 0
    with pytest.raises(ValueError, match="one size"):
        collate(
            [sample([]), TrainSample(torch.rand(2, 3, 4, 4), torch.rand(2, 3, 16, 16), torch.rand(0, 3, 16, 16), [])]
        )


def test_synthetic_clips_move_and_repeat() -> None:
    clips = SyntheticClips(num_clips=4, seed=0)
    first = clips.sample(1, 4, (64, 80), np.random.default_rng(3)).frames
    assert first.shape == (4, 3, 64, 80)
    assert torch.equal(first, clips.sample(1, 4, (64, 80), np.random.default_rng(3)).frames)
    assert float((first[3] - first[0]).abs().mean()) > 1e-3
    assert not torch.equal(first, clips.sample(2, 4, (64, 80), np.random.default_rng(3)).frames)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PaperPolicy(dropout=2), "dropout=2"),
        (lambda: RandomPolicy(snap=0), "at least 1"),
        (lambda: ReferenceAugmentation(jitter_probability=-1), "jitter_probability"),
        (lambda: IsrReferences(3, "lite", "x"), "ratio=3"),
        (lambda: StepSampler(0, 1), "batch_size=0"),
        (lambda: StepSampler(1, 1, image_ratio=2), "image_ratio=2"),
    ],
)
def test_wrong_settings_are_refused(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()  # type: ignore[operator]


def test_no_clips_are_refused() -> None:
    with pytest.raises(DatasetError, match="num_clips=0"):
        SyntheticClips(num_clips=0)
