"""The embedded model for training: latents are pixel-unshuffled frames, restoration is latents plus velocity.

Clips train the propagator, stills (which carry no keyframe) the keyframe upscaler. Motion is estimated with each clip
in the loader's processes by the code that runs at inference. Some clips get the upscaler's own keyframe or none, which
is what the model meets where nobody gave one. Some begin with the first frame shown several times: what a short window
learns must not drift when it is applied over and over.

Shapes: B batch, F frames, K keyframes, h w pixels of the grid, H = 4h, W = 4w; latents ``(B, F, 48, h, w)``. LR frames
are ``(uh, uw)``: at x4 that is the grid (u = 1), at x2 twice as much (u = 2, ``PropagatorConfig.unshuffle``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sparkvsr.data.samples import TrainBatch
from sparkvsr.errors import ConfigError, WeightsError
from sparkvsr.home import expanded
from sparkvsr.models.lite.doubling import doubling_propagator, doubling_upscaler, fits_together
from sparkvsr.models.lite.motion import (
    Grey,
    KeyframeMotion,
    flow_between,
    grey_of,
    roughness,
    round_trip_error,
    track_keyframe,
)
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
    shrink_area,
    to_channels,
    to_pixels,
    trust,
    upscale_bicubic,
)
from sparkvsr.models.lite.weights import DOUBLING_FOLDER, load_networks, save_lite
from sparkvsr.training.adapters.interface import LatentBatch, TrainingAdapter

MAX_ROUND_TRIP_PX = 100.0


@dataclass(frozen=True)
class TrainingCases:
    """What happens to some of the clips.

    Attributes:
        own_probability: of a keyframe made by the upscaler instead of the given one.
        blind_probability: of no keyframe.
        still_probability: of a batch that begins with its first frames shown several times, without gradient.
        still_frames: lowest and highest number of times.
        seed: of the draws.
    """

    own_probability: float = 0.0
    blind_probability: float = 0.0
    still_probability: float = 0.0
    still_frames: tuple[int, int] = (2, 10)
    seed: int = 0


class LiteAdapter(TrainingAdapter):
    """Propagator and keyframe upscaler, trained together.

    Args:
        propagator: carries keyframes through a clip.
        upscaler: single image, by the same factor.
        cases: what happens to some clips in training (not in validation).
    """

    family = "lite"
    keeps_motion = True

    def __init__(
        self, propagator: PropagatorNet, upscaler: KeyframeUpscalerNet, cases: TrainingCases | None = None
    ) -> None:
        super().__init__()
        if not fits_together(propagator, upscaler):
            msg = (
                f"model=lite: the propagator is for x{propagator.config.scale} (model.propagator.unshuffle="
                f"{propagator.config.unshuffle}), the upscaler for x{upscaler.config.scale} (model.upscaler.scale); "
                f"both must be for the same factor"
            )
            raise ConfigError(msg)
        self.network = nn.ModuleDict({"propagator": propagator, "upscaler": upscaler}).requires_grad_(True)
        self.network.to(memory_format=torch.channels_last)
        self._cases = cases or TrainingCases()
        self.data_scale: int = propagator.config.scale
        self.crop_step = propagator.config.unshuffle  # motion is kept on the grid

    @property
    def propagator(self) -> PropagatorNet:
        """The recurrent network."""
        return self.network["propagator"]  # type: ignore[index]

    @property
    def upscaler(self) -> KeyframeUpscalerNet:
        """The still image network."""
        return self.network["upscaler"]  # type: ignore[index]

    def check_data(self, num_frames: int, crop: tuple[int, int], *, framewise: bool) -> None:
        """See ``TrainingAdapter``: any length, sides multiples of 4."""
        del num_frames, framewise
        if any(side % SCALE for side in crop):
            msg = f"data.crop={list(crop)} must be multiples of {SCALE} for model=lite"
            raise ConfigError(msg)

    def prepare_clip(self, lr: Tensor, keyframe_indices: Sequence[int]) -> dict[str, Tensor]:
        """Motion between neighbours and to the keyframe in use, on the LR grid.

        Returns:
            ``step_flow``, ``key_flow`` and ``plain_flow`` ``(F, 2, h, w)``, ``round_trip`` and ``roughness``
            ``(F, 1, h, w)``, all in its pixels; ``key_slot`` ``(F,)``: the keyframe that a frame uses, -1 for none.
        """
        unshuffle = self.propagator.config.unshuffle
        greys = _greys(shrink_area(lr, unshuffle))
        twice = _greys(lr) if unshuffle == 2 else None
        count, (height, width) = len(greys), greys[0].shape
        step = np.zeros((count, height, width, 2), np.float32)
        for t in range(1, count):
            step[t] = flow_between(greys[t], greys[t - 1], precise=False)
        to_key, plain = (np.zeros((count, height, width, 2), np.float32) for _ in range(2))
        round_trip, rough = (np.zeros((count, height, width), np.float32) for _ in range(2))
        slots = np.full(count, -1, np.int64)
        keys = list(keyframe_indices)
        if keys:
            slots[:] = [min(range(len(keys)), key=lambda slot: (abs(keys[slot] - t), keys[slot])) for t in range(count)]
        for slot, key in enumerate(keys):
            for direction in (1, -1):
                motion = KeyframeMotion(to_key[key], to_key[key], to_key[key])  # a keyframe is where it is
                for t in range(key + direction, count if direction == 1 else -1, direction):
                    if slots[t] != slot:
                        break
                    back = step[t] if direction == 1 else flow_between(greys[t], greys[t + 1], precise=False)
                    pair = None if twice is None else (twice[t], twice[key])
                    motion = track_keyframe(greys[t], greys[key], motion, back, twice=pair)
                    to_key[t], plain[t], rough[t] = motion.to_key, motion.to_key_plain, roughness(motion.to_key)
                    round_trip[t] = np.minimum(round_trip_error(motion), MAX_ROUND_TRIP_PX)
        return {
            "step_flow": torch.from_numpy(step).permute(0, 3, 1, 2).contiguous(),
            "key_flow": torch.from_numpy(to_key).permute(0, 3, 1, 2).contiguous(),
            "plain_flow": torch.from_numpy(plain).permute(0, 3, 1, 2).contiguous(),
            "round_trip": torch.from_numpy(round_trip)[:, None],
            "roughness": torch.from_numpy(rough)[:, None],
            "key_slot": torch.from_numpy(slots),
        }

    @torch.no_grad()
    def encode(self, batch: TrainBatch, *, framewise: bool, with_hr: bool) -> LatentBatch:
        """See ``TrainingAdapter``. The codec works frame by frame anyway and loses nothing."""
        del framewise
        latents = _to_latents(_upscaled(batch.lr, self.propagator.config.scale))
        extras: dict[str, Any] = {"lr": batch.lr, "keyframes": batch.keyframes.clamp(0, 1), **batch.extras}
        extras |= {"keyframe_indices": batch.keyframe_indices, "times": batch.times, "still_frames": 0}
        if self.training and batch.lr.shape[1] > 1:
            self._apply_cases(extras, batch.numbers)
        # The keyframe half is aligned frame by frame inside the network, along the motion that came with the sample.
        placeholder = latents.new_zeros(()).expand_as(latents)
        return LatentBatch(latents, placeholder, _to_latents(batch.hr) if with_hr else None, extras)

    def _apply_cases(self, extras: dict[str, Any], numbers: Tensor) -> None:
        """Replace some keyframes, and draw the still frames; a function of the sample numbers."""
        cases = self._cases
        draws = [np.random.default_rng([cases.seed, 7, int(number)]) for number in numbers]
        if draws[0].random() < cases.still_probability:
            extras["still_frames"] = int(draws[0].integers(cases.still_frames[0], cases.still_frames[1] + 1))
        kinds = torch.tensor([draw.random() for draw in draws], device=extras["lr"].device)
        own, blind = kinds < cases.own_probability, kinds > 1 - cases.blind_probability
        extras["key_slot"] = torch.where(blind[:, None], -1, extras["key_slot"].long())
        keyframes = extras["keyframes"].clone()
        rows = torch.nonzero(own).flatten()
        for slot in range(keyframes.shape[1]):
            positions = extras["keyframe_indices"][rows, slot]
            there = positions >= 0
            if there.any():
                key_lr = extras["lr"][rows[there], positions[there]].contiguous(memory_format=torch.channels_last)
                keyframes[rows[there], slot] = self.upscaler(key_lr).float().clamp(0, 1)
        extras["keyframes"] = keyframes

    def restore(self, latents: LatentBatch) -> Tensor:
        """See ``TrainingAdapter``."""
        lr = latents.extras["lr"]
        if lr.shape[1] == 1 and latents.extras["keyframes"].shape[1] == 0:
            return _to_latents(self.upscaler(lr[:, 0])[:, None]) + _no_gradient(self.propagator)
        frames = _propagate(self.propagator, latents.extras)
        return _to_latents(torch.stack(frames, dim=1)) + _no_gradient(self.upscaler)

    def decode(self, latents: Tensor, *, framewise: bool) -> Tensor:
        """See ``TrainingAdapter``."""
        del framewise
        return to_pixels(latents.flatten(0, 1)).unflatten(0, latents.shape[:2])

    def save_folder(self, folder: Path, state: Mapping[str, Tensor] | None = None) -> None:
        """See ``TrainingAdapter``: what ``load_lite`` reads; beside networks for x2 the embedded ones for x4."""
        weights = dict(state) if state is not None else self.network.state_dict()
        propagator = PropagatorNet(self.propagator.config)
        propagator.load_state_dict(_part(weights, "propagator."))
        upscaler = KeyframeUpscalerNet(self.upscaler.config)
        upscaler.load_state_dict(_part(weights, "upscaler."))
        if self.data_scale == SCALE:
            save_lite(folder, propagator, upscaler)
        else:
            save_lite(folder, *load_networks())
            save_lite(folder / DOUBLING_FOLDER, propagator, upscaler)

    def read_folder(self, folder: Path) -> dict[str, Tensor]:
        """See ``TrainingAdapter``: the networks for this run's factor."""
        propagator, upscaler = load_networks(_home(folder, self.data_scale))
        networks = nn.ModuleDict({"propagator": propagator, "upscaler": upscaler})
        return networks.state_dict()


def build_lite_adapter(
    *,
    path: str | Path | None = None,
    start_from: str | Path | None = None,
    seed: int = 0,
    propagator: Mapping[str, Any] | None = None,
    upscaler: Mapping[str, Any] | None = None,
    cases: Mapping[str, Any] | None = None,
) -> LiteAdapter:
    """Fresh networks (the same for the same seed), or those of a folder.

    Args:
        path: folder as ``sparkvsr export`` writes it; None starts fresh. With ``propagator.unshuffle=2`` its networks
            for x2.
        start_from: folder of x4 networks (``lite``: those of the package) that networks for x2 start from.
        seed: of fresh weights and of the cases.
        propagator: sizes, see ``PropagatorConfig``; only for fresh weights but for ``unshuffle``.
        upscaler: sizes, see ``UpscalerConfig``; only for fresh weights.
        cases: see ``TrainingCases``.

    Raises:
        WeightsError: the folder cannot be read.
        ConfigError: an unknown size or case, or networks for different factors.
    """
    try:
        sizes = PropagatorConfig(**(propagator or {})), UpscalerConfig(**(upscaler or {}))
        chosen = TrainingCases(**(cases or {}), seed=seed)
    except TypeError as exc:
        msg = f"model=lite: {exc}; conf/model/lite.yaml lists what model.propagator, .upscaler and .cases take"
        raise ConfigError(msg) from exc
    if path is not None:
        return LiteAdapter(*load_networks(_home(expanded(path), sizes[0].scale)), chosen)
    if start_from is not None:
        return LiteAdapter(*_started_from(start_from, seed), chosen)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LiteAdapter(PropagatorNet(sizes[0]), KeyframeUpscalerNet(sizes[1]), chosen)


def _home(folder: Path, scale: int) -> Path:
    """Where the networks for a factor lie in a lite folder."""
    return folder if scale == SCALE else folder / DOUBLING_FOLDER


def _started_from(folder: str | Path, seed: int) -> tuple[PropagatorNet, KeyframeUpscalerNet]:
    propagator, upscaler = load_networks(None if str(folder) == "lite" else expanded(folder))
    if propagator.config.unshuffle != 1 or upscaler.config.scale != SCALE:
        msg = f"model.start_from={folder}: these networks are for x{propagator.config.scale}; take networks for x4"
        raise WeightsError(msg)
    return doubling_propagator(propagator, seed), doubling_upscaler(upscaler)


class _Window:
    """A batch of windows as the propagator wants them, frame by frame."""

    def __init__(self, extras: Mapping[str, Any], unshuffle: int) -> None:
        self.fine: Tensor = extras["lr"]
        self.lr = shrink_area(self.fine.flatten(0, 1), unshuffle).unflatten(0, self.fine.shape[:2])
        self.keyframes: Tensor = extras["keyframes"]
        self._extras = extras
        self._rows = torch.arange(self.lr.shape[0], device=self.lr.device)
        indices = extras["keyframe_indices"].clamp_min(0)
        slots = range(self.keyframes.shape[1])
        self._key_lrs = [self.lr[self._rows, indices[:, slot]] for slot in slots]
        self._agreements = [agreement_of(self.keyframes[:, slot], self._key_lrs[slot]) for slot in slots]
        self._key_times = [extras["times"][self._rows, indices[:, slot]] for slot in slots]

    def frame(self, places: Tensor) -> Tensor:
        """LR frame on the grid, ``(B, 3, h, w)``, at a place ``(B,)`` of each window."""
        return self.lr[self._rows, places].contiguous(memory_format=torch.channels_last)

    def fine_frame(self, places: Tensor) -> Tensor:
        """The same as it is, ``(B, 3, uh, uw)``."""
        return self.fine[self._rows, places].contiguous(memory_format=torch.channels_last)

    def step_flow(self, places: Tensor) -> Tensor:
        """Flow to the frame before, ``(B, 2, h, w)``."""
        return self._extras["step_flow"][self._rows, places]

    def continues(self, t: int) -> Tensor:
        """``(B, 1, 1, 1)``: 1 where frame ``t`` follows its neighbour in the window without a gap."""
        times = self._extras["times"]
        return (times[:, t] - times[:, t - 1] == 1).to(self.lr.dtype).view(-1, 1, 1, 1)

    def reference(self, places: Tensor) -> Reference | None:
        """The keyframe in use; clips of a batch may use different slots, those without one get weight 0."""
        if not self._key_lrs:
            return None
        slots = self._extras["key_slot"][self._rows, places].long()
        chosen, has_key = slots.clamp_min(0), (slots >= 0).to(self.lr.dtype).view(-1, 1, 1, 1)
        distance = self._extras["times"][self._rows, places] - torch.stack(self._key_times)[chosen, self._rows]
        return Reference(
            torch.stack(self._key_lrs)[chosen, self._rows],
            self.keyframes[self._rows, chosen],
            torch.stack(self._agreements)[chosen, self._rows],
            self._extras["key_flow"][self._rows, places],
            self._extras["plain_flow"][self._rows, places],
            trust(self._extras["round_trip"][self._rows, places], ROUND_TRIP_LR_PX) * has_key,
            self._extras["roughness"][self._rows, places],
            distance.abs().to(self.lr.dtype).view(-1, 1, 1, 1),
        )


def _propagate(network: PropagatorNet, extras: Mapping[str, Any]) -> list[Tensor]:
    """Restored frames ``(B, 3, H, W)`` of a window, front to back; a gap in time starts anew."""
    window = _Window(extras, network.config.unshuffle)
    batch, count = window.lr.shape[:2]
    one = torch.ones(batch, 1, 1, 1, device=window.lr.device)
    gap_behind_first = count > 1 and (window.continues(1) == 0).flatten()
    begins = torch.as_tensor(gap_behind_first, device=window.lr.device).expand(batch).long()
    still: Previous | None = None
    with torch.no_grad():
        for _ in range(extras.get("still_frames", 0)):
            frame = window.frame(begins)
            result = propagate_step(network, frame, still, window.reference(begins), fine=window.fine_frame(begins))
            still = Previous(frame, result.output, result.hidden, torch.zeros_like(window.step_flow(begins)), one)
    previous: Previous | None = None
    frames = []
    for t in range(count):
        places = torch.full((batch,), t, device=window.lr.device)
        if previous is not None:
            previous.flow, previous.valid = window.step_flow(places), window.continues(t)
        if still is not None and bool((begins == t).any()):
            previous = _where((begins == t).view(-1, 1, 1, 1), still, previous)
        frame = window.frame(places)
        result = propagate_step(network, frame, previous, window.reference(places), fine=window.fine_frame(places))
        frames.append(result.output)
        previous = Previous(frame, result.output, result.hidden, window.step_flow(places), one)
    return frames


def _where(chosen: Tensor, this: Previous, other: Previous | None) -> Previous:
    """Of two states the first where ``chosen`` ``(B, 1, 1, 1)``; where there is no other, none."""
    if other is None:
        return Previous(this.lr, this.output, this.hidden, this.flow, chosen.to(this.lr.dtype))
    pairs = ((this.lr, other.lr), (this.output, other.output), (this.hidden, other.hidden), (this.flow, other.flow))
    lr, output, hidden, flow = (torch.where(chosen, a, b) for a, b in pairs)
    return Previous(lr, output, hidden, flow, torch.where(chosen, this.valid, other.valid))


def _greys(frames: Tensor) -> list[Grey]:
    images = frames.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().numpy()
    return [grey_of(image) for image in images]


def _upscaled(lr: Tensor, scale: int) -> Tensor:
    return upscale_bicubic(lr.flatten(0, 1), scale).unflatten(0, lr.shape[:2])


def _to_latents(pixels: Tensor) -> Tensor:
    return to_channels(pixels.flatten(0, 1)).unflatten(0, pixels.shape[:2])


def _no_gradient(module: nn.Module) -> Tensor:
    """Zero that depends on every parameter: data-parallel training waits for a gradient of each one."""
    return torch.stack([parameter.sum() * 0.0 for parameter in module.parameters()]).sum()


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
