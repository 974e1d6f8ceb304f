"""The published forward pass, case by case, and the real model's shapes on the meta device."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from cogvideox_nano import one_thread  # noqa: F401  (autouse)
from safetensors import safe_open
from safetensors.torch import load_file

from sparkvsr.models.cogvideox import load_cogvideox
from sparkvsr.models.cogvideox.model import CogVideoXModel
from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, build_vae

pytestmark = pytest.mark.shared

CASES = ("blind_9f", "guidance_half", "guidance_strong", "guidance_zero", "keyed_17f_odd_latents", "keyed_9f")

GOAL = 1e-4
"""The goal of the golden cases; the same order of operations gives 1e-5."""


@pytest.fixture(scope="module")
def model(shared_dir: Path) -> CogVideoXModel:
    return load_cogvideox(shared_dir / "golden" / "model", colour="none")


@pytest.mark.parametrize("case", CASES)
def test_golden_case(case: str, shared_dir: Path, model: CogVideoXModel) -> None:
    path = shared_dir / "golden" / f"{case}.safetensors"
    tensors = load_file(path)
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    restored = model.restore(
        tensors["lr"],
        tensors["keyframes"] if len(tensors["keyframes"]) else None,
        json.loads(metadata["keyframe_indices"]),
        scale=float(metadata["scale"]),
        guidance_scale=float(metadata["guidance_scale"]),
    )
    assert (restored - tensors["expected"]).abs().max() < GOAL


def test_every_golden_case_is_run(shared_dir: Path) -> None:
    assert sorted(path.stem for path in (shared_dir / "golden").glob("*.safetensors")) == sorted(CASES)


def test_golden_latents_stage_by_stage(shared_dir: Path, model: CogVideoXModel) -> None:
    tensors = load_file(shared_dir / "golden" / "keyed_17f_odd_latents.safetensors")
    vae = model.pipeline.vae
    lr_latents = vae.encode(tensors["lr"][None])
    assert (lr_latents[0] - tensors["lr_latents"]).abs().max() < GOAL
    keyframes = {i: vae.encode(image[None, None]) for i, image in zip((0, 12), tensors["keyframes"], strict=True)}
    for index, latents in keyframes.items():
        assert (latents[0, 0] - tensors["keyframe_latents"][index // 4]).abs().max() < GOAL


def test_real_transformer_has_the_published_tensors(shared_dir: Path) -> None:
    folder = shared_dir / "golden" / "cogvideox1.5-5b-i2v" / "transformer"
    transformer = build_transformer(json.loads((folder / "config.json").read_text()))
    index = json.loads((folder / "diffusion_pytorch_model.safetensors.index.json").read_text())
    state = transformer.state_dict()
    assert sorted(state) == sorted(index["weight_map"])
    assert len(state) == 1028
    assert sum(tensor.numel() for tensor in state.values()) == 5_571_594_880
    assert index["metadata"]["total_size"] == 2 * 5_571_594_880
    # One tensor of each kind (docs/method.md 2.2).
    shapes = {
        "patch_embed.proj.weight": (3072, 256),
        "patch_embed.text_proj.weight": (3072, 4096),
        "time_embedding.linear_1.weight": (512, 3072),
        "ofs_embedding.linear_1.weight": (512, 512),
        "transformer_blocks.41.norm1.linear.weight": (18432, 512),
        "transformer_blocks.41.attn1.norm_q.weight": (64,),
        "transformer_blocks.0.attn1.to_out.0.weight": (3072, 3072),
        "transformer_blocks.0.ff.net.0.proj.weight": (12288, 3072),
        "transformer_blocks.0.ff.net.2.weight": (3072, 12288),
        "norm_out.linear.weight": (6144, 512),
        "proj_out.weight": (128, 3072),
    }
    for name, shape in shapes.items():
        assert tuple(state[name].shape) == shape


def test_real_autoencoder_has_the_published_size(shared_dir: Path) -> None:
    folder = shared_dir / "golden" / "cogvideox1.5-5b-i2v" / "vae"
    vae = build_vae(json.loads((folder / "config.json").read_text()))
    assert sum(parameter.numel() for parameter in vae.parameters()) == 215_583_907
    assert len(vae.state_dict()) == 436
    assert all(parameter.device.type == "meta" for parameter in vae.parameters())
    assert next(vae.parameters()).dtype is torch.float32
