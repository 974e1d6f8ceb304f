"""MATLAB's bicubic: against a plain loop and against torch away from the border."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from sparkvsr.metrics.imresize import imresize


def matlab_row(values: np.ndarray, scale: float) -> np.ndarray:
    """``contributions`` of imresize.m for one row: 1-based coordinates, mirrored edges."""

    def cubic(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    stretch = min(scale, 1.0)
    width = 4 / stretch
    mirror = list(range(1, len(values) + 1)) + list(range(len(values), 0, -1))
    out = []
    for x in range(1, math.ceil(len(values) * scale) + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        taps = range(left, left + math.ceil(width) + 2)
        weights = [stretch * cubic(stretch * (u - tap)) for tap in taps]
        picked = [values[mirror[(tap - 1) % len(mirror)] - 1] for tap in taps]
        out.append(np.dot(weights, picked) / sum(weights))
    return np.array(out)


@pytest.mark.parametrize("scale", [0.25, 0.5, 2.0, 4.0])
@pytest.mark.parametrize("length", [8, 13, 24])
def test_rows_equal_matlab(scale: float, length: int) -> None:
    values = np.random.default_rng(0).random(length)
    assert imresize(values[None, :].repeat(4, axis=0), scale)[0] == pytest.approx(matlab_row(values, scale), abs=1e-12)
    assert imresize(values[:, None].repeat(4, axis=1), scale)[:, 0] == pytest.approx(
        matlab_row(values, scale), abs=1e-12
    )


def test_interior_equals_torch_with_antialiasing() -> None:
    image = np.random.default_rng(0).random((64, 80, 3))
    tensor = torch.from_numpy(image.transpose(2, 0, 1)[None])
    small = F.interpolate(tensor, scale_factor=0.25, mode="bicubic", antialias=True)[0].numpy().transpose(1, 2, 0)
    assert np.abs(imresize(image, 0.25) - small)[2:-2, 2:-2].max() < 1e-12


def test_a_constant_stays_constant() -> None:
    assert imresize(np.full((16, 20), 0.7), 0.25) == pytest.approx(np.full((4, 5), 0.7), abs=1e-12)
