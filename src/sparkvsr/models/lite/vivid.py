"""The vivid look: whole pictures of keyframes carried through a shot, not only what an LR frame cannot show.

An LR clip has faults of its own: blur, noise, blocking. A keyframe made for the eye has none of them, so where it can
be trusted its picture replaces the frame, and only colours and brightness, the lowest frequencies, stay the source's.
Where no keyframe can be trusted the previous output may be (``judge_previous``), and where nothing is, the frame itself
is upscaled (``refresh.py``). Trust is local: light that changes is not motion, and one object that moves away costs
only its own pixels. All of it is decided on the LR grid, before any picture is moved.

Tensors are NCHW with pixels in [0, 1]; h, w are LR sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.models.lite.cpu_kernels import CPU_KERNELS, to_numpy, to_tensor
from sparkvsr.models.lite.network import SCALE, Reference
from sparkvsr.models.lite.resampling import inside, luma, trust

LIGHT_SIGMA = 8.0
"""LR pixels: what is smoother than this counts as light and colour, and stays the source's."""

PHOTOMETRIC_LEVELS = 10.0 / 255
"""LR difference, without light, at which trust has fallen to 1/e: above the noise of compressed footage."""

KEPT = 0.95
"""How much of its trust a picture keeps when it is carried on from frame to frame: it gets a little softer."""

_NOISE_QUANTILE = 0.3
_MOST_NOISE = 4.0 / 255
_AGREEMENT_SIGMA = 2.0
_AGREEMENT_LEVELS = 20.0 / 255
_TINY = 1e-3
_SEEN = 0.03
# What somebody drew beats what we make ourselves where it is trusted so far. Below, it would be made anew after all.
_SURE = (0.3, 0.5)
_DARK = 0.03
_MOST_GAIN = 2.5


@dataclass
class Layer:
    """Something whose picture can be brought to the current frame, seen on the LR grid.

    Attributes:
        share: ``(1, 1, h, w)`` in [0, 1], how far it is trusted.
        importance: by nearness in time and by who made it; the larger wins.
        unsure: the importance where it is hardly trusted, None for the same.
        closeness: from 0 to 1 its own light and colours replace the source's; a tensor ``(1, 1, h, w)`` by place.
        influence: how far it replaces those before it, 0 to 1, where they are trusted themselves.
    """

    share: Tensor
    importance: float
    closeness: float | Tensor = 0.0
    influence: float = 1.0
    unsure: float | None = None


@dataclass
class Mixture:
    """How the pictures of several layers are put together, known before any of them is brought to the frame.

    Attributes:
        parts: for each layer ``(1, 1, h, w)`` in [0, 1], how far it replaces those before it.
        covered: ``(1, 1, h, w)`` in [0, 1], how far the whole is trusted.
        closeness: of the whole, see ``Layer``.
    """

    parts: list[Tensor]
    covered: Tensor
    closeness: float | Tensor


def judge(lr: Tensor, reference: Reference) -> Tensor:
    """How far a keyframe's picture, brought to the frame ``(1, 3, h, w)``, is trusted, ``(1, 1, h, w)``.

    Args:
        lr: the frame.
        reference: the keyframe, with the motion to it; the closer the result shall be to it, the more motion alone
            decides, whatever the frame shows.
    """
    there = CPU_KERNELS.warp(torch.cat([luma(reference.lr), reference.agreement], dim=1), reference.flow)
    known = reference.geometric * _inside(reference.flow)
    share = known * fit(lr, there[:, :1])
    # Somebody's picture has to show its own frame; our own does.
    share = share * there[:, 1:] if reference.preference == 1 else share
    return share if reference.closeness == 0 else torch.lerp(share, known, reference.closeness)


def judge_previous(lr: Tensor, before: Tensor, flow: Tensor, covered: Tensor) -> Tensor:
    """How far the previous output is trusted here, ``(1, 1, h, w)``.

    Args:
        lr: the frame, ``(1, 3, h, w)``.
        before: the LR frame before it.
        flow: ``(1, 2, h, w)``, to that frame.
        covered: how far the previous output was trusted itself, ``(1, 1, h, w)``.
    """
    there = CPU_KERNELS.warp(torch.cat([luma(before), covered], dim=1), flow)
    return KEPT * there[:, 1:] * _inside(flow) * fit(lr, there[:, :1])


def fit(lr: Tensor, there: Tensor) -> Tensor:
    """How well luma brought to the frame ``(1, 3, h, w)`` fits it, ``(1, 1, h, w)`` in [0, 1].

    Brightness that changed as a whole is light, and what differs a little everywhere is noise: what is left without
    both is misplaced or another thing.
    """
    now = luma(lr)
    missed = now - there * _gain(now, there)
    error = box((missed - blur(missed, LIGHT_SIGMA)).abs(), 5)
    noise = min(float(np.quantile(to_numpy(error), _NOISE_QUANTILE)), _MOST_NOISE)
    return trust((error - noise).clamp(min=0), PHOTOMETRIC_LEVELS)


def _inside(flow: Tensor) -> Tensor:
    return inside(flow, (flow.shape[-2], flow.shape[-1]))


def mix(layers: Sequence[Layer]) -> Mixture | None:
    """Put layers together, the trusted and important ones first; None if there are none."""
    mixture: Mixture | None = None
    for layer in layers:
        # The fourth power, not by pow: its last bit depends on the number of threads.
        weight = torch.square(torch.square(_importance(layer, around := box(layer.share, 5)) * (around + _TINY)))
        if mixture is None:
            covered = layer.share if layer.influence == 1 else layer.share * layer.influence
            mixture, total = Mixture([torch.ones_like(layer.share)], covered, layer.closeness), weight
            continue
        total = total + weight
        part, share = weight / total, layer.share
        if layer.influence < 1:
            # Those before keep what it leaves them, as far as they are good for it: half a keyframe over nothing is
            # all of it, but counts as half covered only.
            left = (1 - layer.influence) * (mixture.covered / _SURE[1]).clamp(max=1)
            part, share = part * (1 - left), share * (layer.influence + left)
        mixture.parts.append(part)
        mixture.covered = torch.lerp(mixture.covered, share, part)
        mixture.closeness = _blended(mixture.closeness, layer.closeness, part)
    return mixture


def _importance(layer: Layer, around: Tensor) -> float | Tensor:
    """Of a layer, by place; ``around`` is its share as a mean over 5x5."""
    if layer.unsure is None:
        return layer.importance
    low, high = _SURE
    sure = ((around - low) / (high - low)).clamp(0, 1)
    return layer.unsure + (layer.importance - layer.unsure) * sure


def _blended(under: float | Tensor, over: float | Tensor, part: Tensor) -> float | Tensor:
    if not isinstance(under, Tensor) and not isinstance(over, Tensor) and under == over:
        return under
    return torch.lerp(under * torch.ones_like(part), over * torch.ones_like(part), part)


def agreement(key_hr: Tensor, key_lr: Tensor) -> Tensor:
    """How far a picture ``(1, 3, 4h, 4w)`` that somebody gave shows its own LR frame, ``(1, 1, h, w)``.

    Noise and blocking of the LR frame do not count against it.
    """
    missed = blur(CPU_KERNELS.shrink(key_hr) - key_lr, _AGREEMENT_SIGMA).abs().amax(dim=1, keepdim=True)
    return trust(missed, _AGREEMENT_LEVELS)


def compose(lr: Tensor, pictures: Sequence[Tensor], mixture: Mixture, light_sigma: float = LIGHT_SIGMA) -> Tensor:
    """The pictures of all layers put together, in the light of the frame.

    Args:
        lr: ``(1, 3, h, w)``.
        pictures: of the layers of ``mixture``, brought to the frame, ``(1, 3, 4h, 4w)`` each.
        mixture: see ``mix``.
        light_sigma: pixels of ``lr``: what is smoother stays the source's.

    Returns:
        ``(1, 3, 4h, 4w)``, not clamped.
    """
    whole = pictures[0]
    for picture, part in zip(pictures[1:], mixture.parts[1:], strict=True):
        whole = blend(whole, picture, part)
    closeness = mixture.closeness
    if isinstance(closeness, float) and closeness == 1:
        return whole
    shown = CPU_KERNELS.shrink(whole)
    gain = torch.lerp(_gain(luma(lr), luma(shown), light_sigma), torch.ones(()), closeness)
    light = blur(lr - shown * gain, light_sigma) * (1 - closeness)
    brighter = cv2.multiply(to_numpy(whole), cv2.cvtColor(_wide(gain), cv2.COLOR_GRAY2RGB))
    return to_tensor(cv2.add(brighter, to_numpy(CPU_KERNELS.upscale(light)), brighter))


def blend(under: Tensor, over: Tensor, share: Tensor) -> Tensor:
    """One HR image over another, ``(1, 3, 4h, 4w)``; share ``(1, 1, h, w)`` of the one that lies over it."""
    large = _wide(share)
    return to_tensor(cv2.blendLinear(to_numpy(under), to_numpy(over), 1 - large, large))


def needed_layers(mixture: Mixture) -> list[bool]:
    """Which layers can be seen at all."""
    rest = torch.ones_like(mixture.covered)
    found = []
    for part in reversed(mixture.parts):
        found.append(float((rest * part).max()) > _SEEN)
        rest = rest * (1 - part)
    return found[::-1]


def _gain(now: Tensor, before: Tensor, sigma: float = LIGHT_SIGMA) -> Tensor:
    """How much brighter one LR luma is than another, by place, ``(1, 1, h, w)``."""
    ratio = (blur(now, sigma) + _DARK) / (blur(before, sigma) + _DARK)
    return ratio.clamp(1 / _MOST_GAIN, _MOST_GAIN)


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


def box(image: Tensor, side: int) -> Tensor:
    """Mean over a square of an LR map, edges replicated."""
    return to_tensor(cv2.blur(to_numpy(image), (side, side), borderType=cv2.BORDER_REPLICATE))


def _wide(share: Tensor) -> NDArray[np.float32]:
    size = (share.shape[-1] * SCALE, share.shape[-2] * SCALE)
    return np.asarray(cv2.resize(to_numpy(share), size, interpolation=cv2.INTER_LINEAR), np.float32)
