"""The two networks of `lite`, pure torch: no OpenCV, no files, no training framework.

Everything is computed on a grid of one pixel for 4x4 HR pixels; HR pixels only exist inside pixel-unshuffled channels
and at the very end. At x4 that grid is the LR grid. At x2 it is half of it a side: the LR frame is unshuffled too
(``PropagatorConfig.unshuffle``), and what an LR frame cannot show is less. In this file "LR" is a picture on the grid
unless it says *true* LR.
Tensors are NCHW with pixels in [0, 1]; h, w are sizes of the grid. Flows are ``(N, 2, h, w)``, (x, y) in pixels of the
grid, and say where in the other image a pixel is found.

The propagator starts out as a classical method (bicubic plus the motion-compensated detail of the keyframe, weighted by
consistency checks) and learns corrections to it: to the weights, and a residual. Its last layer starts at zero, so an
untrained propagator *is* the classical method.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from sparkvsr.models.lite.resampling import (
    BLOCK,
    SCALE,
    inside,
    luma,
    shrink_area,
    smooth,
    to_channels,
    to_pixels,
    trust,
    upscale_bicubic,
    upscale_by_matrix,
    warp,
    wide_mean,
)
from sparkvsr.models.lite.still_network import KeyframeUpscalerNet, ResidualBlock, UpscalerConfig, zero

__all__ = [
    "BLOCK",
    "ROUND_TRIP_LR_PX",
    "SCALE",
    "Fusion",
    "Kernels",
    "KeyframeUpscalerNet",
    "Previous",
    "PropagatorConfig",
    "PropagatorNet",
    "Reference",
    "StepResult",
    "UpscalerConfig",
    "agreement_of",
    "propagate_step",
    "shrink_area",
    "to_channels",
    "to_pixels",
    "trust",
    "upscale_bicubic",
]

# Widths of the classical confidence: forward-backward error and LR difference at which trust has fallen to 1/e.
ROUND_TRIP_LR_PX = 0.5
PHOTOMETRIC_LEVELS = 6.0 / 255
AGREEMENT_LEVELS = 9.0 / 255
_LIGHT_LEVELS = 2.0 / 255
_SOME_TRUST = 0.2
_TINY = 1e-3
_NEAR_LAYERS = 4


@dataclass(frozen=True)
class PropagatorConfig:
    """Sizes of the propagator.

    Attributes:
        channels: width of the body.
        blocks: residual blocks of the body.
        hidden: channels carried from frame to frame.
        unshuffle: true LR pixels a side in one pixel of the grid: 1 for x4, 2 for x2.
        near: width of layers on the true LR grid, for what lies close together there; 0 leaves them out.
    """

    channels: int = 48
    blocks: int = 5
    hidden: int = 16
    unshuffle: int = 1
    near: int = 0

    @property
    def scale(self) -> int:
        """HR pixels a side of a true LR pixel."""
        return SCALE // self.unshuffle


@dataclass
class Fusion:
    """What the body of the propagator puts out, on the LR grid.

    Attributes:
        residual: ``(N, 48, h, w)``, added to the picture.
        key_logit: ``(N, 16, h, w)``, correction of the trust in the keyframe for every HR pixel.
        previous_logit: ``(N, 16, h, w)``, the same for the previous output.
        plain_logit: ``(N, 16, h, w)``, share of the keyframe detail that came by the plain flow.
        hidden: ``(N, hidden, h, w)`` in [-1, 1], for the next frame.
    """

    residual: Tensor
    key_logit: Tensor
    previous_logit: Tensor
    plain_logit: Tensor
    hidden: Tensor


def _near_layers(config: PropagatorConfig) -> nn.Sequential:
    """From the true LR frame to what it adds to bicubic, both on its own grid; nothing at first."""
    widths = [3, *[config.near] * _NEAR_LAYERS]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.LeakyReLU(0.1, inplace=True)]
    last = nn.Conv2d(config.near, 3 * config.scale**2, 3, padding=1)
    zero(last)
    return nn.Sequential(*layers, last)


class PropagatorNet(nn.Module):
    """Learned parts of the propagator; ``propagate_step`` puts them together with the warps."""

    def __init__(self, config: PropagatorConfig | None = None) -> None:
        super().__init__()
        self.config = config or PropagatorConfig()
        c = self.config.channels
        shown = 3 * (self.config.unshuffle**2 - 1)  # sub-pixels of the true LR beyond the first
        self.head = nn.Conv2d(FUSE_INPUTS + shown + self.config.hidden, c, 3, padding=1)
        self.body = nn.Sequential(*[ResidualBlock(c) for _ in range(self.config.blocks)])
        self.tail = nn.Conv2d(c, 6 * BLOCK + self.config.hidden, 3, padding=1)
        zero(self.tail, 6 * BLOCK)  # picture and trust start classical; the hidden state starts random
        self.near = _near_layers(self.config) if self.config.near else None

    @property
    def fuse_margin(self) -> int:
        """LR pixels around a tile that can influence the fusion."""
        return 2 * self.config.blocks + 2

    def fuse(self, features: Tensor) -> Fusion:
        """``(N, FUSE_INPUTS + hidden, h, w)`` to the fusion."""
        start = self.head(features)
        out = self.tail(self.body(start))
        residual, key_logit, previous_logit, plain_logit, hidden = out.float().split(
            [3 * BLOCK, BLOCK, BLOCK, BLOCK, self.config.hidden], dim=1
        )
        if self.near is not None:
            unshuffle, scale = self.config.unshuffle, self.config.scale
            near = self.near(to_pixels(features[:, : 3 * unshuffle**2], unshuffle))
            residual = residual + to_channels(to_pixels(near, scale)).float()
        return Fusion(residual, key_logit, previous_logit, plain_logit, hidden.clamp(-1, 1))


FUSE_INPUTS = 3 + 3 * BLOCK + 9


@dataclass
class Previous:
    """What the frame before left behind, and the motion to it.

    Attributes:
        lr: ``(N, 3, h, w)``.
        output: ``(N, 3, 4h, 4w)``, the restored frame.
        hidden: ``(N, hidden, h, w)``.
        flow: ``(N, 2, h, w)``, from the current frame to it.
        valid: ``(N, 1, h, w)`` or broadcastable: 0 where there is no previous frame.
    """

    lr: Tensor
    output: Tensor
    hidden: Tensor
    flow: Tensor
    valid: Tensor


@dataclass
class Reference:
    """A keyframe and the motion to it. Images may be larger than the frame (training crops with room around them).

    Attributes:
        lr: ``(N, 3, kh, kw)``, the clip's own frame there.
        hr: ``(N, 3, 4kh, 4kw)``.
        agreement: ``(N, 1, kh, kw)``, how well ``hr`` shrunk agrees with ``lr`` (``agreement_of``).
        flow: ``(N, 2, h, w)``, from the current frame to it.
        plain_flow: ``(N, 2, h, w)``, the same by another estimate; where they differ neither is sure.
        geometric: ``(N, 1, h, w)`` in [0, 1], forward-backward trust times the weight of the keyframe.
        roughness: ``(N, 1, h, w)``, how far the flow differs from its surroundings, LR pixels.
        distance: ``(N, 1, 1, 1)``, frames between the current frame and the keyframe.
        preference: how strongly it wins against other keyframes that are trusted as much.
        influence: how far it replaces others, 0 to 1; only the vivid look asks, elsewhere ``geometric`` has it.
        decided: 1 draws the weight of its detail to nothing or all, 0 leaves it as learned. Half the detail is right on
            average and looks like neither picture; what a keyframe's author drew should be seen.
        share: ``(N, 1, h, w)``, how far its whole picture is trusted, for the vivid look only.
        closeness: 0 takes its detail, 1 also its own light and colours: guidance from 1 to 2.
    """

    lr: Tensor
    hr: Tensor
    agreement: Tensor
    flow: Tensor
    plain_flow: Tensor
    geometric: Tensor
    roughness: Tensor
    distance: Tensor
    preference: float = 1.0
    influence: float = 1.0
    decided: float = 0.0
    share: Tensor | None = None
    closeness: float = 0.0


def agreement_of(key_hr: Tensor, key_lr: Tensor) -> Tensor:
    """How far a keyframe is believed to show its own LR frame, ``(N, 1, h, w)`` in [0, 1].

    The guard against wrong keyframes: another picture, a black one, one that is out of place.
    """
    shrunk = shrink_area(key_hr)
    colour = smooth((shrunk - key_lr).abs().amax(dim=1, keepdim=True))
    return trust(colour, AGREEMENT_LEVELS)


@dataclass
class Kernels:
    """Operations on pixels, replaceable by faster ones at inference (``cpu_kernels.CPU_KERNELS``)."""

    warp: Callable[[Tensor, Tensor], Tensor] = warp
    upscale: Callable[..., Tensor] = upscale_bicubic
    shrink: Callable[..., Tensor] = shrink_area
    luma: Callable[[Tensor], Tensor] = luma
    wide_mean: Callable[[Tensor], Tensor] = wide_mean
    warp_hr: Callable[[Tensor, Tensor], Tensor] | None = None

    def warp_by_lr_flow(self, hr: Tensor, flow: Tensor) -> Tensor:
        """Warp an HR image by an LR flow."""
        if self.warp_hr is not None:
            return self.warp_hr(hr, flow)
        full = upscale_by_matrix(flow, "bilinear") * SCALE
        return warp(hr, full, "bicubic")

    def difference(self, there: Tensor, here: Tensor) -> Tensor:
        """Smoothed luma difference of two LR images, ``(N, 1, h, w)``; where light has changed, without that change.

        Light is what differs alike over some 33 pixels, by more than motion and noise make it.
        """
        missed = luma(here) - luma(there)
        light = self.wide_mean(missed)
        is_light = ((light.abs() - _LIGHT_LEVELS) / _LIGHT_LEVELS).clamp(0, 1)
        return smooth((missed - light * is_light).abs())

    def detail(self, hr: Tensor, scale: int = SCALE) -> Tensor:
        """What is left of an HR image when everything that a true LR frame shows is taken away."""
        shown = self.upscale(self.shrink(hr, scale), scale)
        # Frames are large: without gradients the difference goes where the subtrahend was.
        return torch.sub(hr, shown, out=shown if torch.is_inference_mode_enabled() else None)


@dataclass
class StepResult:
    """One restored frame.

    Attributes:
        output: ``(N, 3, 4h, 4w)``, clamped to [0, 1].
        hidden: ``(N, hidden, h, w)``.
        key_picture: the keyframe brought to this frame ``(N, 3, 4h, 4w)``, None without a keyframe or if not asked for.
        key_geometric: ``(N, 1, h, w)``, how far the motion alone is trusted, None without a keyframe.
        key_closeness: ``(N, 1, h, w)``, ``Reference.closeness`` of the keyframe that counts there.
    """

    output: Tensor
    hidden: Tensor
    key_picture: Tensor | None
    key_geometric: Tensor | None
    key_closeness: Tensor | None


def propagate_step(
    net: PropagatorNet,
    lr: Tensor,
    previous: Previous | None,
    reference: Reference | None,
    *,
    fine: Tensor | None = None,
    others: Sequence[Reference] = (),
    kernels: Kernels | None = None,
    fuse: Callable[[Tensor], Fusion] | None = None,
    with_picture: bool = False,
) -> StepResult:
    """Restore one frame.

    Args:
        net: the learned parts.
        lr: ``(N, 3, h, w)``.
        fine: the true LR frame ``(N, 3, uh, uw)`` where the network unshuffles it by u; ``lr`` is its ``shrink_area``.
        previous: state of the frame before, None at the start of a shot.
        reference: keyframe, None for the blind result.
        others: further keyframes; for each pixel the most trusted one counts.
        kernels: HR operations.
        fuse: replaces ``net.fuse`` (tiling, lower precision).
        with_picture: also give ``StepResult.key_picture``.
    """
    kernels = kernels or Kernels()
    scale, fine = net.config.scale, lr if fine is None else fine
    n, _, h, w = lr.shape
    zero = lr.new_zeros(n, 1, h, w)
    references = [] if reference is None else [reference, *others]

    # 1. bring the previous output and the keyframe here, with how far each is to be trusted
    previous_trust = previous_error = zero
    hidden = lr.new_zeros(n, net.config.hidden, h, w)
    previous_detail = None
    if previous is not None:
        valid = previous.valid * inside(previous.flow, (previous.lr.shape[-2], previous.lr.shape[-1]))
        previous_error = kernels.difference(kernels.warp(previous.lr, previous.flow), lr) * valid
        previous_trust = trust(previous_error, PHOTOMETRIC_LEVELS) * valid
        hidden = kernels.warp(previous.hidden, previous.flow) * valid
        # Luma is enough to carry from frame to frame: a third of the cost, and colour detail follows brightness.
        previous_detail = kernels.detail(kernels.warp_by_lr_flow(kernels.luma(previous.output), previous.flow), scale)
    key: _Aligned | None = None
    for one in references:
        aligned = _align(lr, one, kernels, scale, with_picture=with_picture)
        key = aligned if key is None else _better(key, aligned)
        del aligned  # HR pictures, not needed beside what was made of them

    # 2. let the network correct the trust and add what is missing
    # Hidden from the network where it is certainly wrong: there is nothing to learn from another scene.
    # Luma is enough to judge by, and the residual to add to; the keyframe's colours come along with its weight.
    key_part = plain_part = previous_part = zero.expand(n, BLOCK, h, w)
    key_luma = None
    if key is not None:
        key_luma, shown = kernels.luma(key.detail), (8 * key.trust).clamp(max=1)
        key_part, plain_part = to_channels(key_luma) * shown, to_channels(key.plain_detail) * shown
    if previous_detail is not None:
        previous_part = to_channels(previous_detail) * (8 * previous_trust).clamp(max=1)
    features = torch.cat(
        [
            to_channels(fine, net.config.unshuffle) - 0.5,
            key_part,
            plain_part,
            previous_part,
            zero if key is None else key.trust,
            zero if key is None else key.geometric * key.agreement,
            zero if key is None else 8 * key.error.clamp(max=0.25),
            zero if key is None else key.agreement,
            zero if key is None else key.roughness.clamp(max=2),
            zero if key is None else key.dispute.clamp(max=2),
            zero if key is None else key.age,
            previous_trust,
            8 * previous_error.clamp(max=0.25),
            hidden,
        ],
        dim=1,
    )
    fusion = (fuse or net.fuse)(features)
    picture = to_pixels(fusion.residual)
    if previous_detail is not None:
        start = torch.logit(previous_trust, _TINY) - 1.0
        weight = torch.sigmoid(fusion.previous_logit + start) * (previous_trust > _TINY)
        carried = to_pixels(weight) * previous_detail
    else:
        carried = None
    if key is not None and key_luma is not None:
        logit = fusion.key_logit + torch.logit(key.trust, _TINY)
        logit = logit * (1 + key.decided) + key.decided * (key.trust > _SOME_TRUST)
        weight = to_pixels(torch.sigmoid(logit) * (key.trust > _TINY))
        detail = key.detail + (key.plain_detail - key_luma) * to_pixels(torch.sigmoid(fusion.plain_logit))
        carried = weight * detail if carried is None else torch.lerp(carried, detail, weight)
    if carried is not None:
        picture = picture + carried
    output = (picture + kernels.upscale(fine, scale)).clamp_(0, 1)
    if key is None:
        return StepResult(output, fusion.hidden, None, None, None)
    return StepResult(output, fusion.hidden, key.picture, key.geometric, key.closeness)


@dataclass
class _Aligned:
    """A keyframe brought to the current frame: HR picture (if asked for), detail, LR maps of what is known about it."""

    picture: Tensor | None
    detail: Tensor
    plain_detail: Tensor
    trust: Tensor
    geometric: Tensor
    agreement: Tensor
    error: Tensor
    roughness: Tensor
    dispute: Tensor
    age: Tensor
    decided: Tensor
    closeness: Tensor
    preference: float


def _align(lr: Tensor, reference: Reference, kernels: Kernels, scale: int, *, with_picture: bool) -> _Aligned:
    """Warp a keyframe and everything that says how far to trust it."""
    flow = reference.flow
    geometric = reference.geometric * inside(flow, (reference.lr.shape[-2], reference.lr.shape[-1]))
    there = kernels.warp(torch.cat([reference.lr, reference.agreement], dim=1), flow)
    known = (geometric > 0).to(lr.dtype)
    error = kernels.difference(there[:, :3], lr) * known
    agreement = there[:, 3:] * known
    picture = kernels.warp_by_lr_flow(reference.hr, flow)
    detail = kernels.detail(picture, scale)
    if reference.plain_flow is flow:  # one estimate only, warped already
        plain_detail = kernels.luma(detail)
    else:
        plain = kernels.warp_by_lr_flow(kernels.luma(reference.hr), reference.plain_flow)
        plain_detail = kernels.detail(plain, scale)
    return _Aligned(
        picture=picture if with_picture else None,
        detail=detail,
        plain_detail=plain_detail,
        trust=geometric * trust(error, PHOTOMETRIC_LEVELS) * agreement,
        geometric=geometric,
        agreement=agreement,
        error=error,
        roughness=reference.roughness * known,
        dispute=torch.linalg.vector_norm(flow - reference.plain_flow, dim=1, keepdim=True) * known,
        age=torch.log2(1 + reference.distance) / 5 * known,
        decided=reference.decided * known,
        closeness=torch.full_like(known, reference.closeness),
        preference=reference.preference,
    )


def _better(a: _Aligned, b: _Aligned) -> _Aligned:
    """Of two keyframes the one that is trusted more, for each LR pixel, with soft borders between them."""
    left, right = ((one.preference * (smooth(one.trust) + _TINY)) ** 4 for one in (a, b))
    share = right / (left + right)
    wide = upscale_by_matrix(share, "bilinear")
    return _Aligned(
        picture=None if a.picture is None or b.picture is None else torch.lerp(a.picture, b.picture, wide),
        detail=torch.lerp(a.detail, b.detail, wide),
        plain_detail=torch.lerp(a.plain_detail, b.plain_detail, wide),
        trust=torch.lerp(a.trust, b.trust, share),
        geometric=torch.lerp(a.geometric, b.geometric, share),
        agreement=torch.lerp(a.agreement, b.agreement, share),
        error=torch.lerp(a.error, b.error, share),
        roughness=torch.lerp(a.roughness, b.roughness, share),
        dispute=torch.lerp(a.dispute, b.dispute, share),
        age=torch.lerp(a.age, b.age, share),
        decided=torch.lerp(a.decided, b.decided, share),
        closeness=torch.lerp(a.closeness, b.closeness, share),
        preference=max(a.preference, b.preference),
    )
