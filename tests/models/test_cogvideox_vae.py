"""The autoencoder: streamed equals one-shot, lean blocks equal the library's, tiles, parts of a convolution."""

from __future__ import annotations

import pytest
import torch
from cogvideox_nano import (
    VAE,
    moving_gradient,
    one_thread,  # noqa: F401  (autouse)
)
from diffusers.models.autoencoders.autoencoder_kl_cogvideox import CogVideoXSafeConv3d

from sparkvsr.models.cogvideox.networks import lean_vae
from sparkvsr.models.cogvideox.networks.lean_vae import BoundedConv3d, frames_of_latents, make_lean
from sparkvsr.models.cogvideox.networks.vae import DecodeStream, EncodeStream, VaeTiling, VideoVAE, group_sizes
from sparkvsr.models.cogvideox.networks.weight_files import build_vae

ROUNDING = 1e-5
"""Same sums in another order, float32, over some 40 layers."""

LENGTHS = (1, 9, 16, 17, 25)


@pytest.fixture(scope="module")
def library_vae() -> torch.nn.Module:
    torch.manual_seed(3)
    return build_vae(VAE, "cpu").requires_grad_(False)


@pytest.fixture(scope="module")
def codec(library_vae: torch.nn.Module) -> VideoVAE:
    vae = build_vae(VAE, "cpu").requires_grad_(False)
    vae.load_state_dict(library_vae.state_dict())
    return VideoVAE(make_lean(vae))


def clip(frames: int, height: int = 32, width: int = 48) -> torch.Tensor:
    return moving_gradient(frames, height, width)[None]


@pytest.mark.parametrize("frames", LENGTHS)
def test_streamed_encode_equals_one_shot_exactly(frames: int, library_vae: torch.nn.Module) -> None:
    plain = VideoVAE(library_vae)
    with torch.inference_mode():
        whole = library_vae.encode(plain.to_network(clip(frames))).latent_dist.mode()  # type: ignore[operator]
        for step in (1, 5, 8):
            stream = EncodeStream(plain, frames)
            moments = [
                m for start in range(0, frames, step) for m in stream.push(clip(frames)[:, start : start + step])
            ]
            streamed = torch.cat(moments, dim=1)[:, :, :16]
            assert torch.equal(streamed, whole.transpose(1, 2))


@pytest.mark.parametrize("latents", [1, 2, 3, 5, 6])
def test_streamed_decode_equals_one_shot_exactly(latents: int, library_vae: torch.nn.Module) -> None:
    plain = VideoVAE(library_vae)
    code = torch.randn(1, latents, 16, 4, 6)
    with torch.inference_mode():
        scaled = (code / plain.scaling_factor).transpose(1, 2)
        whole = plain.from_network(library_vae.decode(scaled, return_dict=False)[0])  # type: ignore[operator]
        for step in (1, 2, 3):
            stream = DecodeStream(plain, latents)
            frames = [f for start in range(0, latents, step) for f in stream.push(code[:, start : start + step])]
            assert torch.equal(torch.cat(frames, dim=1), whole)


@pytest.mark.parametrize("frames", LENGTHS)
def test_lean_blocks_equal_the_library(frames: int, library_vae: torch.nn.Module, codec: VideoVAE) -> None:
    plain = VideoVAE(library_vae)
    latents = codec.encode(clip(frames))
    assert (latents - plain.encode(clip(frames))).abs().max() < ROUNDING
    assert latents.shape == (1, (frames - 1) // 4 + 1, 16, 4, 6)
    restored = codec.decode(latents)
    assert (restored - plain.decode(latents)).abs().max() < ROUNDING
    assert restored.shape == (1, frames, 3, 32, 48)


def test_odd_frame_counts_come_back_as_documented(codec: VideoVAE) -> None:
    for frames, latents, decoded in ((5, 2, 8), (13, 4, 16), (4, 1, 1), (16, 4, 16)):
        code = codec.encode(clip(frames, 16, 16))
        assert code.shape[1] == latents
        assert codec.decode(code).shape[1] == decoded
    assert group_sizes(25, 8) == [9, 8, 8]
    assert group_sizes(3, 8) == [3]


def test_one_frame_equals_the_same_frame_four_times(codec: VideoVAE) -> None:
    frame = clip(1)
    repeated = codec.encode(frame.expand(-1, 4, -1, -1, -1))
    assert (repeated[:, :1] - codec.encode(frame)).abs().max() < ROUNDING


def test_conditional_norm_follows_the_library_in_time() -> None:
    for latents, frames in ((1, 1), (2, 2), (3, 9), (3, 5), (3, 3), (2, 8), (2, 4), (1, 4)):
        marks = torch.arange(float(latents)).view(1, 1, latents, 1, 1)
        if frames > 1 and frames % 2:
            rest = torch.nn.functional.interpolate(marks[:, :, 1:], size=(frames - 1, 1, 1))
            expected = torch.cat([marks[:, :, :1], rest], dim=2)
        else:
            expected = torch.nn.functional.interpolate(marks, size=(frames, 1, 1))
        ours = torch.full((frames,), -1.0)
        for index, (start, stop) in enumerate(frames_of_latents(latents, frames)):
            ours[start:stop] = index
        assert ours.tolist() == expected.flatten().tolist()
    with pytest.raises(ValueError, match="3 frames cannot be conditioned by 1"):
        frames_of_latents(1, 3)


def test_gradients_flow_through_the_lean_blocks(codec: VideoVAE) -> None:
    code = torch.randn(1, 16, 1, 2, 2, requires_grad=True)
    codec.vae.decode(code, return_dict=False)[0].sum().backward()
    assert code.grad is not None
    assert code.grad.abs().sum() > 0


def test_huge_convolutions_are_cut_into_parts_longer_than_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = CogVideoXSafeConv3d(4, 6, 3, padding=(0, 1, 1))
    values = torch.randn(1, 4, 11, 6, 6)
    expected = torch.nn.Conv3d.forward(conv, values)
    conv.__class__ = BoundedConv3d
    for limit in (1, values.numel() // 5, values.numel() // 2, values.numel()):
        monkeypatch.setattr(lean_vae, "MAX_CONV_ELEMENTS", limit)
        assert torch.allclose(conv(values), expected, atol=1e-6)


def test_tiles_cover_the_frame_and_stay_close(codec: VideoVAE) -> None:
    frames = clip(9, 144, 128)
    whole = codec.encode(frames)
    # Two rows and two columns with the overlap of 6 cells.
    tiling = VaeTiling((12, 11))
    tiled = codec.encode(frames, tiling=tiling)
    assert tiled.shape == whole.shape
    # A group norm sees its tile only, so values differ; they must stay the same picture.
    assert (tiled - whole).abs().mean() < 0.2 * whole.std()
    decoded = codec.decode(whole, tiling)
    assert decoded.shape == (1, 9, 3, 144, 128)
    assert (decoded - codec.decode(whole)).abs().mean() < 0.05


def test_tiles_as_large_as_the_frame_change_nothing(codec: VideoVAE) -> None:
    frames = clip(9)
    assert torch.equal(codec.encode(frames, tiling=VaeTiling((4, 6))), codec.encode(frames))


def test_reference_tiling_is_the_librarys(codec: VideoVAE, library_vae: torch.nn.Module) -> None:
    frames = clip(9, 64, 96)
    tiled = codec.encode(frames, tiling=VaeTiling(reference=True))
    library_vae.enable_tiling()  # type: ignore[operator]
    try:
        with torch.inference_mode():
            moments = library_vae.encode(codec.to_network(frames)).latent_dist.mode()  # type: ignore[operator]
            pixels = library_vae.decode((tiled / 0.7).transpose(1, 2), return_dict=False)[0]  # type: ignore[operator]
    finally:
        library_vae.use_tiling = False  # type: ignore[assignment]
    assert (tiled - moments.transpose(1, 2) * 0.7).abs().max() < ROUNDING
    decoded = codec.decode(tiled, VaeTiling(reference=True))
    assert (decoded - codec.from_network(pixels)).abs().max() < ROUNDING
    assert not torch.equal(tiled, codec.encode(frames)), "the clip must be larger than a tile for this test to count"


def test_sampling_draws_from_the_generator(codec: VideoVAE) -> None:
    sampling = VideoVAE(codec.vae, "sample")

    def draw(seed: int) -> torch.Tensor:
        return sampling.encode(clip(9), torch.Generator().manual_seed(seed))

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))
    assert not torch.equal(draw(1), codec.encode(clip(9)))
