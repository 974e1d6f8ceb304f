"""From a folder or a hub id to a ready ``CogVideoXModel``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded
from sparkvsr.models.cogvideox.colour_fix import DEFAULT_COLOUR, check_colour
from sparkvsr.models.cogvideox.model import CogVideoXModel
from sparkvsr.models.cogvideox.networks.conditioning import SlotRule, keyframe_slot
from sparkvsr.models.cogvideox.networks.hub import resolve_folder
from sparkvsr.models.cogvideox.networks.kernels import (
    Attention,
    VaeLayout,
    check_attention,
    check_layout,
    compile_blocks,
    set_layout,
)
from sparkvsr.models.cogvideox.networks.lean_vae import make_lean
from sparkvsr.models.cogvideox.networks.lora_files import PEFT_CONFIG, merge_lora
from sparkvsr.models.cogvideox.networks.precision import apply_precision, choose_precision
from sparkvsr.models.cogvideox.networks.prompt import load_prompt_embedding
from sparkvsr.models.cogvideox.networks.schedule import velocity_coefficients
from sparkvsr.models.cogvideox.networks.vae import VideoVAE
from sparkvsr.models.cogvideox.networks.weight_files import (
    ModelFolder,
    build_transformer,
    build_vae,
    load_weights,
    open_folder,
)
from sparkvsr.models.cogvideox.offload import Residency
from sparkvsr.models.cogvideox.pipeline import ChunkPipeline
from sparkvsr.models.whole_weights import read_and_named


def load_cogvideox(
    path_or_hub_id: str | Path,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    precision: str | None = None,
    offload: str = "auto",
    vae_tiling: str = "auto",
    colour: str = DEFAULT_COLOUR,
    carry: bool = True,
    slot: SlotRule = "floor",
    lora: Sequence[str | Path] = (),
    posterior: Literal["mode", "sample"] = "mode",
    exact_coefficients: bool = False,
    compile_transformer: bool = False,
    attention: Attention = "auto",
    vae_layout: VaeLayout = "contiguous",
) -> CogVideoXModel:
    """Load SparkVSR weights from a model folder in diffusers layout or from the hub.

    Args:
        path_or_hub_id: a folder with ``transformer/``, ``vae/``, ``scheduler/`` and ``prompt_embeddings/`` (or
            ``text_encoder/``), or ``owner/name``.
        device: where to compute.
        dtype: compute type; None follows ``precision``.
        precision: ``bf16``, ``fp16``, ``fp32``; for the transformer also weight-only ``fp8`` and ``int8``, or
            ``fp8-matmul`` and ``int8-matmul``, whose products run in 8 bit through the package torchao; None takes
            bf16 on a GPU that has it and fp32 on the CPU.
        offload: ``auto``, ``none``, ``model``, ``sequential``.
        vae_tiling: ``auto`` cuts frames where memory asks for it, ``on`` into the library's own tiles, ``off`` never.
        colour: ``none`` (parity), ``wavelet`` or ``adain``.
        carry: a chunk without a keyframe takes the last restored frame of its predecessor as one (off for parity).
        slot: ``floor`` (as trained) or ``exact``.
        lora: LoRA files to merge, in order.
        posterior: ``mode`` is deterministic, ``sample`` draws as the published code does.
        exact_coefficients: float32 coefficients instead of those rounded as the library rounds them in bf16/fp16.
        compile_transformer: ``torch.compile`` the transformer blocks; the first chunk takes longer by it.
        attention: ``auto`` (torch chooses), ``flash``, ``fa3``, ``cudnn``, ``efficient``, ``math``.
        vae_layout: of the autoencoder: ``contiguous`` or ``channels_last``, see ``networks.kernels.set_layout``.

    Raises:
        WeightsError: the folder, a shard, an architecture or a LoRA does not fit, or the hub cannot be reached.
        ConfigError: an option is unknown, or the device lacks the precision.
    """
    device = torch.device(device)
    check_colour(colour)
    keyframe_slot(0, slot)
    check_attention(attention, device)
    check_layout(vae_layout)
    if compile_transformer and (offload == "sequential" or precision == "fp8"):
        msg = (
            "--compile does not go with --offload sequential or --precision fp8, whose hooks move weights at each call"
        )
        raise ConfigError(msg)
    chosen = choose_precision(precision, dtype, device)

    # 1. Folder: everything that can be refused is refused before a weight is read.
    path = resolve_folder(path_or_hub_id)
    folder = open_folder(path)
    coefficients = velocity_coefficients(folder.scheduler, torch.float32 if exact_coefficients else chosen.dtype)
    prompt = load_prompt_embedding(
        path, folder.transformer.get("max_text_seq_length", 226), folder.transformer.get("text_embed_dim", 4096)
    )

    # 2. Networks. LoRAs are merged before weights are quantised.
    home = device if offload == "none" and chosen.storage == "full" else torch.device("cpu")
    adapters = [expanded(file) for file in lora]
    (transformer, vae), weights = read_and_named(
        lambda: _networks(folder, adapters, chosen.dtype, home), lambda: _name_of(folder, adapters), path
    )
    transformer, vae = apply_precision(transformer, chosen), make_lean(vae)
    set_layout(vae, vae_layout)
    if compile_transformer:
        compile_blocks(transformer)

    # 3. Model.
    residency = Residency({"transformer": transformer, "vae": vae}, device, offload)
    pipeline = ChunkPipeline(
        transformer, VideoVAE(vae, posterior), prompt.to(device), coefficients, device, slot, residency, attention
    )
    return CogVideoXModel(
        folder.path.resolve().name if expanded(path_or_hub_id).exists() else str(path_or_hub_id),
        folder,
        pipeline,
        residency,
        dtype=chosen.dtype,
        precision=chosen,
        vae_tiling=vae_tiling,
        colour=colour,
        carry=carry,
        weights=f"{weights}-{_digest(prompt.float().numpy().tobytes())}",
        vae_layout=vae_layout,
        compiled=compile_transformer,
    )


def _networks(folder: ModelFolder, loras: Sequence[Path], dtype: torch.dtype, home: torch.device) -> tuple[Any, Any]:
    """Transformer with its LoRAs, and autoencoder."""
    transformer = load_weights(build_transformer(folder.transformer), folder.shards["transformer"], dtype, home)
    for file in loras:
        merge_lora(transformer, file)
    return transformer, load_weights(build_vae(folder.vae), folder.shards["vae"], dtype, home)


def _name_of(folder: ModelFolder, loras: Sequence[Path]) -> str:
    # peft keeps a LoRA's alpha beside it. What is missing is told by whoever reads it.
    files = [path for file in loras for path in (file, file.with_name(PEFT_CONFIG)) if path.is_file()]
    return "-".join([folder.fingerprint(), *(_digest(path.read_bytes()) for path in files)])


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
