"""What is trained is what runs: the training adapters against the models that load their folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sparkvsr.data.samples import TrainBatch, TrainSample, collate
from sparkvsr.errors import ConfigError, KeyframeError, WeightsError
from sparkvsr.models.cogvideox.networks.conditioning import check_slots
from sparkvsr.training.adapters.cogvideox import CogVideoXAdapter, build_cogvideox_adapter
from sparkvsr.training.adapters.lite import LiteAdapter, build_lite_adapter
from sparkvsr.training.adapters.nano import build_nano_adapter

# Inference warps HR pixels with OpenCV's fixed-point tables, training with torch.
MEAN_TOLERANCE = 2e-3
# The same library calls, once for a batch and once streamed.
CLOSE = 2e-4


def moving_sample(num_frames: int, size: tuple[int, int], keys: list[int]) -> TrainSample:
    """A texture that moves one LR pixel a frame, with clean keyframes."""
    torch.manual_seed(3)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, size[0] // 8, size[1] // 4), size=(size[0], size[1] * 2))
    hr = torch.stack([wide[0, :, :, 4 * t : 4 * t + size[1]] for t in range(num_frames)])
    lr = torch.nn.functional.interpolate(hr, scale_factor=0.25, mode="area").mul(255).round().div(255)
    return TrainSample(lr, hr, hr[keys], keys)


@pytest.mark.parametrize("keys", [[], [0], [2]], ids=str)
def test_lite_restores_in_training_what_it_restores_in_use(tmp_path: Path, keys: list[int]) -> None:
    from sparkvsr.models.lite.model import LiteModel
    from sparkvsr.models.lite.weights import load_propagator

    adapter = build_lite_adapter(upscaler={"blocks": 1}, seed=1)
    with torch.no_grad():
        adapter.propagator.tail.weight.normal_(0, 0.003)
    adapter.save_folder(tmp_path / "model")
    sample = moving_sample(4, (192, 256), keys)
    sample.extras = adapter.prepare_clip(sample.lr, sample.keyframe_indices)
    batch = collate([sample])
    with torch.no_grad():
        restored = adapter.decode(
            adapter.restore(adapter.encode(batch, framewise=False, with_hr=False)), framewise=False
        )[0]
    # Without keyframes of its own: those come in training by `cases`.
    model = LiteModel(load_propagator(tmp_path / "model"), None, dtype=torch.float32)
    expected = model.restore(sample.lr, sample.keyframes if keys else None, keys)
    assert float((restored.clamp(0, 1) - expected).abs().mean()) < MEAN_TOLERANCE


def test_lite_latents_lose_nothing() -> None:
    adapter = build_lite_adapter(upscaler={"blocks": 1})
    sample = moving_sample(3, (64, 64), [0])
    sample.extras = adapter.prepare_clip(sample.lr, sample.keyframe_indices)
    latents = adapter.encode(collate([sample]), framewise=True, with_hr=True)
    assert latents.hr is not None
    assert torch.equal(adapter.decode(latents.hr, framewise=True)[0], sample.hr)


def test_lite_stills_train_the_upscaler_and_clips_the_propagator() -> None:
    adapter = build_lite_adapter(upscaler={"blocks": 1})
    for sample, trained, idle in (
        (moving_sample(1, (64, 64), []), adapter.upscaler, adapter.propagator),
        (moving_sample(3, (64, 64), [0]), adapter.propagator, adapter.upscaler),
    ):
        adapter.zero_grad()
        sample.extras = adapter.prepare_clip(sample.lr, sample.keyframe_indices)
        adapter.restore(adapter.encode(collate([sample]), framewise=True, with_hr=False)).square().mean().backward()
        assert any(float(p.grad.abs().max()) > 0 for p in trained.parameters() if p.grad is not None)
        # present but zero: data-parallel training waits for every parameter
        assert all(p.grad is not None and float(p.grad.abs().max()) == 0 for p in idle.parameters())


def lite_batch(times: list[int], keys: list[int]) -> TrainBatch:
    """Two moving clips, of which only the frames at ``times`` are kept."""
    adapter = build_lite_adapter(upscaler={"blocks": 1})
    samples = []
    for number in range(2):
        whole = moving_sample(times[-1] + 1, (64, 96), [])
        maps = adapter.prepare_clip(whole.lr, [times[key] for key in keys])
        hr = whole.hr[times]
        sample = TrainSample(whole.lr[times], hr, hr[keys], keys, number=number, times=times)
        sample.extras = {name: values[times] for name, values in maps.items()}
        samples.append(sample)
    return collate(samples)


def restored_by(adapter: LiteAdapter, batch: TrainBatch) -> torch.Tensor:
    with torch.no_grad():
        return adapter.decode(adapter.restore(adapter.encode(batch, framewise=True, with_hr=False)), framewise=True)


def lively_adapter(**settings: object) -> LiteAdapter:
    """Last layers that do something, as after some training."""
    adapter = build_lite_adapter(upscaler={"blocks": 1}, seed=1, **settings)  # type: ignore[arg-type]
    torch.manual_seed(5)
    with torch.no_grad():
        adapter.propagator.tail.weight.normal_(0, 0.01)
        adapter.upscaler.tail.weight.normal_(0, 0.01)
    return adapter


def test_lite_starts_anew_behind_a_gap() -> None:
    adapter = lively_adapter()
    batch = lite_batch([0, 5, 6], [0])
    changed = lite_batch([0, 5, 6], [0])
    changed.hr, changed.lr = changed.hr.clone(), changed.lr.clone()
    changed.lr[:, 0] = 0.5
    # What the first frame looks like reaches the others through the keyframe only, never through the state.
    for one in (batch, changed):
        one.extras["key_slot"] = torch.full_like(one.extras["key_slot"], -1)
    assert torch.equal(restored_by(adapter, batch)[:, 1:], restored_by(adapter, changed)[:, 1:])
    together = lite_batch([4, 5, 6], [0])
    together.extras["key_slot"] = torch.full_like(together.extras["key_slot"], -1)
    assert not torch.equal(restored_by(adapter, batch)[:, 1:], restored_by(adapter, together)[:, 1:])


def test_lite_cases_are_a_function_of_the_sample_numbers() -> None:
    batch = lite_batch([0, 5, 6], [0])
    plain = restored_by(lively_adapter(), batch)
    for cases in ({"own_probability": 1.0}, {"blind_probability": 1.0}, {"still_probability": 1.0}):
        adapter = lively_adapter(cases=cases)
        first = restored_by(adapter, batch)
        assert torch.equal(first, restored_by(adapter, batch))
        assert not torch.equal(first, plain), cases
        # never in validation
        assert torch.equal(restored_by(adapter.eval(), batch), plain)
    still = restored_by(lively_adapter(cases={"still_probability": 1.0}), batch)
    assert torch.equal(still[:, 0], plain[:, 0]), "the keyframe lies before the gap, the window begins behind it"
    assert not torch.equal(still[:, 1], plain[:, 1])


def test_nano_restores_in_training_what_it_restores_in_use(tmp_path: Path) -> None:
    from sparkvsr.models.registry import load_model

    adapter = build_nano_adapter(posterior="mode")
    adapter.save_folder(tmp_path / "model")
    sample = moving_sample(9, (64, 64), [0, 8])
    with torch.no_grad():
        latents = adapter.encode(collate([sample]), framewise=False, with_hr=False)
        restored = adapter.decode(adapter.restore(latents), framewise=False)[0]
    model = load_model(tmp_path / "model", device="cpu", dtype="fp32", colour="none")
    expected = model.restore(sample.lr, sample.keyframes, [0, 8])
    assert float((restored.clamp(0, 1) - expected).abs().max()) < CLOSE


def test_keyframe_latents_are_zero_but_for_their_slots() -> None:
    adapter = build_nano_adapter()
    latents = adapter.encode(collate([moving_sample(9, (64, 64), [0, 8])]), framewise=False, with_hr=True)
    assert [bool(frame.any()) for frame in latents.keyframes[0]] == [True, False, True]
    blind = adapter.encode(collate([moving_sample(1, (64, 64), [])]), framewise=True, with_hr=False)
    assert not blind.keyframes.any()


def test_keyframes_that_share_a_latent_frame_get_one_answer_in_training_and_use() -> None:
    adapter = build_nano_adapter()
    assert adapter.usable_keyframes([0, 1, 3, 4, 7, 8], framewise=False) == [0, 4, 8]
    assert adapter.usable_keyframes([0, 1], framewise=True) == [0, 1]
    with pytest.raises(KeyframeError, match="keyframes 0 and 2 fall into one latent frame"):
        adapter.encode(collate([moving_sample(9, (64, 64), [0, 2])]), framewise=False, with_hr=False)


def test_no_training_sample_has_keyframes_that_share_a_latent_frame(tmp_path: Path) -> None:
    from sparkvsr.config import compose_config
    from sparkvsr.training.build import build_pairs

    overrides = ["model=tiny", "keyframes=any", "data.num_frames=9", f"paths.cache_dir={tmp_path}"]
    pairs = build_pairs(compose_config(overrides), build_nano_adapter(), None)
    crowded = build_pairs(compose_config(overrides), None, None)
    draws = [np.random.default_rng(seed) for seed in range(200)]
    chosen = [pairs.choose(9, None, rng) for rng in draws]
    for indices in chosen:
        check_slots(indices)
    assert chosen != [crowded.choose(9, None, np.random.default_rng(seed)) for seed in range(200)]


def test_stage_2_decodes_each_latent_by_itself_and_with_gradient() -> None:
    adapter = build_nano_adapter(gradient_checkpointing=True)
    latents = adapter.encode(collate([moving_sample(2, (64, 64), [0])]), framewise=True, with_hr=False)
    assert latents.lr.shape[:2] == (1, 2)
    restored = adapter.restore(latents)
    pixels = adapter.decode(restored, framewise=True)
    assert pixels.shape == (1, 2, 3, 64, 64)
    alone = adapter.decode(restored[:, 1:], framewise=True)
    assert torch.allclose(pixels[:, 1:], alone, atol=1e-5)
    pixels.mean().backward()
    assert any(p.grad is not None and float(p.grad.abs().max()) > 0 for p in adapter.network.parameters())
    assert all(p.grad is None for p in adapter.vae.parameters())


def test_a_samples_latents_do_not_depend_on_its_batch() -> None:
    adapter = build_nano_adapter()
    one, two = moving_sample(9, (64, 64), [0]), moving_sample(9, (64, 64), [0, 4])
    one.number, two.number = 5, 9
    together = adapter.encode(collate([one, two]), framewise=False, with_hr=True)
    alone = adapter.encode(collate([two]), framewise=False, with_hr=True)
    assert torch.allclose(together.keyframes[1], alone.keyframes[0], atol=1e-6)
    assert torch.allclose(together.lr[1], alone.lr[0], atol=1e-6)


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="transformer/config.json is missing"):
        build_cogvideox_adapter(tmp_path)
    with pytest.raises(ConfigError, match="posterior=guess"):
        build_nano_adapter(posterior="guess")
    with pytest.raises(ConfigError, match="model=lite"):
        build_lite_adapter(propagator={"width": 3})
    with pytest.raises(WeightsError, match="is missing"):
        build_lite_adapter(path=tmp_path)
    adapter: CogVideoXAdapter = build_nano_adapter()
    with pytest.raises(ConfigError, match="8n"):
        adapter.check_data(12, (64, 64), framewise=False)


def test_tables_made_while_restoring_can_be_trained_with() -> None:
    from sparkvsr.models.cogvideox.networks.transformer import rotary_embedding

    sizes = (1, 3, 5), (6, 8), 16
    with torch.inference_mode():
        rotary_embedding(*sizes, torch.device("cpu"))
    cos, sin = rotary_embedding(*sizes, torch.device("cpu"))
    query = torch.ones(15, 16, requires_grad=True)
    (query * cos + query * sin).sum().backward()
    assert query.grad is not None
    assert torch.equal(query.grad, cos + sin)
