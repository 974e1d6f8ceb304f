"""How much memory a training run of a large model takes, per GPU and per trainer. Computed, not measured.

Weights, gradients and optimiser state are counted. Activations are traced on the meta device with the model itself and
the run's clip size. What a trace cannot see, the allocator's fragments and the kernels' workspaces, is a share on top.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from hydra.utils import get_class, get_method
from omegaconf import DictConfig
from torch import Tensor, nn

from sparkvsr.config import plain
from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.models.cogvideox.networks.hub import resolve_folder
from sparkvsr.models.cogvideox.networks.weight_files import build_transformer, build_vae
from sparkvsr.models.tracing import peak_bytes, training_peak_bytes
from sparkvsr.plain_json import read_object
from sparkvsr.pretrained.perceptual import Dists
from sparkvsr.training.adapters.cogvideox import CogVideoXAdapter, build_cogvideox_adapter
from sparkvsr.training.adapters.interface import LatentBatch, parameter_count
from sparkvsr.training.lora import add_lora, has_peft
from sparkvsr.training.module import works_in_pixels

SAFETY = 1.12
"""Allocator fragments and kernel workspaces, as in the memory model of inference."""

FIXED_BYTES = 1 << 30
"""Device context, NCCL buffers."""

DEFAULT_DEVICES = 4
DEFAULT_RANK = 64
_BUCKET_ELEMENTS = 200_000_000  # DeepSpeed's gather and reduce buckets, as Lightning sets them
_DISTS_CHANNELS = (3, 64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on one GPU.

    Attributes:
        trainer: what to type.
        fixed: ``name -> bytes`` of what lies there all the time.
        gradients: at the end of a backward pass.
        activations: most of them at one moment of a step.
        update: temporaries of the optimiser step, when the activations are gone.
    """

    trainer: str
    fixed: dict[str, int]
    gradients: int
    activations: int
    update: int

    @property
    def total(self) -> int:
        """The peak, with the shares that cannot be traced."""
        step = self.gradients + max(self.activations, self.update)
        return int(sum(self.fixed.values()) + SAFETY * step) + FIXED_BYTES


@dataclass(frozen=True)
class ActivationTrace:
    """Bytes of one micro-batch.

    Attributes:
        encode: VAE, without gradient.
        step: forward and backward pass, in stage 2 with the VAE's decoder and the loss on pixels.
    """

    encode: int
    step: int

    @property
    def peak(self) -> int:
        """The largest."""
        return max(self.encode, self.step)


def plan_memory(config: DictConfig) -> list[MemoryPlan]:
    """Plans of the trainers that a large model is trained with.

    Args:
        config: composed; model, stage, data, precision and checkpointing are read from it. ``model.path`` needs the
            configuration files only. ``trainer.devices`` below 1 counts as 4.

    Raises:
        ConfigError: the model is not a large one.
        WeightsError: the configuration files are missing.
    """
    if get_method(config.model["_target_"]) is not build_cogvideox_adapter:
        msg = "--plan is for model=cogvideox; the other models train in the memory of any machine"
        raise ConfigError(msg)
    folder = resolve_folder(config.model.path)
    transformer, vae = _read(folder / "transformer" / "config.json"), _read(folder / "vae" / "config.json")
    count, vae_count = parameter_count(build_transformer(transformer)), parameter_count(build_vae(vae))
    devices = config.trainer.devices if isinstance(config.trainer.devices, int) else DEFAULT_DEVICES
    devices = devices if devices > 1 else DEFAULT_DEVICES
    rank = int(config.optimizer.lora.rank) or DEFAULT_RANK
    layers = int(transformer["num_layers"])
    block = parameter_count(_blocks(build_transformer({**transformer, "num_layers": 1})))

    def trace(*, lora: int = 0, autocast: bool = True) -> int:
        return trace_activations(config, transformer, vae, lora_rank=lora, autocast=autocast).peak

    mixed, pure = trace(), trace(autocast=False)
    average = config.optimizer.ema_decay > 0
    low_rank = _lora_count(transformer, rank, plain(config.optimizer.lora.targets)) * layers
    frozen = {"VAE": 4 * vae_count}

    def states(trained: int) -> dict[str, int]:
        return {"optimiser state": 8 * trained, **({"moving average": 4 * trained} if average else {})}

    shard = -(-count // devices)
    # This block and the next one in bf16, its gradients before they are shared out.
    gathered = 2 * block * 2 + 4 * block
    bucket = 2 * 2 * _BUCKET_ELEMENTS
    low_rank_plans = []
    # Its layers are peft's: who asked for them is told by `add_lora` if it is missing, for others a column is left out.
    if has_peft() or config.optimizer.lora.rank:
        low_rank_plans.append(
            MemoryPlan(
                f"gpu optimizer.lora.rank={rank}",
                {"weights": 4 * (count + low_rank), **frozen, **states(low_rank)},
                4 * low_rank,
                trace(lora=rank),
                4 * low_rank,
            )
        )
    return [
        *low_rank_plans,
        MemoryPlan(
            "gpu, ddp",
            # Autocast keeps the bf16 copies of trained weights for the length of a pass.
            {"weights": 4 * count, "bf16 copies": 2 * count, **frozen, **states(count)},
            4 * count,
            mixed,
            4 * count,
        ),
        MemoryPlan(
            f"fsdp trainer.devices={devices}",
            {"weights": 4 * shard, "gathered blocks": gathered, **frozen, **states(shard)},
            4 * shard,
            mixed,
            4 * shard,
        ),
        MemoryPlan(
            f"deepspeed trainer.devices={devices}",
            {
                "weights": 2 * count,
                "float32 weights": 4 * shard,
                "buckets": bucket,
                "VAE": 2 * vae_count,
                **states(shard),
            },
            2 * shard,
            pure,
            2 * 4 * shard,
        ),
    ]


def trace_activations(
    config: DictConfig, transformer: dict[str, Any], vae: dict[str, Any], *, lora_rank: int = 0, autocast: bool = True
) -> ActivationTrace:
    """Trace one micro-batch of the run's size.

    Args:
        config: composed.
        transformer: ``config.json`` of the transformer.
        vae: likewise.
        lora_rank: train low-rank adapters only.
        autocast: norms in float32; False is DeepSpeed's pure bf16.
    """
    framewise = works_in_pixels(get_class(config.loss["_target_"]))
    adapter = _meta_adapter(config, transformer, vae)
    if lora_rank:
        add_lora(adapter, rank=lora_rank, alpha=lora_rank, targets=plain(config.optimizer.lora.targets))
        nn.Module.to(adapter.network, torch.bfloat16)
    batch = _meta_batch(config)
    given_bytes = _batch_bytes(batch)
    latents: list[LatentBatch] = []
    encode = peak_bytes(
        lambda: latents.append(adapter.encode(batch, framewise=framewise, with_hr=not framewise)), autocast=autocast
    )
    lr = torch.empty(latents[0].lr.shape, dtype=torch.bfloat16, device="meta")
    given = LatentBatch(lr, lr.clone(), lr.clone())
    dists = _meta_dists() if framewise and float(config.loss.get("dists_weight", 0)) > 0 else None

    def step() -> Tensor:
        restored = adapter.restore(given)
        if not framewise:
            return F.mse_loss(restored.float(), given.lr.float())
        pixels = adapter.decode(restored, framewise=True)
        loss = F.mse_loss(pixels, batch.hr)
        return loss if dists is None else loss + dists(pixels.flatten(0, 1), batch.hr.flatten(0, 1)).mean()

    parameters = list(adapter.network.parameters())
    return ActivationTrace(encode + given_bytes, training_peak_bytes(step, parameters, autocast=autocast) + given_bytes)


def plan_text(plans: list[MemoryPlan], config: DictConfig) -> str:
    """The plans as a table in GiB, largest parts first."""
    crop, data = plain(config.data.crop), config.data
    checkpointing = "on" if config.model.gradient_checkpointing else "off"
    head = (
        "Memory of one GPU in GiB, computed on the meta device, not measured.\n"
        f"Stage {config.stage}: clips of {data.num_frames} frames {crop[1]}x{crop[0]}, {data.batch_size} a "
        f"micro-batch, bf16-mixed, gradient checkpointing {checkpointing}.\n"
    )
    names = list(dict.fromkeys(name for plan in plans for name in plan.fixed))
    rows = [[name, *(_gib(plan.fixed.get(name)) for plan in plans)] for name in names]
    rows += [
        ["gradients", *(_gib(plan.gradients) for plan in plans)],
        ["activations", *(_gib(plan.activations) for plan in plans)],
        ["optimiser step", *(_gib(plan.update) for plan in plans)],
        ["peak", *(_gib(plan.total) for plan in plans)],
    ]
    width = [max(len(row[0]) for row in rows), *(max(len(plan.trainer), 8) for plan in plans)]
    lines = [["trainer=", *(plan.trainer for plan in plans)], *rows]
    body = "\n".join(
        "  ".join(cell.rjust(w) if i else cell.ljust(w) for i, (cell, w) in enumerate(zip(line, width, strict=True)))
        for line in lines
    )
    foot = (
        f"\npeak: what lies there + {SAFETY} x (gradients + the larger of activations and optimiser step) + "
        f"{FIXED_BYTES / 2**30:.0f} GiB. While it loads, each process needs the float32 weights in main memory.\n"
        "Less: data.batch_size, trainer.strategy.stage=3, trainer.strategy.offload_optimizer=true (deepspeed), "
        "optimizer.build.foreach=false (no optimiser step).\n"
    )
    if not has_peft():
        foot += "LoRA is left out: to plan it, pip install 'sparkvsr[lora]'.\n"
    return f"{head}\n{body}\n{foot}"


def _gib(count: int | None) -> str:
    return "-" if count is None else f"{count / 2**30:.1f}"


def _read(file: Path) -> dict[str, Any]:
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            msg = "it is no file"
            raise ValueError(msg)
        loaded = read_object(file)
    except (OSError, ValueError) as exc:
        msg = f"model.path: {file} cannot be read ({exc}); --plan needs the configuration files, not the weights"
        raise WeightsError(msg) from exc
    return loaded


def _blocks(transformer: Any) -> nn.Module:
    blocks: nn.Module = transformer.transformer_blocks
    return blocks


def _lora_count(transformer: dict[str, Any], rank: int, targets: list[str]) -> int:
    """Parameters that low-rank adapters add to one block."""
    names = tuple(f".{target}" for target in targets)
    linears = [
        module
        for name, module in _blocks(build_transformer({**transformer, "num_layers": 1})).named_modules()
        if isinstance(module, nn.Linear) and name.endswith(names)
    ]
    return sum(rank * (linear.in_features + linear.out_features) for linear in linears)


def _meta_adapter(config: DictConfig, transformer: dict[str, Any], vae: dict[str, Any]) -> CogVideoXAdapter:
    tokens, width = transformer["max_text_seq_length"], transformer["text_embed_dim"]
    network = nn.Module.to(build_transformer(transformer), torch.bfloat16).train()
    return CogVideoXAdapter(
        network,
        nn.Module.to(build_vae(vae), torch.bfloat16),
        torch.empty(tokens, width, device="meta"),
        {"prediction_type": "v_prediction"},
        posterior=config.model.posterior,
        gradient_checkpointing=config.model.gradient_checkpointing,
        vae_tiling=config.model.vae_tiling,
    )


def _meta_batch(config: DictConfig) -> TrainBatch:
    data = config.data
    (height, width), scale, size = plain(data.crop), data.scale, data.batch_size
    keyframes = (data.num_frames - 1) // config.keyframes.policy.get("min_keyframe_gap", 4) + 1

    def pixels(count: int, *sides: int) -> Tensor:
        return torch.empty(size, count, 3, *sides, device="meta")

    return TrainBatch(
        lr=pixels(data.num_frames, height // scale, width // scale),
        hr=pixels(data.num_frames, height, width),
        keyframes=pixels(keyframes, height, width),
        keyframe_indices=torch.arange(keyframes).mul(4).clamp(max=data.num_frames - 1).expand(size, -1),
        numbers=torch.arange(size),
        times=torch.arange(data.num_frames).expand(size, -1),
        names=[""] * size,
    )


def _batch_bytes(batch: TrainBatch) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in (batch.lr, batch.hr, batch.keyframes))


def _meta_dists() -> Dists:
    layers = [
        (torch.empty(out, into, 3, 3, device="meta"), torch.empty(out, device="meta"))
        for into, out in itertools.pairwise(_DISTS_CHANNELS)
    ]
    weights = torch.empty(1, 1475, 1, 1, device="meta")
    return Dists(layers, weights, weights).to("meta")
