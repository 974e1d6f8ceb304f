"""Memory estimates, plans, FLOP accounting and the bench; the real model on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cogvideox_nano import TRANSFORMER, VAE, moving_gradient, one_thread, write_nano  # noqa: F401

from sparkvsr.errors import ConfigError, ResourceError
from sparkvsr.models.cogvideox import load_cogvideox
from sparkvsr.models.cogvideox.colour_fix import transfer_colour
from sparkvsr.models.cogvideox.model import CogVideoXModel
from sparkvsr.models.cogvideox.networks.precision import choose_precision
from sparkvsr.models.cogvideox.networks.vae import VaeTiling, VideoVAE
from sparkvsr.models.cogvideox.networks.weight_files import build_vae
from sparkvsr.models.cogvideox.plan.choose import choose_settings, with_tile_batch
from sparkvsr.models.cogvideox.plan.flops import plan_flops
from sparkvsr.models.cogvideox.plan.memory import SAFETY, MemoryModel
from sparkvsr.models.cogvideox.plan.settings import RunSettings
from sparkvsr.models.interface import ShotRequest
from sparkvsr.models.stage_cost import measure_matmul_rate, profile_model
from sparkvsr.models.tracing import peak_bytes

GIB = 1 << 30
CPU = torch.device("cpu")
HD = (720, 1280)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> CogVideoXModel:
    return load_cogvideox(write_nano(tmp_path_factory.mktemp("nano") / "model"), colour="none")


def read_configs(shared_dir: Path) -> tuple[dict[str, object], dict[str, object]]:
    folder = shared_dir / "golden" / "cogvideox1.5-5b-i2v"
    transformer, vae = (json.loads((folder / name / "config.json").read_text()) for name in ("transformer", "vae"))
    return transformer, vae


@pytest.fixture(scope="module")
def real(shared_dir: Path) -> MemoryModel:
    return MemoryModel(*read_configs(shared_dir), choose_precision("bf16", torch.bfloat16, CPU))


# --- the real model, by meta tensors ---


@pytest.mark.shared
def test_traces_agree_with_the_documented_work(real: MemoryModel, shared_dir: Path) -> None:
    """docs/method.md 7.1: 269 / 345 / 567 TFLOP; 19.8 / 1.4 / 39.3 GiB with the library's own blocks."""
    cells = (90, 160)
    assert real.encode_flops(cells, 33) / 1e12 == pytest.approx(269, rel=0.01)
    assert real.transformer_flops((9, *cells)) / 1e12 == pytest.approx(345, rel=0.01)
    # The lean norm convolves small latents instead of enlarged ones: a little less than the 567 of the library's.
    assert real.decode_flops(cells, 9) / 1e12 == pytest.approx(564, rel=0.01)
    assert real.transformer_bytes((9, *cells)) / GIB == pytest.approx(1.4, rel=0.05)
    assert real.transformer_weights == 2 * 5_571_594_880

    library = VideoVAE(torch.nn.Module.to(build_vae(read_configs(shared_dir)[1]), torch.bfloat16))
    latents = torch.empty(1, 5, 16, *cells, dtype=torch.bfloat16, device="meta")
    before = peak_bytes(lambda: [None for _ in library.decode_pieces(latents)])
    assert before / GIB == pytest.approx(39.3, rel=0.02)
    assert real.decode_bytes(cells) < 0.65 * before


@pytest.mark.shared
@pytest.mark.parametrize(("size", "num_frames"), [(HD, 33), ((1080, 1920), 201)])
def test_little_work_is_wasted(size: tuple[int, int], num_frames: int, real: MemoryModel) -> None:
    for memory, most in ((80 * GIB, 1.10), (24 * GIB, 1.30)):
        settings = choose_settings(real, size, num_frames, memory, can_swap=True)
        assert real.estimate(settings, size).peak <= memory
        counted = plan_flops(real, settings, size, num_frames)
        assert counted.ratio <= most, settings.describe()
        assert counted.executed == counted.encode + counted.transformer + counted.decode


@pytest.mark.shared
def test_the_published_order_wastes_as_much_as_documented(real: MemoryModel) -> None:
    reference = RunSettings(33, vae=VaeTiling(reference=True))
    assert plan_flops(real, reference, HD, 33).ratio == pytest.approx(1.30, abs=0.01)


@pytest.mark.shared
def test_too_little_memory_names_what_is_needed(real: MemoryModel) -> None:
    with pytest.raises(
        ResourceError, match=r"4.0 GiB of memory are too little for 1280x720: the smallest settings need 1"
    ):
        choose_settings(real, HD, 33, 4 * GIB, can_swap=True)


@pytest.mark.shared
def test_eight_bit_weights_halve_the_transformer(real: MemoryModel, shared_dir: Path) -> None:
    small = MemoryModel(*read_configs(shared_dir), choose_precision("int8", torch.bfloat16, CPU))
    assert small.transformer_weights < 0.6 * real.transformer_weights
    settings = choose_settings(small, HD, 33, 8 * GIB, can_swap=True)
    assert small.estimate(settings, HD).peak <= 8 * GIB


# --- any model ---


@pytest.fixture(scope="module")
def nano() -> MemoryModel:
    return MemoryModel(TRANSFORMER, VAE, choose_precision("fp32", None, CPU))


def test_estimates_grow_with_what_is_asked(nano: MemoryModel) -> None:
    size = (128, 192)
    base = nano.estimate(RunSettings(33), size)
    assert base.peak == max(base.encode, base.transformer, base.decode)
    assert nano.estimate(RunSettings(65), size).transformer > base.transformer
    assert nano.estimate(RunSettings(33), size, guided_passes=2).transformer > base.transformer
    assert nano.estimate(RunSettings(33, batch_guidance=False), size, guided_passes=2).transformer == base.transformer
    assert nano.estimate(RunSettings(33, vae=VaeTiling((8, 12))), size).decode < base.decode
    assert nano.estimate(RunSettings(33, swap=True), size).transformer < base.transformer
    assert nano.estimate(RunSettings(33, overlap_stages=True), size).encode > base.encode


def test_a_tile_never_needs_more_than_was_estimated(nano: MemoryModel) -> None:
    """Peaks are scaled from one trace of the whole frame; a trace of the tile itself must stay below."""
    size, tile = (256, 384), (16, 24)
    estimate = nano.estimate(RunSettings(9, vae=VaeTiling(tile)), size)
    assert nano.decode_bytes((19, 27)) * SAFETY < estimate.decode
    assert nano.encode_bytes((19, 27)) < estimate.encode


def test_tiles_are_batched_and_stages_overlapped_where_memory_allows(nano: MemoryModel) -> None:
    tiled = RunSettings(9, tile_px=(128, 128))
    roomy = with_tile_batch(nano, tiled, (512, 512), 64 * GIB, 1, aside=True)
    assert roomy.tile_batch == 8
    assert roomy.overlap_stages
    need = nano.estimate(tiled, (512, 512)).peak
    assert with_tile_batch(nano, tiled, (512, 512), need, 1, aside=True) == tiled


def test_plans_are_used_by_the_session(model: CogVideoXModel) -> None:
    need = model.memory_model.estimate(RunSettings(9), (256, 256))
    resident = model._resident_bytes()
    tight = int(need.decode * 0.9) - resident
    plan = model.plan((64, 64), (256, 256), 40, guided_passes=2, memory_bytes=tight)
    assert 0 < plan.memory_bytes <= tight
    assert "chunks of" in plan.notes[0]
    assert "VAE decode" in plan.notes[1]
    request = ShotRequest(40, (64, 64), (256, 256), chunk_frames=plan.chunk_frames, tile=plan.tile)
    session = model.open_session(request)
    assert session._runner.settings.vae.tile is not None or plan.tile is not None  # type: ignore[attr-defined]
    with pytest.raises(ResourceError, match="are too little for 256x256"):
        model.plan((64, 64), (256, 256), 40, guided_passes=1, memory_bytes=1 << 20)


# --- helpers ---


def test_bench_measures_every_stage(model: CogVideoXModel) -> None:
    result = profile_model(
        model,
        lr_size=(8, 8),
        size=(16, 16),
        num_frames=9,
        read=lambda: moving_gradient(9, 8, 8),
        write=lambda frames: frames.shape,
    )
    assert list(result.stages) == ["read", "encode", "transformer", "decode", "write"]
    assert result.stages["transformer"].flops
    assert result.stages["decode"].share
    assert result.stages["read"].flops is None
    assert json.loads(result.to_json())["num_frames"] == 9
    assert "transformer" in result.to_text()
    counted = plan_flops(model.memory_model, RunSettings(9), (16, 16), 9, num_keyframes=1)
    assert result.stages["transformer"].flops == pytest.approx(counted.transformer, rel=0.01)
    assert result.stages["encode"].flops == counted.encode
    assert result.stages["decode"].flops == counted.decode


def test_bench_takes_any_model() -> None:
    from sparkvsr.models.bicubic import BicubicModel

    result = profile_model(BicubicModel(CPU), lr_size=(8, 8), size=(32, 32), num_frames=4, keyframe_index=None)
    assert list(result.stages) == ["restore"]
    assert result.fps > 0
    assert measure_matmul_rate(CPU, torch.float32, 0.05) > 0


# --- colour ---


def washed_out(frames: torch.Tensor) -> torch.Tensor:
    return frames * 0.8 + 0.12


def test_wavelet_undoes_a_shift_and_keeps_detail() -> None:
    sharp = moving_gradient(2, 64, 64)
    reference = torch.nn.functional.avg_pool2d(sharp, 4)
    reference = torch.nn.functional.interpolate(reference, scale_factor=4, mode="bilinear")
    fixed = transfer_colour(sharp + 0.05, reference, "wavelet")
    assert (fixed - sharp).abs().mean() < 0.25 * 0.05
    assert torch.equal(transfer_colour(sharp, reference, "none"), sharp)


def test_adain_gives_mean_and_deviation() -> None:
    reference = moving_gradient(2, 32, 32)
    fixed = transfer_colour(washed_out(reference), reference, "adain")
    assert torch.allclose(fixed, reference, atol=1e-4)


@pytest.mark.parametrize("colour", ["none", "wavelet", "adain"])
def test_colour_keeps_shape_and_range_of_tiny_frames(colour: str) -> None:
    frames = torch.rand(1, 3, 3, 5)
    fixed = transfer_colour(frames, torch.rand(1, 3, 3, 5), colour)
    assert fixed.shape == frames.shape
    assert fixed.min() >= 0
    assert fixed.max() <= 1
    with pytest.raises(ConfigError, match="is unknown"):
        transfer_colour(frames, frames, "sepia")
