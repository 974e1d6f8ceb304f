"""The embedded restoration model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.errors import KeyframeError, ResourceError, WeightsError
from sparkvsr.models.interface import (
    Keyframe,
    ModelPlan,
    RestorationModel,
    Session,
    ShotRequest,
    check_restore_arguments,
)
from sparkvsr.models.lite.detail import detail_file
from sparkvsr.models.lite.execution import NetworkRunner
from sparkvsr.models.lite.network import SCALE, PropagatorNet
from sparkvsr.models.lite.padding import grid_size, padded, padded_keyframes
from sparkvsr.models.lite.propagate import REACH, ShotPropagator
from sparkvsr.models.lite.session import LiteSession
from sparkvsr.models.lite.upscaler import DetailUpscaler, KeyframeUpscaler, default_dtype, load_detail
from sparkvsr.models.lite.vivid_shot import VividPropagator
from sparkvsr.models.lite.weights import (
    doubling_folder,
    embedded_folder,
    fingerprint_of,
    load_propagator,
    load_upscaler,
)
from sparkvsr.models.whole_weights import read_and_named

CODE_VERSION = "lite-2.4"
"""Raised whenever the same weights give other pixels."""

VIVID_VERSION = "4"
"""The same for what only the vivid look does."""

# Measured peak above the weights with two keyframes in use, chunks of 4: 320x180: 337 MiB; 640x360: 1426; 960x540: 3109
# (of 8: 393, with two passes 434; 1550 and 1602; 3443). Bytes for each LR pixel of the frame (pictures, flows,
# features), of a convolution's tile, and of a frame in the pushed chunk.
_FRAME_BYTES = 4700
_SECOND_PASS_BYTES = 800
_TILE_BYTES = 900
_NEAR_BYTES = 1600  # of the layers on the true LR grid, calculated
_CHUNK_BYTES = 48 * 4 + 12
_FIXED_BYTES = 60_000_000
# The vivid look: pictures of two more keyframes; the detail network on the largest tile that it is run on.
_VIVID_BYTES = 800
_DETAIL_BYTES = 6000
_DETAIL_TILE_PIXELS = 300 * 300

_STATE_BYTES, _VIVID_STATE_BYTES = 600, 440
"""Of the saved state for each pixel of the grid and pass: output, hidden features or trust, the own keyframe, flows."""


@dataclass(frozen=True)
class Native:
    """The networks for one factor.

    Attributes:
        scale: HR over LR pixels.
        net: float32 propagator, taken over; the vivid look does not run it.
        upscaler: makes keyframes where none was given.
    """

    scale: int
    net: PropagatorNet
    upscaler: KeyframeUpscaler | DetailUpscaler | None

    @property
    def upscale(self) -> Callable[[Tensor], Tensor] | None:
        """``(3, h, w)`` to ``(3, scale * h, scale * w)``."""
        if isinstance(self.upscaler, DetailUpscaler):
            return partial(self.upscaler.upscale, scale=self.scale)
        return None if self.upscaler is None else self.upscaler.upscale


class LiteModel(RestorationModel):
    """Recurrent propagation of keyframe detail, by 4, or by 2 where there are networks for that.

    Args:
        net: float32 propagator for x4, taken over.
        upscaler: makes keyframes where none was given.
        look: ``vivid`` carries whole pictures of keyframes, ``faithful`` only what an LR frame cannot show.
        device: where convolutions run; everything else stays on the CPU.
        dtype: of the convolutions; None takes bf16 where it is fast, else float32.
        fingerprint: of the weights.
        doubling: networks for x2 in the faithful look; without them sizes up to twice the LR size are resized from x4.
            The vivid look needs none: its keyframes by 2 are made from those by 4.

    Raises:
        WeightsError: networks are for another factor.
    """

    keyframe_lookahead = REACH
    is_resumable = True
    is_thread_invariant = True

    def __init__(
        self,
        net: PropagatorNet,
        upscaler: KeyframeUpscaler | DetailUpscaler | None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | None = None,
        fingerprint: str = "",
        look: str = "faithful",
        doubling: Native | None = None,
    ) -> None:
        self.name = "lite"
        self.look = look
        self.wants_own_keyframes = look == "vivid"
        self.has_keyframe_guidance = True
        # With more than two threads the detail network's convolutions add up in another order at some sizes.
        self.is_thread_invariant = look != "vivid"
        self.device = torch.device(device)
        self.dtype = dtype or default_dtype(self.device)
        self._natives = {SCALE: Native(SCALE, net, upscaler)}
        if look == "vivid":
            self._natives[SCALE // 2] = Native(SCALE // 2, net, upscaler)
        elif doubling is not None:
            self._natives[SCALE // 2] = doubling
        for native in self._natives.values():
            if look != "vivid" and native.net.config.scale != native.scale:
                msg = (
                    f"networks for x{native.net.config.scale} where those for x{native.scale} belong; "
                    f"see sparkvsr export"
                )
                raise WeightsError(msg)
            native.net.to(self.device, self.dtype).to(memory_format=torch.channels_last).eval()
        self._fingerprint = fingerprint

    @property
    def scales(self) -> tuple[int, ...]:
        """Factors that there are networks for, rising."""
        return tuple(sorted(self._natives))

    def working_size(self, lr_size: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
        """The smallest of twice (where there are networks for that) and four times the LR size that is large enough."""
        sizes = [(lr_size[0] * scale, lr_size[1] * scale) for scale in self.scales]
        fitting = [one for one in sizes if size[0] <= one[0] and size[1] <= one[1]]
        return (fitting or sizes[-1:])[0]

    def restore(
        self,
        lr: Tensor,
        keyframes: Tensor | None = None,
        keyframe_indices: Sequence[int] = (),
        *,
        scale: float = 4.0,
        guidance_scale: float = 1.0,
    ) -> Tensor:
        """See ``RestorationModel.restore``. Other scales than 4 (and 2) are resized from that, antialiased."""
        h, w = lr.shape[-2:]
        size = (round(h * scale), round(w * scale))
        check_restore_arguments(lr, keyframes, keyframe_indices, size)
        native = self.working_size((h, w), size)
        keys: dict[int, Keyframe] = {}
        if keyframes is not None and len(keyframes):
            resized = _resize(keyframes.float().cpu(), native)
            keys = {
                index: Keyframe(lr[index].float().cpu(), image)
                for index, image in zip(keyframe_indices, resized, strict=True)
            }
        factor = native[0] // h
        propagator = self._propagator(factor, padded_keyframes(keys, (h, w), factor), guidance_scale, None)
        frames = padded(lr.cpu(), factor)
        return torch.cat(
            [_resize(restored[None, :, : native[0], : native[1]], size) for restored in propagator.run(frames)]
        )

    def open_session(self, request: ShotRequest) -> Session:
        """See ``RestorationModel.open_session``.

        Raises:
            KeyframeError: ``request.size`` is not a size that ``working_size`` gives.
        """
        scale = self._scale_of(request.lr_size, request.size)
        keyframes = padded_keyframes(request.keyframes, request.lr_size, scale)
        propagator = self._propagator(scale, keyframes, request.guidance_scale, request.tile, request.own_keyframes)
        return LiteSession(propagator, request.lr_size, scale)

    def plan(
        self, lr_size: tuple[int, int], size: tuple[int, int], num_frames: int, *, guided_passes: int, memory_bytes: int
    ) -> ModelPlan:
        """See ``RestorationModel.plan``. The chunk does not change the result, nor does the tile within rounding."""
        scale = self._scale_of(lr_size, self.working_size(lr_size, size))
        grid, unshuffle = grid_size(lr_size, scale), SCALE // scale
        pixels = grid[0] * grid[1]
        base = _FIXED_BYTES + pixels * (_FRAME_BYTES + _SECOND_PASS_BYTES * (guided_passes - 1))
        if self.look == "vivid":
            base += pixels * _VIVID_BYTES + min(lr_size[0] * lr_size[1], _DETAIL_TILE_PIXELS) * _DETAIL_BYTES
        tile_bytes = _TILE_BYTES + (_NEAR_BYTES if unshuffle > 1 else 0)
        for tile in (None, 512, 384, 256, 192, 128, 96, 64):
            tile_pixels = pixels if tile is None else min(pixels, (tile + 24) ** 2)
            if tile is not None and max(grid) <= tile:
                continue
            for chunk in (4, 2, 1):
                need = base + tile_pixels * tile_bytes + min(chunk, num_frames) * pixels * _CHUNK_BYTES
                if need <= memory_bytes:
                    side = None if tile is None else tile * unshuffle
                    notes = () if side is None else (f"tiles of {side} px, so that it fits into memory",)
                    return ModelPlan(min(chunk, num_frames), side, need, notes)
        msg = (
            f"lite needs at least {need / 2**20:.0f} MiB for frames of {lr_size[1]}x{lr_size[0]}, "
            f"{memory_bytes / 2**20:.0f} MiB are allowed; close other programs or take a smaller clip"
        )
        raise ResourceError(msg)

    def state_bytes(self, lr_size: tuple[int, int], size: tuple[int, int]) -> int:
        """See ``RestorationModel.state_bytes``."""
        height, width = grid_size(lr_size, self._scale_of(lr_size, size))
        return height * width * (_VIVID_STATE_BYTES if self.look == "vivid" else _STATE_BYTES)

    def fingerprint(self) -> str:
        """Hash of the weights, version of the code, precision."""
        kind = str(self.dtype).removeprefix("torch.")
        if self.look == "vivid":
            return f"{CODE_VERSION}-vivid-{VIVID_VERSION}-{self._fingerprint}-{kind}"
        return f"{CODE_VERSION}-{self._fingerprint}-{kind}"

    def _scale_of(self, lr_size: tuple[int, int], size: tuple[int, int]) -> int:
        for scale in self.scales:
            if tuple(size) == (lr_size[0] * scale, lr_size[1] * scale):
                return scale
        known = " or ".join(str(scale) for scale in self.scales)
        msg = f"lite works at {known} times the LR size {lr_size}, got {size}; see working_size"
        raise KeyframeError(msg)

    def _propagator(
        self,
        scale: int,
        keyframes: Mapping[int, Keyframe],
        guidance_scale: float,
        tile: int | None,
        own: frozenset[int] = frozenset(),
    ) -> ShotPropagator:
        native = self._natives[scale]
        side = None if tile is None else max(1, tile * scale // SCALE)
        runner, upscale = NetworkRunner(native.net, self.device, self.dtype, side), native.upscale
        if self.look == "vivid":
            return VividPropagator(runner, upscale, keyframes, guidance_scale, own, SCALE // scale)
        return ShotPropagator(runner, upscale, keyframes, guidance_scale)


def load_lite(
    path: str | Path | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | str | None = "auto",
    look: str | None = None,
) -> LiteModel:
    """Load the embedded model, or one from a folder.

    Args:
        path: folder as ``weights.save_lite`` writes it; None takes the embedded weights.
        device: where convolutions run.
        dtype: ``"auto"`` or None: bf16 where the CPU is fast at it, else float32.
        look: ``vivid`` (None) or ``faithful``. A folder without a detail network of its own takes the embedded one.

    Raises:
        WeightsError: a weight file is missing, damaged or of another architecture.
    """
    folder = None if path is None else Path(path)
    chosen = dtype if isinstance(dtype, torch.dtype) else None
    (propagator, upscaler, doubling), fingerprint = read_and_named(
        lambda: _networks(folder, device, chosen, look), lambda: fingerprint_of(folder), folder or embedded_folder()
    )
    if upscaler is not None:
        model = LiteModel(propagator, upscaler, device, chosen, fingerprint, doubling=doubling)
        model.own_references = "lite"
        return model
    home = folder if detail_file(folder) is not None else None
    detail = load_detail(home, device, chosen)
    model = LiteModel(propagator, detail, device, chosen, f"{fingerprint}-{detail.fingerprint}", "vivid")
    model.own_references = "detail" if home is None else f"detail:{home}"
    return model


def _networks(
    folder: Path | None, device: str | torch.device, dtype: torch.dtype | None, look: str | None
) -> tuple[PropagatorNet, KeyframeUpscaler | None, Native | None]:
    """Of the faithful look; of the vivid one only what it shares with that."""
    propagator, inner = load_propagator(folder), doubling_folder(folder)
    if look != "faithful":
        return propagator, None, None
    doubling = None
    if inner is not None:
        doubling = Native(SCALE // 2, load_propagator(inner), KeyframeUpscaler(load_upscaler(inner), device, dtype))
    return propagator, KeyframeUpscaler(load_upscaler(folder), device, dtype), doubling


def _resize(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[-2:]) == size:
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)
