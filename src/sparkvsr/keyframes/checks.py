"""Does a reference image fit its frame? Size, position, content and colour, told in words; nothing is refused here.

Everything is compared at a small size in LR space: references come from any tool, at any size, and may be edited on
purpose. The thresholds leave room for that and are in LR pixels or codes of 255.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from sparkvsr.colour import GREY_WEIGHTS
from sparkvsr.keyframes.makers.interface import ReferenceMaker
from sparkvsr.video.pixels import resize_image

ANALYSIS_LONG_SIDE = 480
"""Frames are reduced to this long side: shifts of half an LR pixel are still seen up to HD sources."""

MAX_SHIFT_PX = 0.6
"""In LR pixels. Tools that place pixel centres in another way are off by up to 0.375 at x4."""

MIN_SHIFT_RESPONSE = 0.15
"""Below it the phase correlation has no clear peak (flat or rebuilt content) and its shift means nothing. An upscaled
frame has 0.9 to 1, other frames of its shot 0.1 to 0.9 (measured on 20 clips)."""

OWN_DETAIL_RESPONSE = 0.6
"""A shift that is found with less than this may as well be another moment of the shot."""

MIN_CORRELATION = 0.5
"""Of the coarse structure. An upscaled frame has above 0.98, another frame of its shot 0.4 to 0.99, another scene
below 0.4 (measured on 20 clips)."""

LIKELY_CORRELATION = 0.85
"""Below it, and without any common detail, an image may be another moment (or was much restyled)."""

FAR_BETTER = 0.1
"""How much better an image must fit another keyframe's frame before it is called swapped."""

MAX_BRIGHTNESS = 12.0
MAX_CAST = 8.0
"""In codes of 255: mean brightness, and the difference of a channel from it."""

FADED = 0.35
"""Share of the frame's colourfulness (mean distance of the channels) below which an image counts as faded."""

STRUCTURE_CELLS = 48
"""Long side of the coarse structure: faces and objects, not texture."""

Grey = NDArray[np.float32]


def check_content(lr: Tensor, hr: Tensor) -> list[str]:
    """Compare a reference image with the frame that it stands for.

    Args:
        lr: ``(3, h, w)`` float in [0, 1], the clip's frame.
        hr: ``(3, a, b)`` float in [0, 1], the reference at its own size.

    Returns:
        What is wrong, one line each; empty when the image fits.
    """
    (h, w), (a, b) = lr.shape[-2:], hr.shape[-2:]
    notes = []
    if a <= h and b <= w:
        notes.append(f"is {b}x{a}, not larger than the frame of {w}x{h}: it adds no detail")
    small_lr, small_hr = _reduced(lr, hr)
    fit = correlation(small_lr, small_hr)
    if fit < MIN_CORRELATION:
        notes.append(f"does not look like this frame (correlation {fit:.2f}): another frame or scene?")
        return notes
    dx, dy, response = shift(small_lr, small_hr)
    if response >= MIN_SHIFT_RESPONSE:
        per_px = w / small_lr.shape[-1]
        dx, dy = dx * per_px, dy * per_px
        if max(abs(dx), abs(dy)) > MAX_SHIFT_PX:
            scale = b / w
            cause = "move it back" if response >= OWN_DETAIL_RESPONSE else "move it back, or is it another frame?"
            notes.append(
                f"is shifted by {dx * scale:+.1f} pixels across and {dy * scale:+.1f} down "
                f"({dx:+.1f}, {dy:+.1f} in the clip): {cause}"
            )
    elif fit < LIKELY_CORRELATION:
        notes.append(f"shares no detail with this frame (correlation {fit:.2f}): another frame, or much restyled?")
    return notes + _colour_notes(small_lr, small_hr)


def correlation(first: Tensor, second: Tensor) -> float:
    """How alike the coarse structure of two images of one size is, -1 to 1; brightness and contrast do not matter.

    Two flat images count as alike. Images are ``(3, h, w)`` in [0, 1].
    """
    x, y = _structure(first), _structure(second)
    x, y = x - x.mean(), y - y.mean()
    norm = float(np.sqrt((x * x).sum() * (y * y).sum()))
    # One flat picture and one with structure have nothing in common; two flat ones cannot be told apart.
    flat = 2.0 / 255
    if x.std() < flat or y.std() < flat:
        return 1.0 if x.std() < flat and y.std() < flat else 0.0
    return float((x * y).sum()) / norm


def shift(first: Tensor, second: Tensor) -> tuple[float, float, float]:
    """Where ``second`` lies relative to ``first`` by phase correlation.

    Args:
        first, second: ``(3, h, w)`` of one size.

    Returns:
        Pixels to the right, pixels down, and how clear the answer is (0 to 1).
    """
    x, y = _edges(_grey(first)), _edges(_grey(second))
    if min(x.shape) < 16 or x.std() < 1e-4 or y.std() < 1e-4:
        return 0.0, 0.0, 0.0
    window = cv2.createHanningWindow((x.shape[1], x.shape[0]), cv2.CV_32F)
    (dx, dy), response = cv2.phaseCorrelate(x, y, window)
    return float(dx), float(dy), float(response)


def content_notes(
    maker: ReferenceMaker, read_lr: Callable[[Sequence[int]], Mapping[int, Tensor]], indices: Sequence[int]
) -> list[str]:
    """What is odd about images that somebody made; empty for makers that start from the frame itself.

    Args:
        maker: only one that ``holds_images`` is looked at.
        read_lr: gives some LR frames, ``(3, h, w)`` in [0, 1], like ``lambda wanted: read_frames(path, wanted)``.
        indices: keyframes that will be used.

    Returns:
        One line for each finding, beginning with the image's name.

    Raises:
        KeyframeError: an image is missing, unreadable or of another aspect ratio.
    """
    if not maker.holds_images:
        return []
    notes = maker.settle(read_lr, indices)
    structures: dict[int, Tensor] = {}
    suspects: dict[int, tuple[Tensor, float]] = {}
    # A few at a time, so that many keyframes of a large clip do not fill the memory.
    for start in range(0, len(indices), 8):
        batch = list(indices[start : start + 8])
        for index, lr in sorted(read_lr(batch).items()):
            hr = maker.original(index, (lr.shape[-2], lr.shape[-1]))
            if hr is None:
                continue
            name = maker.label(index)
            notes += [f"{name} {note}" for note in check_content(lr, hr)]
            small_lr, small_hr = _reduced(lr, hr)
            structures[index] = resize_image(small_lr, _cells(small_lr))
            fit = correlation(small_lr, small_hr)
            if fit < 1 - FAR_BETTER:
                suspects[index] = (resize_image(small_hr, _cells(small_hr)), fit)
    for index, (image, fit) in suspects.items():
        others = [(correlation(lr, image), other) for other, lr in structures.items() if other != index]
        best, other = max(others, default=(0.0, -1))
        if best > fit + FAR_BETTER:
            name = maker.label(index)
            notes.append(f"{name} looks like frame {other} (correlation {best:.2f}) rather than {index} ({fit:.2f})")
    return notes


def _reduced(lr: Tensor, hr: Tensor) -> tuple[Tensor, Tensor]:
    """Both at one size: the LR frame's, or smaller for large clips."""
    h, w = lr.shape[-2:]
    factor = max(1.0, max(h, w) / ANALYSIS_LONG_SIDE)
    size = (max(1, round(h / factor)), max(1, round(w / factor)))
    return resize_image(lr, size).float(), resize_image(hr, size).float()


def _cells(image: Tensor) -> tuple[int, int]:
    h, w = image.shape[-2:]
    factor = max(1.0, max(h, w) / STRUCTURE_CELLS)
    return max(2, round(h / factor)), max(2, round(w / factor))


def _grey(image: Tensor) -> Grey:
    weights = np.array(GREY_WEIGHTS, np.float32)
    return np.ascontiguousarray(np.tensordot(weights, image.numpy(), 1), dtype=np.float32)


def _structure(image: Tensor) -> Grey:
    return _grey(resize_image(image, _cells(image)))


def _edges(grey: Grey) -> Grey:
    """Band-passed, so that neither the vignette nor the noise decides where a picture lies."""
    return cv2.GaussianBlur(grey, (0, 0), 0.8) - cv2.GaussianBlur(grey, (0, 0), 4.0)


def _colour_notes(lr: Tensor, hr: Tensor) -> list[str]:
    difference = (hr - lr).mean((-2, -1)) * 255
    brightness = float(difference.mean())
    notes = []
    if abs(brightness) > MAX_BRIGHTNESS:
        notes.append(f"is {'brighter' if brightness > 0 else 'darker'} than the frame by {abs(brightness):.0f} of 255")
    cast = [float(value) - brightness for value in difference]
    if max(map(abs, cast)) > MAX_CAST:
        shown = ", ".join(f"{name} {value:+.0f}" for name, value in zip(("red", "green", "blue"), cast, strict=True))
        notes.append(f"has a colour cast ({shown} of 255 against the frame)")
    colourful = [float((image.amax(0) - image.amin(0)).mean()) * 255 for image in (lr, hr)]
    if colourful[0] > MAX_CAST and colourful[1] < FADED * colourful[0]:
        what = "is grey" if colourful[1] < 1 else "has lost most of its colour"
        notes.append(f"{what} where the frame is in colour: a colour cast over all that it guides")
    return notes
