"""A CogVideoX model small enough for tests, with the real structure, and folders to load it from.

The product's nano model, with a smaller autoencoder and text embedding.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from sparkvsr.models.cogvideox.networks.prompt import EMBEDDING_FILE, EMBEDDING_FOLDER, EMBEDDING_KEY
from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, build_vae
from sparkvsr.training.adapters.nano import NANO_TRANSFORMER, NANO_VAE, SCHEDULER

TOKENS, TEXT_DIM = 4, 16

TRANSFORMER: dict[str, Any] = {
    **NANO_TRANSFORMER,
    "time_embed_dim": 16,
    "ofs_embed_dim": 16,
    "text_embed_dim": TEXT_DIM,
    "max_text_seq_length": TOKENS,
    "sample_height": 4,  # smaller than the clips of the tests: the rotary grid must not be bound by it
    "sample_width": 4,
}
VAE: dict[str, Any] = {
    **NANO_VAE,
    "block_out_channels": [4, 4, 8, 8],
    "norm_num_groups": 2,
    "sample_height": 64,  # library tiles of 32 x 48 pixels
    "sample_width": 96,
    "invert_scale_latents": True,
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Tensors this small gain nothing from threads, and on a busy machine their barriers cost ten times the work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def write_nano(folder: Path, *, shards: int = 1, dtype: torch.dtype = torch.float32) -> Path:
    """Write a model folder with random weights; the transformer in ``shards`` files with an index if more than one."""
    torch.manual_seed(7)
    for name, config, build in (("transformer", TRANSFORMER, build_transformer), ("vae", VAE, build_vae)):
        home = folder / name
        home.mkdir(parents=True)
        (home / "config.json").write_text(json.dumps(config))
        state = {key: tensor.to(dtype).contiguous() for key, tensor in build(config, "cpu").state_dict().items()}
        if name == "transformer" and shards > 1:
            names = sorted(state)
            files = {
                key: f"diffusion_pytorch_model-{i % shards + 1:05d}-of-{shards:05d}.safetensors"
                for i, key in enumerate(names)
            }
            for file in set(files.values()):
                save_file({key: state[key] for key in names if files[key] == file}, home / file)
            (home / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
        else:
            save_file(state, home / "diffusion_pytorch_model.safetensors")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(SCHEDULER))
    (folder / EMBEDDING_FOLDER).mkdir()
    save_file({EMBEDDING_KEY: torch.randn(TOKENS, TEXT_DIM)}, folder / EMBEDDING_FOLDER / EMBEDDING_FILE)
    return folder


def moving_gradient(frames: int, height: int, width: int) -> torch.Tensor:
    """``(F, 3, h, w)`` in [0, 1]: a colour ramp that shifts by half a pixel per frame, so order and position show."""
    x = torch.arange(width).float().view(1, 1, 1, -1)
    y = torch.arange(height).float().view(1, 1, -1, 1)
    t = torch.arange(frames).float().view(-1, 1, 1, 1)
    phase = torch.tensor([0.0, 1.0, 2.0]).view(1, 3, 1, 1)
    return 0.5 + 0.4 * torch.sin((x + 0.5 * t) / 5 + y / 7 + phase)
