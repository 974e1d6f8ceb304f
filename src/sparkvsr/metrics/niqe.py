"""NIQE (Mittal et al. 2013) with the parameters that BasicSR ships (Apache-2.0).

Which luma goes in is part of the number: full range as in MATLAB and pyiqa, limited range as in BasicSR (4% apart on an
ordinary picture). Where a picture is exactly flat, the features are those of rounding noise, so implementations agree
to four digits on natural pictures and to about a percent on synthetic ones.
"""

from __future__ import annotations

import math
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from sparkvsr.metrics.imresize import imresize

_BLOCK = 96
_SHIFTS = ((0, 1), (1, 0), (1, 1), (1, -1))

Array = npt.NDArray[np.float64]


class Niqe:
    """Natural image quality evaluator; lower is better.

    Args:
        parameters: ``niqe_pris_params.npz``.
    """

    def __init__(self, parameters: Path) -> None:
        with np.load(parameters, allow_pickle=False) as stored:
            self._mean = stored["mu_pris_param"].astype(np.float64)
            self._covariance = stored["cov_pris_param"].astype(np.float64)
            self._window = stored["gaussian_window"].astype(np.float64)

    def __call__(self, luma: npt.NDArray[np.float32]) -> float | None:
        """Score a luma plane.

        Args:
            luma: ``(H, W)``, 0 to 255.

        Returns:
            None where the model has no answer: smaller than two blocks of 96 pixels, or flat (a fade to black).
        """
        rows, columns = luma.shape[0] // _BLOCK, luma.shape[1] // _BLOCK
        if rows * columns < 2:
            return None
        # Rounding is what MATLAB's uint8 pipeline does.
        image = np.rint(luma[: rows * _BLOCK, : columns * _BLOCK]).astype(np.float64)
        scales = []
        for scale in (1, 2):
            mean = cv2.filter2D(image, cv2.CV_64F, self._window, borderType=cv2.BORDER_REPLICATE)
            square = cv2.filter2D(image * image, cv2.CV_64F, self._window, borderType=cv2.BORDER_REPLICATE)
            deviation = np.sqrt(np.abs(square - mean * mean))
            normalised = (image - mean) / (deviation + 1)
            side = _BLOCK // scale
            blocks = normalised.reshape(rows, side, columns, side).transpose(2, 0, 1, 3).reshape(-1, side, side)
            scales.append(_features(blocks))
            if scale == 1:
                image = imresize(image / 255.0, 0.5) * 255.0
        features = np.concatenate(scales, axis=1)
        complete = features[~np.isnan(features).any(axis=1)]
        if len(complete) < 2:
            return None
        with np.errstate(all="ignore"):
            average = np.nanmean(features, axis=0)
        difference = self._mean - average
        try:
            inverse = np.linalg.pinv((self._covariance + np.cov(complete, rowvar=False)) / 2)
        except np.linalg.LinAlgError:
            return None
        value = float(np.sqrt(np.squeeze(difference @ inverse @ difference.T)))
        return value if math.isfinite(value) else None


def _features(blocks: Array) -> Array:
    """``(B, n, n)`` blocks to ``(B, 18)`` features; NaN where a block is flat."""
    alpha, left, right = _fit(blocks)
    columns = [alpha, (left + right) / 2]
    for shift in _SHIFTS:
        alpha, left, right = _fit(blocks * np.roll(blocks, shift, axis=(1, 2)))
        columns += [alpha, (right - left) * (_gamma(2 / alpha) / _gamma(1 / alpha)), left, right]
    return np.stack(columns, axis=1)


def _fit(blocks: Array) -> tuple[Array, Array, Array]:
    """Asymmetric generalised Gaussian of each block: shape, left and right width."""
    values = blocks.reshape(len(blocks), -1)
    square = values * values
    negative, positive = values < 0, values > 0
    with np.errstate(all="ignore"):
        left = np.sqrt(np.sum(square * negative, axis=1) / negative.sum(axis=1))
        right = np.sqrt(np.sum(square * positive, axis=1) / positive.sum(axis=1))
        ratio = left / right
        spread = np.mean(np.abs(values), axis=1) ** 2 / np.mean(square, axis=1)
        wanted = spread * (ratio**3 + 1) * (ratio + 1) / (ratio**2 + 1) ** 2
    shapes, table = _shape_table()
    above = np.clip(np.searchsorted(table, np.nan_to_num(wanted)), 1, len(table) - 1)
    nearest = np.where(np.abs(table[above] - wanted) < np.abs(table[above - 1] - wanted), above, above - 1)
    alpha = np.where(np.isnan(wanted), np.nan, shapes[nearest])
    width = np.sqrt(_gamma(1 / alpha) / _gamma(3 / alpha))
    return alpha, left * width, right * width


@cache
def _shape_table() -> tuple[Array, Array]:
    """Shape parameters and the moment ratio of each, which grows with the shape."""
    shapes = np.arange(0.2, 10.001, 0.001)
    inverse = 1 / shapes
    return shapes, _gamma(2 * inverse) ** 2 / (_gamma(inverse) * _gamma(3 * inverse))


def _gamma(values: Array) -> Array:
    return np.array([math.nan if math.isnan(v) else math.gamma(v) for v in values.ravel()]).reshape(values.shape)
