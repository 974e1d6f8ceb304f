"""What may be chosen for a finished file in the page, and the command line that gives the same."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sparkvsr.errors import ConfigError

CODECS = ("h264", "hevc", "av1", "ffv1", "prores")
SUFFIXES = {
    "h264": (".mp4", ".mkv", ".mov"),
    "hevc": (".mp4", ".mkv", ".mov"),
    "av1": (".mp4", ".mkv"),
    "ffv1": (".mkv",),
    "prores": (".mov", ".mkv"),
}
_FLAGS = {
    "scale": "--scale",
    "height": "--height",
    "size": "--size",
    "model": "--model",
    "guidance_scale": "--guidance",
    "device": "--device",
    "dtype": "--dtype",
    "chunk_frames": "--chunk-frames",
    "tile": "--tile",
    "seed": "--seed",
    "codec": "--codec",
    "crf": "--crf",
    "pixel_format": "--pixel-format",
    "deinterlace": "--deinterlace",
    "look": "--look",
}
_DEFAULTS = {"model": "lite", "device": "auto", "dtype": "auto", "seed": 42, "codec": "h264", "deinterlace": "auto"}


def default_output(clip: Path, values: Mapping[str, Any]) -> str:
    """Name of the result of a clip: ``in_x4.mp4``."""
    stem = clip.parent.name if "%" in clip.name else (clip.stem if clip.suffix else clip.name)
    height, scale = values.get("height"), values.get("scale")
    size = str(values["size"]).partition("x")[2] if values.get("size") else None
    tag = f"{height or size}p" if height or size else f"x{scale or 4:g}"
    codec = values.get("codec") or "h264"
    own = clip.suffix.lower()
    suffix = own if own in SUFFIXES[codec] else SUFFIXES[codec][0]
    safe = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "._-") else "_" for letter in stem)
    return f"{safe.lstrip('.-')[:100] or 'clip'}_{tag}{suffix}"


def checked_export(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options of ``make_options`` from what the page sent: codec, crf, and at most one of height and scale.

    Raises:
        ConfigError: a value that is not allowed.
    """
    out: dict[str, Any] = {}
    codec = given.get("codec")
    if codec is not None:
        if codec not in CODECS:
            msg = f"codec {str(codec)[:20]!r} is unknown; use {', '.join(CODECS)}"
            raise ConfigError(msg)
        out["codec"] = codec
    for name, low, high in (("crf", 0, 63), ("height", 16, 16384)):
        value = given.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            msg = f"{name} {str(value)[:20]!r} is out of range; use {low} to {high}"
            raise ConfigError(msg)
        out[name] = value
    if "height" in out:
        out |= {"scale": None, "size": None}
    return out


def command_line(
    clip: Path, references: Path | None, store: Path, output: Path, values: Mapping[str, Any], guidance: float
) -> str:
    """The `sparkvsr upscale` that gives the same file.

    Args:
        references: folder of the keyframes; None without any.
        values: as given to ``make_options``.
    """
    words = ["sparkvsr", "upscale", str(clip)]
    words += ["--no-keyframes"] if references is None else ["--references", str(references)]
    shown = {**values, "guidance_scale": guidance if guidance != 1 else None}
    for name, flag in _FLAGS.items():
        value = shown.get(name)
        if value is None or value == _DEFAULTS.get(name):
            continue
        if name == "size" and not isinstance(value, str):
            value = "x".join(map(str, reversed(value)))
        words += [flag, f"{value:g}" if isinstance(value, float) else str(value)]
    for name, value in (values.get("model_options") or {}).items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            for one in value if isinstance(value, list | tuple) else [value]:
                words += [f"--{flag}", str(one)]
    return shlex.join([*words, "--work", str(store), "-o", str(output)])
