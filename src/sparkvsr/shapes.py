"""The arithmetic of sizes: what size the output gets, and why. Knows nothing about pixels or files."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sparkvsr.errors import ConfigError

MAX_SCALE = 4.0
DEFAULT_SCALE = 4.0
ASPECT_TOLERANCE = 0.02
"""Largest relative difference between the aspect ratios of two pictures of one thing (rounding of odd sizes)."""


@dataclass(frozen=True)
class OutputSize:
    """The size of the result and how it came about.

    Attributes:
        height, width: pixels, both even (4:2:0 video needs it).
        scale: factor asked for or implied, output height over input height before rounding to even.
        note: one line for the user where the result is not plainly what was typed, else empty.
    """

    height: int
    width: int
    scale: float
    note: str = ""


def round_to_even(value: float) -> int:
    """Nearest even integer, at least 2."""
    return max(2, 2 * round(value / 2))


def parse_size(text: str) -> tuple[int, int]:
    """``"1920x1080"`` to ``(height, width)`` = ``(1080, 1920)``.

    Raises:
        ConfigError: not of the form WIDTHxHEIGHT.
    """
    match = re.fullmatch(r"\s*(\d{1,6})\s*[xX×]\s*(\d{1,6})\s*", text)
    if not match or int(match[1]) < 2 or int(match[2]) < 2:
        msg = f"--size {text!r} is not WIDTHxHEIGHT; write it like 1920x1080"
        raise ConfigError(msg)
    return int(match[2]), int(match[1])


def output_size(
    lr_size: tuple[int, int],
    *,
    scale: float | None = None,
    height: int | None = None,
    size: tuple[int, int] | None = None,
) -> OutputSize:
    """Choose the output size for a clip. Give at most one of ``scale``, ``height``, ``size``; default scale 4.

    Args:
        lr_size: ``(h, w)`` of the clip as displayed.
        scale: factor from 1 to 4, may be fractional.
        height: output height; the width follows from the aspect ratio.
        size: ``(H, W)`` box; the result is the largest size inside it with the clip's aspect ratio.

    Raises:
        ConfigError: more than one given, the result would be smaller than the clip, or more than 4 times as large.
    """
    h, w = lr_size
    given = [name for name, value in (("--scale", scale), ("--height", height), ("--size", size)) if value is not None]
    if len(given) > 1:
        msg = f"{' and '.join(given)} exclude each other; give one of them"
        raise ConfigError(msg)
    note = ""
    if height is not None:
        factor, what = height / h, f"--height {height}"
    elif size is not None:
        factor = min(size[0] / h, size[1] / w)
        what = f"--size {size[1]}x{size[0]}"
    else:
        factor = DEFAULT_SCALE if scale is None else scale
        what = f"--scale {factor:g}"
    if factor < 1.0:
        msg = (
            f"{what} would shrink the {w}x{h} clip (factor {factor:.3g}); factors from 1 to {MAX_SCALE:g} are allowed, "
            f"that is {w}x{h} to {round(w * MAX_SCALE)}x{round(h * MAX_SCALE)}"
        )
        raise ConfigError(msg)
    if factor > MAX_SCALE:
        msg = (
            f"{what} is {factor:.3g} times the {w}x{h} clip; factors from 1 to {MAX_SCALE:g} are allowed, "
            f"that is up to {round(w * MAX_SCALE)}x{round(h * MAX_SCALE)}"
        )
        raise ConfigError(msg)
    out = (round_to_even(h * factor), round_to_even(w * factor))
    if size is not None and out != size:
        note = f"{out[1]}x{out[0]}: the largest size inside {size[1]}x{size[0]} with the clip's aspect ratio"
    elif height is not None and out[0] != height:
        note = f"height {out[0]}: video needs an even height"
    elif height is None and size is None and (abs(h * factor - out[0]) > 1e-6 or abs(w * factor - out[1]) > 1e-6):
        note = f"{out[1]}x{out[0]}: {w}x{h} times {factor:g}, rounded to even sides"
    return OutputSize(out[0], out[1], factor, note)


def parse_preview(text: str) -> tuple[float, float]:
    """``"3s@0:42"`` to ``(3.0, 42.0)``: length and moment in seconds. The moment is the middle of the preview.

    Raises:
        ConfigError: not of the form LENGTHs@[H:]M:S.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)s?@(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d+)?)\s*", text)
    if not match or float(match[1]) <= 0:
        msg = f"--preview {text!r} is not LENGTHs@MOMENT; write it like 3s@0:42 (three seconds around 0:42)"
        raise ConfigError(msg)
    return float(match[1]), int(match[2] or 0) * 3600 + int(match[3] or 0) * 60 + float(match[4])


def preview_frames(text: str, fps: float, num_frames: int) -> tuple[int, int]:
    """First frame and number of frames of a preview.

    Raises:
        ConfigError: malformed, or the moment lies behind the end of the clip.
    """
    length, moment = parse_preview(text)
    if moment * fps >= num_frames:
        msg = f"--preview {text}: the clip ends at {num_frames / fps:.2f} s; choose an earlier moment"
        raise ConfigError(msg)
    count = max(1, min(num_frames, round(length * fps)))
    return min(max(0, round((moment - length / 2) * fps)), num_frames - count), count


def check_run_size(chunk_frames: int | None, tile: int | None) -> None:
    """Refuse a chunk or tile that is wrong for any clip and model; None leaves it to the model.

    Raises:
        ConfigError: with the option, its value and what is allowed.
    """
    if chunk_frames is not None and chunk_frames < 1:
        msg = f"--chunk-frames {chunk_frames} is too small; give at least 1"
        raise ConfigError(msg)
    if tile is not None and tile != 0 and tile < 32:
        msg = f"--tile {tile} is too small; give at least 32 (LR pixels), or 0 for whole frames"
        raise ConfigError(msg)
