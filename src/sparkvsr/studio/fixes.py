"""Mending a reference image: what the checks say, and the picture that it should have been."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from torch import Tensor

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes.checks import MAX_SHIFT_PX, MIN_SHIFT_RESPONSE, check_content, shift
from sparkvsr.video.pixels import resize_image

_FIX_OF = {
    "is shifted": "align",
    "has a colour cast": "colours",
    "is brighter": "colours",
    "is darker": "colours",
}
"""How a line of ``check_content`` begins, and what would help."""

COLOUR_CELLS = 24
"""Long side of the grid on which colours are matched: tones of regions, no detail."""


def findings(lr: Tensor, image: Tensor) -> list[dict[str, str | None]]:
    """What is odd about an image, each with the fix that would help (or None).

    Args:
        lr: ``(3, h, w)`` float in [0, 1], the clip's frame.
        image: ``(3, a, b)`` float in [0, 1].
    """
    found = []
    for text in check_content(lr, image):
        fix = next((fix for start, fix in _FIX_OF.items() if text.startswith(start)), None)
        found.append({"text": text, "fix": fix})
    return found


def apply_fix(name: str, lr: Tensor, image: Tensor) -> Tensor:
    """The image ``(3, H, W)`` in [0, 1] after ``align`` or ``colours``; arguments as for ``findings``.

    Raises:
        ConfigError: no such fix.
    """
    if name == "align":
        return aligned(lr, image)
    if name == "colours":
        return with_colours_of(lr, image)
    msg = f"fix {name!r} is unknown; use align or colours"
    raise ConfigError(msg)


def aligned(lr: Tensor, image: Tensor) -> Tensor:
    """The image ``(3, H, W)`` in [0, 1] moved back to where its frame's content lies; edges are repeated."""
    size = (lr.shape[-2], lr.shape[-1])
    height, width = image.shape[-2:]
    for _ in range(3):
        dx, dy, response = shift(lr.float(), resize_image(image, size).float())
        if response < MIN_SHIFT_RESPONSE or max(abs(dx), abs(dy)) < MAX_SHIFT_PX / 6:
            break
        move = np.array([[1, 0, -dx * width / size[1]], [0, 1, -dy * height / size[0]]], np.float32)
        picture = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        moved = cv2.warpAffine(picture, move, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
        image = torch.from_numpy(moved).permute(2, 0, 1).clamp(0, 1)
    return image


def with_colours_of(lr: Tensor, image: Tensor) -> Tensor:
    """``(3, H, W)`` in [0, 1] with the tones of its frame: the coarse difference is added, detail stays."""
    h, w = lr.shape[-2:]
    factor = max(1.0, max(h, w) / COLOUR_CELLS)
    cells = (max(2, round(h / factor)), max(2, round(w / factor)))
    difference = resize_image(lr.float(), cells) - resize_image(image.float(), cells)
    wide = torch.nn.functional.interpolate(
        difference[None], size=tuple(image.shape[-2:]), mode="bicubic", align_corners=False
    )[0]
    return (image.float() + wide).clamp(0, 1)


def composed(over: Tensor, base: Tensor, mask: Tensor) -> Tensor:
    """``over`` where the mask is 1, ``base`` where it is 0, at the size of ``over``.

    Args:
        over, base: ``(3, a, b)`` float in [0, 1], of any size.
        mask: ``(1, c, d)`` in [0, 1].
    """
    size = (over.shape[-2], over.shape[-1])
    share = torch.nn.functional.interpolate(mask[None].float(), size=size, mode="bilinear", align_corners=False)[0]
    return torch.lerp(resize_image(base, size).float(), over.float(), share).clamp(0, 1)
