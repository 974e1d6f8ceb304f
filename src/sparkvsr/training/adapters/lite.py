"""The embedded model for training: latents are pixel-unshuffled frames, restoration is latents plus velocity.

Clips train the propagator, stills (which carry no keyframe) the keyframe upscaler. Motion is estimated with each sample
in the loader's processes by the code that runs at inference.

Shapes: B batch, F frames, K keyframes, h w LR pixels, H = 4h, W = 4w; latents ``(B, F, 48, h, w)``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparkvsr.data.samples import TrainBatch, TrainSample
from sparkvsr.errors import ConfigError
from sparkvsr.models.lite.motion import KeyframeMotion, flow_between, grey_of, round_trip_error, track_keyframe
from sparkvsr.models.lite.network import (
    ROUND_TRIP_LR_PX,
    SCALE,
    KeyframeUpscalerNet,
    Previous,
    PropagatorConfig,
    PropagatorNet,
    Reference,
    UpscalerConfig,
    agreement_of,
    propagate_step,
    to_channels,
    to_pixels,
    trust,
    upscale_bicubic,
)
from sparkvsr.models.lite.weights import load_networks, save_lite
from sparkvsr.training.adapters.interface import LatentBatch, TrainingAdapter

MAX_ROUND_TRIP_PX = 100.0


class LiteAdapter(TrainingAdapter):
    """Propagator and keyframe upscaler, trained together.

    Args:
        propagator: carries keyframes through a clip.
        upscaler: single image x4.
    """

    family = "lite"

    def __init__(self, propagator: PropagatorNet, upscaler: KeyframeUpscalerNet) -> None:
        super().__init__()
        self.network = nn.ModuleDict({"propagator": propagator, "upscaler": upscaler}).requires_grad_(True)

    @property
    def propagator(self) -> PropagatorNet:
        """The recurrent network."""
        return self.network["propagator"]  # type: ignore[index,return-value]

    @property
    def upscaler(self) -> KeyframeUpscalerNet:
        """The still image network."""
        return self.network["upscaler"]  # type: ignore[index,return-value]

    def check_data(self, num_frames: int, crop: tuple[int, int], *, framewise: bool) -> None:
        """See ``TrainingAdapter``: any length, sides multiples of 4."""
        del num_frames, framewise
        if any(side % SCALE for side in crop):
            msg = f"data.crop={list(crop)} must be multiples of {SCALE} for model=lite"
            raise ConfigError(msg)

    def prepare_sample(self, sample: TrainSample) -> dict[str, Tensor]:
        """Motion between neighbours and to the keyframe in use, on the LR grid.

        Returns:
            ``step`` and ``to_key`` ``(F, 2, h, w)``, ``round_trip`` ``(F, 1, h, w)`` in LR pixels, ``key_slot``
            ``(F,)``: which of the sample's keyframes a frame uses, -1 for none.
        """
        lr = sample.lr.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
        greys = [grey_of(image) for image in lr]
        count, (height, width) = len(greys), greys[0].shape
        step = np.zeros((count, height, width, 2), np.float32)
        for t in range(1, count):
            step[t] = flow_between(greys[t], greys[t - 1])
        to_key = np.zeros((count, height, width, 2), np.float32)
        round_trip = np.zeros((count, height, width), np.float32)
        slots = np.full(count, -1, np.int64)
        keys = sample.keyframe_indices
        if keys:
            slots[:] = [min(range(len(keys)), key=lambda slot: (abs(keys[slot] - t), keys[slot])) for t in range(count)]
        for slot, key in enumerate(keys):
            for direction in (1, -1):
                motion: KeyframeMotion | None = None
                for t in range(key, count if direction == 1 else -1, direction):
                    if slots[t] != slot:
                        break
                    start = None
                    if motion is not None:
                        start = step[t] if direction == 1 else flow_between(greys[t], greys[t + 1])
                    motion = track_keyframe(greys[t], greys[key], motion, start)
                    to_key[t], round_trip[t] = motion.to_key, np.minimum(round_trip_error(motion), MAX_ROUND_TRIP_PX)
        return {
            "step": torch.from_numpy(step).permute(0, 3, 1, 2).contiguous(),
            "to_key": torch.from_numpy(to_key).permute(0, 3, 1, 2).contiguous(),
            "round_trip": torch.from_numpy(round_trip)[:, None],
            "key_slot": torch.from_numpy(slots),
        }

    @torch.no_grad()
    def encode(self, batch: TrainBatch, *, framewise: bool, with_hr: bool) -> LatentBatch:
        """See ``TrainingAdapter``. The codec works frame by frame anyway and loses nothing."""
        del framewise
        latents = _to_latents(_upscaled(batch.lr))
        extras: dict[str, Any] = {"lr": batch.lr, "keyframes": batch.keyframes.clamp(0, 1), **batch.extras}
        extras["keyframe_indices"] = batch.keyframe_indices
        # The keyframe half is aligned frame by frame inside the network, along the motion that came with the sample.
        placeholder = latents.new_zeros(()).expand_as(latents)
        return LatentBatch(latents, placeholder, _to_latents(batch.hr) if with_hr else None, extras)

    def restore(self, latents: LatentBatch) -> Tensor:
        """See ``TrainingAdapter``."""
        lr = latents.extras["lr"]
        if lr.shape[1] == 1 and latents.extras["keyframes"].shape[1] == 0:
            with_residual = latents.lr[:, 0] + self.upscaler.residual(lr[:, 0])
            return with_residual[:, None] + _no_gradient(self.propagator)
        frames = _propagate(self.propagator, latents.extras)
        return _to_latents(torch.stack(frames, dim=1)) + _no_gradient(self.upscaler)

    def decode(self, latents: Tensor, *, framewise: bool) -> Tensor:
        """See ``TrainingAdapter``."""
        del framewise
        return to_pixels(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])

    def save_folder(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """See ``TrainingAdapter``: the files that ``load_lite`` reads."""
        weights = dict(state) if state is not None else self.network.state_dict()
        propagator = PropagatorNet(self.propagator.config)
        propagator.load_state_dict(_part(weights, "propagator."))
        upscaler = KeyframeUpscalerNet(self.upscaler.config)
        upscaler.load_state_dict(_part(weights, "upscaler."))
        save_lite(folder, propagator, upscaler)

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """See ``TrainingAdapter``."""
        propagator, upscaler = load_networks(folder)
        networks = nn.ModuleDict({"propagator": propagator, "upscaler": upscaler})
        return networks.state_dict()


def build_lite_adapter(
    *,
    path: str | Path | None = None,
    seed: int = 0,
    propagator: Mapping[str, Any] | None = None,
    upscaler: Mapping[str, Any] | None = None,
) -> LiteAdapter:
    """Fresh networks (the same for the same seed), or those of a folder.

    Args:
        path: folder as ``sparkvsr export`` writes it; None starts fresh.
        seed: of fresh weights.
        propagator: sizes, see ``PropagatorConfig``; only for fresh weights.
        upscaler: sizes, see ``UpscalerConfig``; only for fresh weights.

    Raises:
        WeightsError: the folder cannot be read.
        ConfigError: an unknown size.
    """
    if path is not None:
        return LiteAdapter(*load_networks(Path(path).expanduser()))
    try:
        sizes = PropagatorConfig(**(propagator or {})), UpscalerConfig(**(upscaler or {}))
    except TypeError as exc:
        msg = f"model=lite: {exc}; model.propagator and model.upscaler take the sizes listed in conf/model/lite.yaml"
        raise ConfigError(msg) from exc
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LiteAdapter(PropagatorNet(sizes[0]), KeyframeUpscalerNet(sizes[1]))


def _propagate(network: PropagatorNet, extras: Mapping[str, Any]) -> list[Tensor]:
    """Restored frames ``(B, 3, H, W)`` of a window, front to back."""
    lr, keyframes, slots = extras["lr"], extras["keyframes"], extras["key_slot"]
    previous: Previous | None = None
    frames = []
    rows = torch.arange(lr.shape[0], device=lr.device)
    agreements: list[Tensor] = []
    key_lrs: list[Tensor] = []
    for slot in range(keyframes.shape[1]):
        positions = extras["keyframe_indices"][:, slot].clamp_min(0)
        key_lrs.append(lr[rows, positions])
        agreements.append(agreement_of(keyframes[:, slot], key_lrs[-1]))
    for t in range(lr.shape[1]):
        frame = lr[:, t].contiguous()
        reference = None
        if keyframes.shape[1]:
            # Clips of a batch may use keyframes of different slots at this frame; those without one get weight 0.
            chosen = slots[:, t].clamp_min(0)
            has_key = (slots[:, t] >= 0).to(lr.dtype).view(-1, 1, 1, 1)
            reference = Reference(
                torch.stack(key_lrs)[chosen, rows],
                keyframes[rows, chosen],
                torch.stack(agreements)[chosen, rows],
                extras["to_key"][:, t],
                trust(extras["round_trip"][:, t], ROUND_TRIP_LR_PX) * has_key,
            )
        if previous is not None:
            previous.flow = extras["step"][:, t]
        result = propagate_step(network, frame, previous, reference)
        frames.append(result.output)
        valid = torch.ones(lr.shape[0], 1, 1, 1, device=lr.device)
        previous = Previous(frame, result.output, result.hidden, extras["step"][:, t], valid)
    return frames


def _upscaled(lr: Tensor) -> Tensor:
    return upscale_bicubic(lr.flatten(0, 1)).unflatten(0, lr.shape[:2])


def _to_latents(pixels: Tensor) -> Tensor:
    return to_channels(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])


def _no_gradient(module: nn.Module) -> Tensor:
    """Zero that depends on every parameter: data-parallel training waits for a gradient of each one."""
    return torch.stack([parameter.sum() * 0.0 for parameter in module.parameters()]).sum()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
