"""What a configuration that comes from a file may name.

``_target_`` names code, and checkpoints and run folders come from anybody. So a stored configuration may name what the
shipped configuration names at that key, and a few kinds of plain classes of known packages; never a function of theirs,
which could load, fetch or write whatever its arguments say. Own code is taken from the command line, or from a folder
of configurations that was named there.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparkvsr.config import plain
from sparkvsr.errors import ConfigError
from sparkvsr.home import expanded

_CLIPS = ("data.folders.ClipFolder", "data.stills.MovingStills", "data.synthetic.SyntheticClips")
_IMAGES = ("data.folders.image_source", "data.folders.ImageFolder", "data.folders.FirstFrames")
_DEGRADATIONS = (
    "degradation.bicubic.BicubicDegradation",
    "degradation.mixed.MixedDegradation",
    "degradation.recorded.RecordedDegradation",
    "degradation.second_order.SecondOrderDegradation",
)

# Key of a node (a `*` is one part of it) to what of this package it may name.
_OWN = {
    "model": (
        "training.adapters.cogvideox.build_cogvideox_adapter",
        "training.adapters.nano.build_nano_adapter",
        "training.adapters.lite.build_lite_adapter",
        "training.adapters.detail.build_detail_adapter",
    ),
    "loss": ("losses.latent.LatentLoss", "losses.pixel.PixelLoss", "losses.weighted.WeightedLoss"),
    "loss.terms.*": tuple(
        f"losses.terms.{name}"
        for name in (
            *("L1", "Mse", "Charbonnier", "FrameDifference", "Latent", "FromModule"),
            *("Frequency", "Lpips", "Dists", "Artefacts"),
        )
    ),
    "metrics.*": tuple(f"training.validation_metrics.{name}" for name in ("Psnr", "Ssim", "Lpips", "Dists")),
    "adversary": ("training.adversary.Adversary",),
    "adversary.discriminator": ("losses.adversarial.UNetDiscriminator",),
    "data.clips": _CLIPS,
    "data.images": (*_CLIPS, *_IMAGES),
    "data.validation": (*_CLIPS, "data.folders.validation_source"),
    "degradation": _DEGRADATIONS,
    "degradation.parts.*": _DEGRADATIONS,
    "keyframes.policy": tuple(
        f"data.keyframe_policies.{name}" for name in ("AnyPolicy", "IframePolicy", "PaperPolicy", "RandomPolicy")
    ),
    "keyframes.augmentation": ("data.keyframe_images.ReferenceAugmentation",),
    "keyframes.isr": ("data.keyframe_images.IsrReferences",),
    "optimizer.schedule": ("training.schedules.warmup_schedule",),
    "trainer.strategy": ("training.strategies.ShardedStrategy", "training.strategies.ZeroStrategy"),
}
_OTHERS = {
    "trainer": ("lightning.pytorch.Trainer",),
    # Those that write nothing beside the run.
    "callbacks.*": tuple(
        f"lightning.pytorch.callbacks.{name}"
        for name in ("DeviceStatsMonitor", "EarlyStopping", "LearningRateMonitor", "Timer")
    ),
    # Those of the options wandb and mlflow; that they send figures elsewhere is up to `check_inherited`.
    "logger.wandb": ("lightning.pytorch.loggers.WandbLogger",),
    "logger.mlflow": ("lightning.pytorch.loggers.MLFlowLogger",),
    "logger.*": ("lightning.pytorch.loggers.CSVLogger", "lightning.pytorch.loggers.TensorBoardLogger"),
}


@dataclass(frozen=True)
class _Kind:
    """Classes of other packages: below which module, derived from what, at which keys (regular expression)."""

    modules: tuple[str, ...]
    base: str
    keys: str


_LAYERS = (
    "torch.nn",
    "torchvision.transforms",
    "kornia.augmentation",
    "kornia.color",
    "kornia.enhance",
    "kornia.filters",
    "kornia.losses",
    "diffusers.models",
)
_KINDS = (
    _Kind(("torch.optim",), "torch.optim.Optimizer", r"optimizer\.build"),
    _Kind(("torch.optim.lr_scheduler",), "torch.optim.lr_scheduler.LRScheduler", r"optimizer\.schedule"),
    _Kind(("lightning.pytorch.strategies",), "lightning.pytorch.strategies.Strategy", r"trainer\.strategy"),
    _Kind(_LAYERS, "torch.nn.Module", r"(model|loss|degradation|keyframes\.augmentation)\..+"),
)

_SENDING = ("lightning.pytorch.loggers.WandbLogger", "lightning.pytorch.loggers.MLFlowLogger")

# Makers of references that run in this process by weights or arithmetic alone.
_PLAIN_UPSCALERS = ("lite", "bicubic", "realesrgan")
_RESOLVER = re.compile(r"\$\{[^}]*:")


def check_targets(config: Any, where: str, *, own: Collection[str] = (), advice: str) -> None:
    """Refuse a configuration from a file that names code it may not.

    Args:
        config: node or plain values.
        where: the file, for the message.
        own: names that the user gave and so may be used anywhere.
        advice: what to do for a name that the user trusts; ``{key}`` and ``{name}`` are filled in.

    Raises:
        ConfigError: a ``_target_`` at any depth is not allowed at its key.
    """
    for key, name in targets(plain(config)):
        if isinstance(name, str) and (name in own or _is_allowed(key, name)):
            continue
        shown = str(name)[:120]
        msg = (
            f"{where}: {key or 'the configuration'} names {shown!r}, and a file may not choose which code is run; "
            + advice.format(key=key, name=shown)
        )
        raise ConfigError(msg)


def check_stored(config: Any, where: str) -> None:
    """Refuse values of a stored configuration that would be filled in from this machine, such as ``${oc.env:...}``.

    Raises:
        ConfigError: there is one. ``sparkvsr train`` stores resolved values.
    """
    for value in _strings(OmegaConf.to_container(config, resolve=False) if OmegaConf.is_config(config) else config):
        if "${" in value:
            msg = f"{where}: {value[:80]!r} is no plain value; sparkvsr train stores none like it, so it is not used"
            raise ConfigError(msg)


def check_inherited(config: Any, typed: Any, overrides: Collection[str], where: str) -> None:
    """Refuse what a checkpoint asks for that would run programs, read the environment or write outside the run.

    Args:
        config: composed with what the checkpoint keeps.
        typed: composed from the command line alone.
        overrides: of the checkpoint.
        where: the checkpoint.

    Raises:
        ConfigError: such a value, which has to be typed again.
    """
    for text in overrides:
        if _RESOLVER.search(text):
            msg = f"{where} asks for {text[:120]!r}, which reads this machine's environment; type it again to allow it"
            raise ConfigError(msg)
    upscaler = str(config.keyframes.isr.get("upscaler", "lite"))
    if upscaler not in (*_PLAIN_UPSCALERS, str(typed.keyframes.isr.get("upscaler"))) and not (
        Path(upscaler).suffix and expanded(upscaler).is_file()
    ):
        msg = (
            f"{where} asks for keyframes.isr.upscaler={upscaler[:120]!r}, which runs a program or another package; "
            "type it again to allow it"
        )
        raise ConfigError(msg)
    given = _loggers(typed)
    for key, node in _loggers(config).items():
        if node.get("_target_") in _SENDING and node["_target_"] != given.get(key, {}).get("_target_"):
            msg = f"{where} asks for logger.{key}, which sends figures elsewhere; type logger={key} to allow it"
            raise ConfigError(msg)
        for name, value in node.items():
            if value == given.get(key, {}).get(name) or not _leads_elsewhere(name, value):
                continue
            msg = f"{where} asks for logger.{key}.{name}={value!r}, outside its run folder; type it again to allow it"
            raise ConfigError(msg)


def targets(node: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every ``_target_`` of plain values, with the key of its node."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield key, node["_target_"]
        for name, value in node.items():
            yield from targets(value, f"{key}.{name}" if key else str(name))
    elif isinstance(node, list | tuple):
        for number, value in enumerate(node):
            yield from targets(value, f"{key}.{number}" if key else str(number))


def targets_in_folder(folder: Path) -> set[str]:
    """Every ``_target_`` in the YAML files of a folder with the user's own groups."""
    found: set[str] = set()
    for file in folder.rglob("*.yaml"):
        try:
            values = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        except (OSError, OmegaConfBaseException, ValueError):
            continue  # whoever composes with it says what is wrong
        found |= {name for _, name in targets(values) if isinstance(name, str)}
    return found


def _is_allowed(key: str, name: str) -> bool:
    for table, package in ((_OWN, "sparkvsr."), (_OTHERS, "")):
        for pattern, names in table.items():
            if name in {package + one for one in names} and _matches(pattern, key):
                return True
    return any(_is_class_of(kind, name) for kind in _KINDS if re.fullmatch(kind.keys, key))


def _matches(pattern: str, key: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", r"[^.]+"), key) is not None


def _is_class_of(kind: _Kind, name: str) -> bool:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(\.[A-Za-z][A-Za-z0-9_]*)+", name):
        return False
    if not any(name.startswith(module + ".") for module in kind.modules):
        return False
    try:
        found, base = _locate(name), _locate(kind.base)
    except (ImportError, AttributeError):
        return False
    # Where it is defined counts: a module also holds what it imports.
    return (
        isinstance(found, type)
        and issubclass(found, base)
        and any(f"{found.__module__}.".startswith(module + ".") for module in kind.modules)
    )


def _locate(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _strings(key)
            yield from _strings(value)
    elif isinstance(node, list | tuple):
        for value in node:
            yield from _strings(value)


def _loggers(config: Any) -> dict[str, Any]:
    raw = OmegaConf.to_container(config.logger, resolve=False) if config.get("logger") else {}
    return {str(key): node for key, node in raw.items() if isinstance(node, dict)} if isinstance(raw, dict) else {}


def _leads_elsewhere(name: str, value: Any) -> bool:
    """Whether a logger's setting makes it write outside the run folder."""
    if name in ("save_dir", "dir", "root_dir"):
        return bool(value != "${paths.output_dir}")
    return isinstance(value, str) and name != "_target_" and (".." in value or "/" in value or "\\" in value)
