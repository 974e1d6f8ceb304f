"""Two pictures beside each other with a caption, for the side-by-side video."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

GAP_PX = 4


def caption(text: str, height_px: int) -> Tensor:
    """White text on black as a mask.

    Args:
        text: what the font has (ASCII) is drawn, the rest as ``?``.
        height_px: height of the frame it goes onto; the text takes about a twentieth of it.

    Returns:
        ``(1, h, w)`` float in [0, 1], 1 where the text is.
    """
    font_scale = max(0.35, height_px / 720)
    thickness = max(1, round(font_scale * 1.5))
    # OpenCV reads bytes behind the end of a text that is no Unicode: names of files can be.
    text = "".join(char if " " <= char <= "~" else "?" for char in text)
    (w, h), baseline = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, font_scale, thickness)
    pad = max(2, round(6 * font_scale))
    mask = np.zeros((h + baseline + 2 * pad, w + 2 * pad), np.uint8)
    cv2.putText(mask, text, (pad, h + pad), cv2.FONT_HERSHEY_SIMPLEX, font_scale, 255, thickness, cv2.LINE_AA)
    return torch.from_numpy(mask)[None].float() / 255


def side_by_side(left: Tensor, right: Tensor, left_text: str, right_text: str) -> Tensor:
    """Join two frames of equal size with a line between them.

    Args:
        left, right: ``(3, H, W)`` float in [0, 1].
        left_text, right_text: captions at the lower left of each.

    Returns:
        ``(3, H, 2 W + 4)``.
    """
    height = left.shape[-2]
    line = torch.ones(3, height, GAP_PX)
    return torch.cat([_captioned(left, left_text), line, _captioned(right, right_text)], dim=-1)


def _captioned(frame: Tensor, text: str) -> Tensor:
    mask = caption(text, frame.shape[-2])
    h, w = min(mask.shape[-2], frame.shape[-2]), min(mask.shape[-1], frame.shape[-1])
    mask = mask[:, :h, :w]
    out = frame.clone()
    corner = out[:, -h:, :w]
    out[:, -h:, :w] = corner * 0.4 * (1 - mask) + mask
    return out
