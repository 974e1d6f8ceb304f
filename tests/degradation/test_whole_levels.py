"""Where the published pipeline works on 8-bit frames, so does parity (docs/method.md 5.2)."""

from __future__ import annotations

import numpy as np
import torch

from sparkvsr.degradation.second_order import SecondOrderDegradation


def test_parity_stills_have_whole_levels() -> None:
    """After the second JPEG a still is 8 bit; the last resize and blur keep it so."""
    torch.manual_seed(0)
    hr = torch.rand(1, 3, 48, 48)
    degrade = SecondOrderDegradation(quirks=True)
    for seed in range(6):
        levels = degrade(hr, np.random.default_rng(seed), is_image=True) * 255
        assert float((levels - levels.round()).abs().max()) < 1e-3
