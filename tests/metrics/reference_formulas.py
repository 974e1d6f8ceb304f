"""Synthetic frames and the formulas of BasicSR, written down plainly, as outside references."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.signal import convolve2d


def textured(seed: int, size: tuple[int, int] = (72, 88)) -> np.ndarray:
    """``(H, W, 3)`` uint8: smooth shapes, texture and hard edges."""
    rng = np.random.default_rng(seed)
    height, width = size
    smooth = np.stack([gaussian_filter(rng.standard_normal(size), 6) for _ in range(3)], axis=2)
    fine = rng.standard_normal((*size, 1))
    edges = ((np.arange(width) // 9 + np.arange(height)[:, None] // 7) % 2)[..., None]
    image = 128 + 500 * smooth + 12 * fine + 40 * edges
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def distorted(frame: np.ndarray, seed: int = 0) -> np.ndarray:
    """The same frame, blurred and noisy."""
    noise = np.random.default_rng(seed).normal(0, 4, frame.shape)
    blurred = gaussian_filter(frame.astype(np.float64), (1.2, 1.2, 0))
    return np.clip(np.rint(blurred + noise), 0, 255).astype(np.uint8)


def basicsr_luma(frame: np.ndarray) -> np.ndarray:
    """``basicsr.utils.color_util``: Y of BT.601, limited range, float64, not rounded."""
    return frame.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def basicsr_psnr(sr: np.ndarray, hr: np.ndarray) -> float:
    """``calculate_psnr``."""
    return float(10 * np.log10(255.0**2 / np.mean((sr.astype(np.float64) - hr.astype(np.float64)) ** 2)))


def basicsr_ssim(sr: np.ndarray, hr: np.ndarray) -> float:
    """``calculate_ssim``: dense 11 x 11 window in double precision, valid region, mean over channels."""
    if sr.ndim == 3:
        return float(np.mean([basicsr_ssim(sr[..., c], hr[..., c]) for c in range(sr.shape[2])]))
    x, y = sr.astype(np.float64), hr.astype(np.float64)
    axis = np.exp(-((np.arange(11) - 5.0) ** 2) / (2 * 1.5**2))
    axis /= axis.sum()
    window = np.outer(axis, axis)

    def smooth(image: np.ndarray) -> np.ndarray:
        return convolve2d(image, window, mode="valid")

    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    mu1, mu2 = smooth(x), smooth(y)
    s1, s2, s12 = smooth(x * x) - mu1**2, smooth(y * y) - mu2**2, smooth(x * y) - mu1 * mu2
    return float(np.mean(((2 * mu1 * mu2 + c1) * (2 * s12 + c2)) / ((mu1**2 + mu2**2 + c1) * (s1 + s2 + c2))))


def basicsr_niqe(luma: np.ndarray, mean: np.ndarray, covariance: np.ndarray, window: np.ndarray) -> float:
    """``basicsr.metrics.niqe``, block by block, with its table search."""
    from scipy.ndimage import convolve
    from scipy.special import gamma

    from sparkvsr.metrics.imresize import imresize  # tested by itself

    def fit(block: np.ndarray) -> tuple[float, float, float]:
        values = block.ravel()
        shapes = np.arange(0.2, 10.001, 0.001)
        ratios = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
        left, right = np.sqrt(np.mean(values[values < 0] ** 2)), np.sqrt(np.mean(values[values > 0] ** 2))
        g = left / right
        wanted = np.mean(np.abs(values)) ** 2 / np.mean(values**2) * (g**3 + 1) * (g + 1) / (g**2 + 1) ** 2
        alpha = shapes[np.argmin((ratios - wanted) ** 2)]
        width = np.sqrt(gamma(1 / alpha) / gamma(3 / alpha))
        return alpha, left * width, right * width

    image = luma.round().astype(np.float64)
    rows, columns = image.shape[0] // 96, image.shape[1] // 96
    image = image[: rows * 96, : columns * 96]
    scales = []
    for scale in (1, 2):
        mu = convolve(image, window, mode="nearest")
        sigma = np.sqrt(np.abs(convolve(image**2, window, mode="nearest") - mu**2))
        normalised, side, features = (image - mu) / (sigma + 1), 96 // scale, []
        for column in range(columns):
            for row in range(rows):
                block = normalised[row * side : (row + 1) * side, column * side : (column + 1) * side]
                alpha, left, right = fit(block)
                feature = [alpha, (left + right) / 2]
                for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
                    alpha, left, right = fit(block * np.roll(block, shift, axis=(0, 1)))
                    feature += [alpha, (right - left) * gamma(2 / alpha) / gamma(1 / alpha), left, right]
                features.append(feature)
        scales.append(np.array(features))
        image = imresize(image / 255, 0.5) * 255
    found = np.concatenate(scales, axis=1)
    difference = mean - found.mean(axis=0)
    inverse = np.linalg.pinv((covariance + np.cov(found, rowvar=False)) / 2)
    return float(np.sqrt(np.squeeze(difference @ inverse @ difference.T)))
