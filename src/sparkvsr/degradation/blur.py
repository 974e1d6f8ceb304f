"""Blur kernels of the second-order pipeline (docs/method.md 5.4) and their application."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

KERNEL_SHARES: Mapping[str, float] = {
    "iso": 0.405,
    "aniso": 0.225,
    "generalized_iso": 0.108,
    "generalized_aniso": 0.027,
    "plateau_iso": 0.108,
    "plateau_aniso": 0.027,
    "sinc": 0.1,
}
KERNEL_SIZES = tuple(range(7, 22, 2))


@dataclass(frozen=True)
class BlurRange:
    """What blur parameters are drawn from.

    Attributes:
        probability: that there is any blur.
        sigma: of both axes, in pixels.
        shares: of the kernel types, not negative; they need not sum to 1.
        sizes: odd sides of kernels, equally probable.
        rotation: of elongated kernels, radians.
        beta_generalized: shape of the generalised Gaussian.
        beta_plateau: shape of the plateau.
        sinc_cutoff: cut-off of the sinc filter, radians per pixel.
        sinc_cutoff_small: of kernels smaller than ``sinc_small_size``.
        sinc_small_size: see there.
    """

    probability: float
    sigma: tuple[float, float] = (0.2, 3.0)
    shares: Mapping[str, float] = field(default_factory=lambda: KERNEL_SHARES)
    sizes: tuple[int, ...] = KERNEL_SIZES
    rotation: tuple[float, float] = (-math.pi, math.pi)
    beta_generalized: tuple[float, float] = (0.5, 4.0)
    beta_plateau: tuple[float, float] = (1.0, 2.0)
    sinc_cutoff: tuple[float, float] = (math.pi / 5, math.pi)
    sinc_cutoff_small: tuple[float, float] = (math.pi / 3, math.pi)
    sinc_small_size: int = 13


def gaussian_kernel(
    size: int, sigma: tuple[float, float], theta: float, *, kind: str = "gaussian", beta: float = 1.0
) -> NDArray[np.float64]:
    """Gaussian ``exp(-q/2)``, generalised ``exp(-q^beta/2)`` or plateau ``1/(q^beta + 1)``, float64, sum 1.

    Args:
        size: odd side of the kernel.
        sigma: along the two axes of the rotated ellipse.
        theta: rotation in radians.
        kind: ``gaussian``, ``generalized`` or ``plateau``.
        beta: shape.
    """
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    rotation = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
    inverse = np.linalg.inv(rotation @ np.diag([sigma[0] ** 2, sigma[1] ** 2]) @ rotation.T)
    points = np.stack([x, y], axis=-1).astype(np.float64)
    q = np.einsum("...i,ij,...j->...", points, inverse, points)
    shaped = q if kind == "gaussian" else q**beta
    kernel = 1 / (shaped + 1) if kind == "plateau" else np.exp(-0.5 * shaped)
    return kernel / kernel.sum()


def sinc_kernel(size: int, cutoff: float) -> NDArray[np.float64]:
    """Circular low-pass ``w J1(w rho) / (2 pi rho)``, ``(size, size)`` float64, sum 1; it rings, as sharpening does."""
    axis = np.arange(size) - size // 2
    x, y = np.meshgrid(axis, axis)
    rho = np.hypot(x, y)
    safe = np.where(rho > 0, rho, 1.0)
    bessel = torch.special.bessel_j1(torch.from_numpy(cutoff * safe)).numpy()
    kernel = np.where(rho > 0, cutoff * bessel / (2 * np.pi * safe), cutoff**2 / (4 * np.pi))
    return kernel / kernel.sum()


def draw_kernels(
    spec: BlurRange, num_frames: int, rng: np.random.Generator, *, flickering_shape: bool
) -> Tensor | None:
    """Kernels of a clip.

    Args:
        spec: ranges.
        num_frames: F.
        rng: decides.
        flickering_shape: draw the shape of generalised and plateau kernels anew for each frame, between 1 and the
            clip's own, as the published code does by accident (docs/method.md 5.5).

    Returns:
        ``(F, k, k)`` float32, or None for no blur.
    """
    if rng.random() >= spec.probability:
        return None
    size = int(rng.choice(spec.sizes))
    kind = draw_name(spec.shares, rng)
    if kind == "sinc":
        cutoff = spec.sinc_cutoff_small if size < spec.sinc_small_size else spec.sinc_cutoff
        kernels = [sinc_kernel(size, rng.uniform(*cutoff))] * num_frames
        return torch.from_numpy(np.stack(kernels)).float()
    sigma_x, sigma_y = rng.uniform(*spec.sigma, size=2)
    theta = rng.uniform(*spec.rotation)
    if kind.endswith("_iso") or kind == "iso":
        sigma_y, theta = sigma_x, 0.0
    family = kind.partition("_")[0] if "_" in kind else "gaussian"
    clip_beta = float(rng.uniform(*(spec.beta_generalized if family == "generalized" else spec.beta_plateau)))
    if family == "gaussian" or not flickering_shape:
        kernel = gaussian_kernel(size, (sigma_x, sigma_y), theta, kind=family, beta=clip_beta)
        return torch.from_numpy(np.stack([kernel] * num_frames)).float()
    betas = [float(rng.uniform(min(clip_beta, 1), max(clip_beta, 1))) for _ in range(num_frames)]
    frames = [gaussian_kernel(size, (sigma_x, sigma_y), theta, kind=family, beta=beta) for beta in betas]
    return torch.from_numpy(np.stack(frames)).float()


def apply_kernels(clip: Tensor, kernels: Tensor) -> Tensor:
    """Correlate each frame with its kernel, borders reflected without repeating the edge.

    OpenCV's filter, as in the published code: for these kernels it takes a third to a ninth of the time of a grouped
    convolution on a CPU.

    Args:
        clip: ``(F, 3, H, W)`` float32.
        kernels: ``(F, k, k)``.
    """
    result = torch.empty_like(clip, memory_format=torch.contiguous_format)
    for frame, out, kernel in zip(clip.contiguous().numpy(), result.numpy(), kernels.numpy(), strict=True):
        for plane, target in zip(frame, out, strict=True):
            cv2.filter2D(plane, -1, kernel, dst=target, borderType=cv2.BORDER_REFLECT_101)
    return result


def draw_name(shares: Mapping[str, float], rng: np.random.Generator) -> str:
    """One of the names, by share."""
    values = np.array(list(shares.values()), dtype=np.float64)
    return list(shares)[int(rng.choice(len(values), p=values / values.sum()))]
