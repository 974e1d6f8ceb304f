"""Diffusion pipelines as reference makers, with a pipeline that only looks like one, and a tiny real one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sparkvsr.errors import ConfigError, KeyframeError, WeightsError
from sparkvsr.keyframes.makers.diffusion import DEFAULT_STRENGTH, DiffusionMaker, parse_settings
from sparkvsr.keyframes.makers.interface import MakerOptions
from sparkvsr.keyframes.references import make_reference_maker, resize_image

LR = resize_image(torch.rand(3, 4, 6, generator=torch.Generator().manual_seed(1)), (18, 28))


class FakeImageToImage:
    """Gives its input back with a little of its own noise."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(
        self, prompt: str, image: torch.Tensor, strength: float = 0.8, generator: Any = None, output_type: str = "pil"
    ) -> Any:
        self.calls.append({"prompt": prompt, "image": image, "strength": strength, "output_type": output_type})
        noise = 0.01 * torch.randn(image.shape, generator=generator)
        return SimpleNamespace(images=(image + noise).permute(0, 2, 3, 1).numpy())


class FakeUpscaler:
    def __call__(self, prompt: str, image: torch.Tensor, output_type: str = "pil") -> Any:
        big = resize_image(image, (4 * image.shape[-2], 4 * image.shape[-1]))
        return SimpleNamespace(images=big.permute(0, 2, 3, 1).numpy())


def test_image_to_image_starts_from_the_upscaled_frame_and_stays_in_place() -> None:
    pipeline = FakeImageToImage()
    made = DiffusionMaker(pipeline, "fake", MakerOptions(prompt="a face", prompts={5: "a dog"})).make(LR, (66, 102))
    (call,) = pipeline.calls
    assert tuple(call["image"].shape) == (1, 3, 72, 104)
    assert call["strength"] == DEFAULT_STRENGTH
    assert call["prompt"] == "a face"
    assert made.shape == (3, 66, 102)
    assert (made - resize_image(LR, (66, 102))).abs().mean() < 0.02


def test_prompts_of_single_keyframes_win() -> None:
    pipeline = FakeImageToImage()
    maker = DiffusionMaker(pipeline, "fake", MakerOptions(prompt="a face", prompts={5: "a dog"}))
    maker.make(LR, (72, 112), 5)
    assert pipeline.calls[0]["prompt"] == "a dog"


def test_noise_depends_on_seed_and_index_only() -> None:
    maker = DiffusionMaker(FakeImageToImage(), "fake", MakerOptions(seed=1))
    first = maker.make(LR, (72, 112), 4)
    maker.make(LR, (72, 112), 8)
    assert torch.equal(maker.make(LR, (72, 112), 4), first)
    assert not torch.equal(maker.make(LR, (72, 112), 8), first)
    assert not torch.equal(
        DiffusionMaker(FakeImageToImage(), "fake", MakerOptions(seed=2)).make(LR, (72, 112), 4), first
    )


def test_an_upscaler_gets_the_frame_itself() -> None:
    made = DiffusionMaker(FakeUpscaler(), "fake").make(LR, (72, 112))
    assert made.shape == (3, 72, 112)
    assert (made - resize_image(LR, (72, 112))).abs().mean() < 0.02


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (RuntimeError("out of memory\nstack"), "failed for keyframe 3: out of memory"),
        ([], "failed for keyframe 3"),
        (torch.full((1, 72, 112, 3), float("nan")).numpy(), "values that are no numbers"),
        (torch.zeros(1, 9, 14, 3).numpy(), "smaller than the frame"),
    ],
)
def test_a_pipeline_that_fails_is_said(images: Any, words: str) -> None:
    class Failing:
        def __call__(self, prompt: str, image: torch.Tensor, strength: float = 0.5) -> Any:
            if isinstance(images, Exception):
                raise images
            return SimpleNamespace(images=images)

    with pytest.raises(KeyframeError, match=words):
        DiffusionMaker(Failing(), "fake").make(LR, (72, 112), 3)


def test_settings_behind_the_hash_are_checked() -> None:
    assert parse_settings("strength=0.5&steps=20", "x") == {"strength": 0.5, "num_inference_steps": 20}
    assert parse_settings("", "x") == {}
    for text in ("colour=1", "strength=2", "strength=nan", "steps=1.5", "steps="):
        with pytest.raises(ConfigError, match="--references x"):
            parse_settings(text, "x")
    with pytest.raises(ConfigError, match="has no num_inference_steps"):
        DiffusionMaker(FakeUpscaler(), "fake", settings={"num_inference_steps": 3})


def test_a_folder_that_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no model_index.json"):
        make_reference_maker(f"diffusers:{tmp_path}")
    with pytest.raises(ConfigError, match="needs the folder"):
        make_reference_maker("diffusers:")
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "NoSuchPipeline"}))
    with pytest.raises(WeightsError, match="cannot be loaded"):
        make_reference_maker(f"diffusers:{tmp_path}")


def test_a_tiny_real_pipeline_from_a_folder(tmp_path: Path) -> None:
    """Random weights: that the call fits the real interface, not that it looks good."""
    pytest.importorskip("transformers")
    from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    (tmp_path / "vocab.json").write_text(json.dumps({"<|startoftext|>": 0, "<|endoftext|>": 1, "a</w>": 2}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt"), model_max_length=8)
    text = CLIPTextConfig(
        vocab_size=3, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
        max_position_embeddings=8, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    pipeline = StableDiffusionPipeline(
        vae=AutoencoderKL(block_out_channels=(4, 4, 4, 4), down_block_types=("DownEncoderBlock2D",) * 4,
                          up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=2, latent_channels=4),
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=UNet2DConditionModel(sample_size=8, block_out_channels=(4,), down_block_types=("CrossAttnDownBlock2D",),
                                  up_block_types=("CrossAttnUpBlock2D",), cross_attention_dim=8, norm_num_groups=2,
                                  attention_head_dim=2, layers_per_block=1),
        scheduler=DDIMScheduler(num_train_timesteps=20, steps_offset=1, clip_sample=False),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipeline.save_pretrained(tmp_path / "pipeline")
    maker = make_reference_maker(f"diffusers:{tmp_path / 'pipeline'}#steps=2&strength=1&guidance=2")
    made = maker.make(LR, (66, 102))
    assert made.shape == (3, 66, 102)
    assert 0 <= made.min() <= made.max() <= 1
    assert torch.equal(maker.make(LR, (66, 102)), made)
