"""The vivid look: whole pictures of keyframes carried through a shot, not only what an LR frame cannot show.

An LR clip has faults of its own: blur, noise, blocking. A keyframe made for the eye has none of them, so where it can
be trusted its picture replaces the frame, and only colours and brightness, the lowest frequencies, stay the source's.
Where no keyframe can be trusted the propagator's result stays. Trust is local: light that changes is not motion, and
one object that moves away costs only its own pixels.

Tensors are NCHW with pixels in [0, 1]; h, w are LR sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import torch
from torch import Tensor

from sparkvsr.models.lite.cpu_kernels import CPU_KERNELS, to_numpy, to_tensor
from sparkvsr.models.lite.network import SCALE, Reference
from sparkvsr.models.lite.resampling import inside, luma, trust

LIGHT_SIGMA = 8.0
"""LR pixels: what is smoother than this counts as light and colour, and stays the source's."""

PHOTOMETRIC_LEVELS = 10.0 / 255
"""LR difference, without light, at which trust has fallen to 1/e: above the noise of compressed footage."""

_AGREEMENT_SIGMA = 2.0
_AGREEMENT_LEVELS = 20.0 / 255
_TINY = 1e-3
_DARK = 0.03
_MOST_GAIN = 2.5


@dataclass
class Carried:
    """A keyframe's picture brought to the current frame.

    Attributes:
        picture: ``(1, 3, 4h, 4w)``.
        share: ``(1, 1, h, w)`` in [0, 1], how far it is trusted.
        geometric: the same by motion alone.
        importance: by nearness in time and by who made it; the larger wins.
        closeness: from 0 to 1 its own light and colours replace the source's, and motion alone decides.
    """

    picture: Tensor
    share: Tensor
    geometric: Tensor
    importance: float
    closeness: float = 0.0


def judge(lr: Tensor, reference: Reference) -> Tensor:
    """How far a keyframe's picture, brought to the frame ``(1, 3, h, w)``, is trusted, ``(1, 1, h, w)``."""
    flow = reference.flow
    there = CPU_KERNELS.warp(torch.cat([luma(reference.lr), reference.agreement], dim=1), flow)
    # Brightness that changed as a whole is light: what is left after taking it away is misplaced or another thing.
    missed = luma(lr) - there[:, :1] * _gain(luma(lr), there[:, :1])
    error = _box((missed - blur(missed, LIGHT_SIGMA)).abs(), 5)
    share = _inside(reference) * trust(error, PHOTOMETRIC_LEVELS)
    # Somebody's picture has to show its own frame; our own does.
    return share * there[:, 1:] if reference.preference == 1 else share


def carry(lr: Tensor, reference: Reference) -> Carried:
    """Bring a keyframe's picture to the frame ``(1, 3, h, w)`` along the motion."""
    share = judge(lr, reference) if reference.share is None else reference.share
    importance = reference.preference / (1 + float(reference.distance))
    picture = CPU_KERNELS.warp_by_lr_flow(reference.hr, reference.flow)
    return Carried(picture, share, _inside(reference), importance, reference.closeness)


def _inside(reference: Reference) -> Tensor:
    return reference.geometric * inside(reference.flow, (reference.lr.shape[-2], reference.lr.shape[-1]))


def agreement(key_hr: Tensor, key_lr: Tensor) -> Tensor:
    """How far a picture ``(1, 3, 4h, 4w)`` that somebody gave shows its own LR frame, ``(1, 1, h, w)``.

    Noise and blocking of the LR frame do not count against it.
    """
    missed = blur(CPU_KERNELS.shrink(key_hr) - key_lr, _AGREEMENT_SIGMA).abs().amax(dim=1, keepdim=True)
    return trust(missed, _AGREEMENT_LEVELS)


def compose(lr: Tensor, base: Tensor, carried: Sequence[Carried]) -> Tensor:
    """The vivid frame ``(1, 3, 4h, 4w)``.

    Args:
        lr: ``(1, 3, h, w)``.
        base: ``(1, 3, 4h, 4w)``, stays where nothing is trusted.
        carried: pictures of keyframes.
    """
    if not carried:
        return base
    closeness: float | Tensor = carried[0].closeness
    picture, share, weight = carried[0].picture, _share(carried[0]), _weight(carried[0])
    for one in carried[1:]:
        other = _weight(one)
        part = other / (weight + other)
        picture = torch.lerp(picture, one.picture, _wide(part))
        share = torch.lerp(share, _share(one), part)
        if isinstance(closeness, Tensor) or one.closeness != closeness:
            closeness = torch.lerp(closeness * torch.ones_like(part), one.closeness * torch.ones_like(part), part)
        weight = weight + other
    if isinstance(closeness, Tensor) or closeness < 1:
        shown = CPU_KERNELS.shrink(picture)
        gain = torch.lerp(_gain(luma(lr), luma(shown)), torch.ones(()), closeness)
        light = blur(lr - shown * gain, LIGHT_SIGMA) * (1 - closeness)
        picture = torch.addcmul(CPU_KERNELS.upscale(light), picture, _wide(gain))
    return torch.lerp(base, picture, _wide(share)).clamp_(0, 1)


def _gain(now: Tensor, before: Tensor) -> Tensor:
    """How much brighter one LR luma is than another, by place, ``(1, 1, h, w)``."""
    ratio = (blur(now, LIGHT_SIGMA) + _DARK) / (blur(before, LIGHT_SIGMA) + _DARK)
    return ratio.clamp(1 / _MOST_GAIN, _MOST_GAIN)


def _share(one: Carried) -> Tensor:
    return one.share if one.closeness == 0 else torch.lerp(one.share, one.geometric, one.closeness)


def _weight(one: Carried) -> Tensor:
    # The fourth power, not by pow: its last bit depends on the number of threads.
    squared = torch.square(one.importance * (_box(one.share, 5) + _TINY))
    return torch.square(squared)


def blur(image: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of an LR image, edges replicated; wide ones on a coarser grid, ten times faster."""
    array = to_numpy(image)
    height, width = array.shape[:2]
    step = min(int(sigma / 2), height // 4, width // 4)
    if step > 1:
        array = cv2.resize(array, (-(-width // step), -(-height // step)), interpolation=cv2.INTER_AREA)
        sigma = sigma / step
    array = cv2.GaussianBlur(array, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE)
    if step > 1:
        array = cv2.resize(array, (width, height), interpolation=cv2.INTER_LINEAR)
    return to_tensor(array)


def _box(image: Tensor, side: int) -> Tensor:
    return to_tensor(cv2.blur(to_numpy(image), (side, side), borderType=cv2.BORDER_REPLICATE))


def _wide(share: Tensor) -> Tensor:
    size = (share.shape[-1] * SCALE, share.shape[-2] * SCALE)
    return to_tensor(cv2.resize(to_numpy(share), size, interpolation=cv2.INTER_LINEAR))
