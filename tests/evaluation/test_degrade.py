"""LR frames against the formulas of the protocols."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from clips_on_disk import moving
from scipy.ndimage import gaussian_filter

from sparkvsr.errors import ConfigError
from sparkvsr.evaluation.degrade import make_lr
from sparkvsr.evaluation.demo_clips import demo_clip
from sparkvsr.metrics.imresize import imresize


def test_bd_is_duf_downsampling() -> None:
    """BasicSR's duf_downsample: the 13 x 13 window of a delta under gaussian_filter(1.6), reflected, every 4th."""
    frame = moving(1)[0]
    delta = np.zeros((13, 13))
    delta[6, 6] = 1
    kernel = torch.from_numpy(gaussian_filter(delta, 1.6)).float()[None, None].expand(3, 1, 13, 13)
    pixels = torch.from_numpy(frame.transpose(2, 0, 1).copy()).float()[None]
    expected = F.conv2d(F.pad(pixels, (6, 6, 6, 6), mode="reflect"), kernel, stride=4, groups=3)[0]
    difference = np.abs(make_lr(frame, "bd", 4).transpose(2, 0, 1) - expected.numpy())
    # scipy's window is not quite normalised after cropping to 13; rounding to 8 bit is the rest.
    assert difference.max() < 0.55


def test_bicubic_is_imresize_rounded() -> None:
    frame = moving(1)[0]
    expected = np.clip(np.rint(imresize(frame.astype(np.float64), 0.25)), 0, 255)
    assert (make_lr(frame, "bicubic", 4) == expected).all()


def test_wrong_sizes_and_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="62x48 frame cannot be reduced by 4"):
        make_lr(moving(1)[0][:, :62], "bicubic", 4)
    with pytest.raises(ConfigError, match="'given' cannot be made"):
        make_lr(moving(1)[0], "given", 4)


@pytest.mark.parametrize("name", ["pan", "sprites", "zoom"])
def test_demo_clips_are_textured_moving_and_repeatable(name: str) -> None:
    frames = list(demo_clip(name, 3).frames())
    assert [frame.shape for frame in frames] == [(192, 256, 3)] * 3
    assert frames[0].std() > 25
    assert np.abs(frames[0].astype(int) - frames[1]).mean() > 1
    assert (frames[2] == list(demo_clip(name, 3).frames())[2]).all()


def test_an_unknown_demo_clip_is_refused() -> None:
    with pytest.raises(ConfigError, match="no clip 'x'; there is pan"):
        demo_clip("x", 3)
