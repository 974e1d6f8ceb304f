"""Options that several commands share, each with its words once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import typer

from sparkvsr.errors import ConfigError
from sparkvsr.keyframes.select import parse_indices

SIZE, KEYFRAMES, MODEL, MAKER = "Output size", "Keyframes", "Model", "Makers of keyframes"

# Which frames are keyframes
Iframes = Annotated[bool, typer.Option("--iframes", help="The codec's I-frames.", rich_help_panel=KEYFRAMES)]
FrameNumbers = Annotated[
    str | None,
    typer.Option(
        "--keyframes",
        help="Frame numbers, e.g. 0,48,96, or auto: where motion asks for one.",
        rich_help_panel=KEYFRAMES,
    ),
]
Random = Annotated[
    int | None, typer.Option("--random", help="N frames at random, see --seed.", rich_help_panel=KEYFRAMES)
]
Every = Annotated[int | None, typer.Option("--every", help="Every N-th frame.", rich_help_panel=KEYFRAMES)]
Scenes = Annotated[bool, typer.Option("--scenes", help="The first frame of each shot.", rich_help_panel=KEYFRAMES)]

# The model and how it runs
Model = Annotated[
    str, typer.Option("--model", help="lite, bicubic, a model folder or a hub id.", rich_help_panel=MODEL)
]
Look = Annotated[
    str | None,
    typer.Option(
        "--look",
        help="Of lite: vivid (sharp and clean, invents detail; the default of upscale) or faithful (closest to the "
        "source).",
        rich_help_panel=MODEL,
    ),
]
Guidance = Annotated[
    float,
    typer.Option(
        "--guidance",
        help="0 blind, 1 plain, above 1 closer to the keyframes (up to 10; lite is at the keyframe at 2).",
        rich_help_panel=KEYFRAMES,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=MODEL)]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16, fp16.", rich_help_panel=MODEL)]
ChunkFrames = Annotated[
    int | None,
    typer.Option("--chunk-frames", help="Frames restored at once (default: by memory).", rich_help_panel=MODEL),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile", help="Tile side in LR pixels, 0 for whole frames (default: by memory).", rich_help_panel=MODEL
    ),
]
Seed = Annotated[
    int, typer.Option("--seed", help="For --random, and for models and makers that sample.", rich_help_panel=MODEL)
]

# Makers of reference images
Prompt = Annotated[str, typer.Option("--prompt", help="Words for makers that take them.", rich_help_panel=MAKER)]
Timeout = Annotated[
    float, typer.Option("--timeout", help="Seconds for one image of a program or endpoint.", rich_help_panel=MAKER)
]
KeyVariable = Annotated[
    str,
    typer.Option("--api-key-env", help="Environment variable that holds an endpoint's key.", rich_help_panel=MAKER),
]
DEFAULT_TIMEOUT, DEFAULT_KEY_VARIABLE = 600.0, "SPARKVSR_API_KEY"

# Reading and reporting
Start = Annotated[int, typer.Option("--start", help="First frame, counted from 0.")]
Frames = Annotated[int | None, typer.Option("--frames", help="Number of frames (default: to the end).")]
Deinterlace = Annotated[str, typer.Option("--deinterlace", help="auto, on, off.")]
Stream = Annotated[
    int | None,
    typer.Option("--stream", help="Video stream that is read, as ffprobe counts (default: the main one)."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace an existing output.")]
Json = Annotated[
    bool,
    typer.Option("--json", help="One JSON object a line on stdout (see `sparkvsr schema`), nothing else there."),
]


def keyframe_choice(
    iframes: bool,
    keyframes: str | None,
    random: int | None,
    every: int | None,
    scenes: bool,
    others: Mapping[str, str | None],
) -> str | list[int] | None:
    """The one way to choose keyframes that was given, as ``KeyframeChoice.parse`` takes it; None without any.

    Args:
        iframes, keyframes, random, every, scenes: the options of those names.
        others: further options of the command, with what they stand for.

    Raises:
        ConfigError: two of them were given, or ``--keyframes`` is not a list of numbers.
    """
    named: dict[str, str | list[int] | None] = {
        "--iframes": "iframes" if iframes else None,
        "--keyframes": keyframes if keyframes in (None, "auto") else parse_indices(keyframes),
        "--random": None if random is None else f"random:{random}",
        "--every": None if every is None else f"every:{every}",
        "--scenes": "scenes" if scenes else None,
        **others,
    }
    given = {name: value for name, value in named.items() if value is not None}
    if len(given) > 1:
        msg = f"{' and '.join(given)} exclude each other; give one of them"
        raise ConfigError(msg)
    return next(iter(given.values()), None)


def check_timeout(timeout: float) -> None:
    """Refuse a ``--timeout`` that no image can keep.

    Raises:
        ConfigError: not above 0.
    """
    if not timeout > 0:
        msg = f"--timeout {timeout:g} is too short; give seconds above 0"
        raise ConfigError(msg)
