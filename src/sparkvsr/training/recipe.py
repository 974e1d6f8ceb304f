"""What a run is going to do, in words: the first lines that ``sparkvsr train`` prints.

And what of it is not as in the paper, for the paper's model: a run that trains something else should say so itself.
"""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import Trainer
from omegaconf import DictConfig, OmegaConf

from sparkvsr.config import plain, shipped_option

_PAPER_MODEL = "sparkvsr.training.adapters.cogvideox.build_cogvideox_adapter"
# docs/method.md 4.1, 9: key to what the paper has there.
_PAPER_BOTH: dict[str, Any] = {
    "data.crop": [320, 640],
    "data.augment": False,
    "degradation._target_": "sparkvsr.degradation.second_order.SecondOrderDegradation",
    "degradation.quirks": True,
    "keyframes.policy._target_": "sparkvsr.data.keyframe_policies.PaperPolicy",
    "keyframes.policy.dropout": 0.1,
    "keyframes.isr.ratio": 0.0,
    "model.posterior": "sample",
    "optimizer.build._target_": "torch.optim.AdamW",
    "optimizer.build.betas": [0.9, 0.95],
    "optimizer.build.weight_decay": 1e-4,
    "optimizer.schedule.kind": "constant",
    "optimizer.schedule.warmup_steps": 100,
    "optimizer.ema_decay": 0.0,
    "optimizer.lora.rank": 0,
    "trainer.gradient_clip_val": 0.1,
}
_PAPER_STAGE: dict[int, dict[str, Any]] = {
    1: {
        "data.num_frames": 33,
        "loss._target_": "sparkvsr.losses.latent.LatentLoss",
        "loss.kind": "mse",
        "optimizer.learning_rate": 2e-5,
        "trainer.max_steps": 10_000,
    },
    2: {
        "data.num_frames": 2,
        "data.image_ratio": 0.5,
        "loss._target_": "sparkvsr.losses.pixel.PixelLoss",
        "loss.kind": "mse",
        "loss.dists_weight": 1.0,
        "loss.frame_difference_weight": 1.0,
        "optimizer.learning_rate": 5e-6,
        "trainer.max_steps": 500,
    },
}
PAPER_SAMPLES_PER_STEP = 8


def recipe_rows(config: DictConfig, trainer: Trainer) -> dict[str, str]:
    """What is trained on what and how, one short text by name.

    Args:
        config: composed.
        trainer: built from it.
    """
    data, optimizer = config.data, config.optimizer
    names = config.get("choices") or {}
    crop = plain(data.crop)
    frames = f"{data.num_frames} frames of {crop[0]}x{crop[1]} (height x width)"
    stills = f", {data.image_ratio:.0%} of the batches stills" if data.image_ratio > 0 else ""
    per_step = f"{data.batch_size} x {config.trainer.accumulate_grad_batches} x {trainer.world_size}"
    schedule: Any = optimizer.get("schedule") or {}
    warmup = f" (warm-up {schedule.warmup_steps}, then {schedule.kind})" if "warmup_steps" in schedule else ""
    trained = "all weights" if not optimizer.lora.rank else f"LoRA of rank {optimizer.lora.rank}"
    rows = {
        "data": f"{names.get('data') or _class_name(data.clips)}: {frames}{stills}",
        "degradation": _degradation_text(names.get("degradation"), plain(config.degradation)),
        "keyframes": _named(names.get("keyframes"), config.keyframes.policy),
        "losses": loss_text(plain(config.loss)),
        "optimizer": f"{_class_name(optimizer.build)} on {trained}, learning rate {optimizer.learning_rate:g}{warmup}, "
        f"gradient clip {config.trainer.gradient_clip_val}",
        "batch": f"{samples_per_step(config, trainer)} samples a step (batch x accumulation x processes: {per_step}), "
        f"{config.trainer.max_steps} steps",
        "trainer": f"{names.get('trainer') or type(trainer.strategy).__name__}: {device_text(trainer)}, "
        f"{config.trainer.precision}",
    }
    if config.get("adversary"):
        rows["adversary"] = _named(names.get("adversary"), config.adversary)
    return rows


def departures(config: DictConfig, samples: int) -> list[str] | None:
    """What is not as in the paper, one text each; None for a model that is not the paper's.

    Args:
        config: composed.
        samples: a step, over all processes.
    """
    if config.model.get("_target_") != _PAPER_MODEL:
        return None
    found = []
    replaced = ""
    for key, paper in {**_PAPER_BOTH, **_PAPER_STAGE[int(config.stage)]}.items():
        value = plain(OmegaConf.select(config, key))
        if replaced and key.startswith(replaced):
            continue  # of another class, which has settings of its own
        if value != paper:
            replaced = key.removesuffix("_target_") if key.endswith("._target_") else replaced
            name = key.removesuffix("._target_")
            found.append(f"{name} {_short(value)} instead of {_short(paper)}")
    found += _changed_numbers(plain(config.degradation))
    if samples != PAPER_SAMPLES_PER_STEP:
        found.append(f"{samples} samples a step instead of {PAPER_SAMPLES_PER_STEP}")
    if config.trainer.precision != "bf16-mixed":
        found.append(f"trainer.precision {config.trainer.precision} instead of bf16-mixed")
    return found


def _changed_numbers(degradation: dict[str, Any]) -> list[str]:
    """Numbers of the published degradation that are others here; where it is computed changes nothing."""
    paper = shipped_option("degradation", "parity") or {}
    if degradation.get("_target_") != paper.get("_target_"):
        return []  # said already
    names = [key for key in paper if key not in ("quirks", "device") and degradation.get(key) != paper[key]]
    return [f"degradation.{key} {degradation.get(key)} instead of {paper[key]}" for key in names]


def device_notes(config: DictConfig, trainer: Trainer) -> list[str]:
    """What should be said of the devices: a GPU that is not used, a large model without one."""
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and torch.cuda.is_available():
        return ["a GPU is there and is not used (trainer.accelerator=cpu); trainer=gpu, ddp or fsdp uses it"]
    if on_cpu and config.model.get("_target_") == _PAPER_MODEL:
        return ["no GPU was found: training on the CPU, which is far too slow for the model of 5 billion weights"]
    return []


def samples_per_step(config: DictConfig, trainer: Trainer) -> int:
    """Samples of an optimiser step over all processes."""
    return int(config.data.batch_size * config.trainer.accumulate_grad_batches * trainer.world_size)


def loss_text(loss: dict[str, Any]) -> str:
    """The terms of a loss with their weights."""
    terms = loss.get("terms")
    if isinstance(terms, dict):
        parts = []
        for name, term in terms.items():
            if term is not None and term.get("weight", 1.0):
                target = ", teacher" if term.get("target") == "teacher" else ""
                parts.append(f"{name} ({_class_name(term)}{target}) {term.get('weight', 1.0):g}")
        return " + ".join(parts)
    weights = {key.removesuffix("_weight"): value for key, value in loss.items() if key.endswith("_weight") and value}
    kind = loss.get("kind", "")
    if weights:
        named = {kind if name == "fidelity" and kind else name: value for name, value in weights.items()}
        return " + ".join(f"{name} {value:g}" for name, value in named.items())
    return f"{_class_name(loss)} {kind}".strip()


def device_text(trainer: Trainer) -> str:
    """``4 x NVIDIA H100``, ``the CPU``."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return f"{trainer.world_size} x {name}"


def _named(choice: Any, node: Any) -> str:
    """Name of the option, class, and its plain settings."""
    values = plain(node)
    settings = " ".join(f"{k}={v}" for k, v in values.items() if isinstance(v, int | float | str) and k != "_target_")
    inside = f"{_class_name(values)} {settings}".strip()
    return f"{choice} ({inside})" if choice else inside


def _degradation_text(choice: Any, values: dict[str, Any]) -> str:
    """The option, and only what was changed of it: it has many numbers."""
    shipped = shipped_option("degradation", str(choice))
    if shipped is None:
        return _named(choice, values)
    changed = [f"{key}={value}" for key, value in values.items() if value != shipped.get(key)]
    return f"{choice} ({_class_name(values)})" + (f", changed: {' '.join(changed)}" if changed else "")


def _class_name(node: Any) -> str:
    return str(node.get("_target_", "")).rpartition(".")[2]


def _short(value: Any) -> str:
    """Of a class only the name."""
    return value.rpartition(".")[2] if isinstance(value, str) and value.count(".") > 1 else str(value)
