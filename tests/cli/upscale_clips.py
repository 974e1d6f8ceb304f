"""Clips for the tests of the command line, and the command itself."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import av
import jsonschema
import numpy as np
from typer.testing import CliRunner, Result

from sparkvsr.inference import events

ENTRY_POINT = (
    "from importlib.metadata import entry_points as e; next(iter(e(group='console_scripts', name='sparkvsr'))).load()()"
)

event_schema = cache(events.event_schema)


def picture(index: int, height: int, width: int, scene: int = 0) -> np.ndarray:
    """A smooth moving pattern; another scene has other colours and direction."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    wave = np.sin((x + index * (1 if scene == 0 else -2)) / 5) + np.cos(y / 7)
    out = np.stack([128 + 50 * wave, 90 + 40 * wave + 60 * scene, 160 - 30 * wave - 90 * scene], -1)
    return out.clip(0, 255).astype(np.uint8)


def write_clip(
    path: Path, frames: int = 20, size: tuple[int, int] = (48, 64), gop: int = 8, cut: int | None = None
) -> Path:
    """H.264 with an I-frame every ``gop`` frames and a second of sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("libx264", rate=25, options={"g": str(gop), "sc_threshold": "0", "bf": "2"})
        video.width, video.height, video.pix_fmt = size[1], size[0], "yuv420p"
        audio = out.add_stream("aac", rate=16000, layout="mono")
        for index in range(frames):
            scene = 0 if cut is None or index < cut else 1
            out.mux(video.encode(av.VideoFrame.from_ndarray(picture(index, *size, scene))))
        tone = (np.sin(np.arange(16000 * frames // 25) / 20) * 8000).astype(np.int16)[None]
        sound = av.AudioFrame.from_ndarray(tone, format="s16", layout="mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def sparkvsr(*arguments: str | Path) -> Result:
    """The command in this process. Whatever it writes with ``--json`` has to fit the schema."""
    app = next(iter(entry_points(group="console_scripts", name="sparkvsr"))).load().__globals__["app"]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if "--json" in arguments and arguments[0] in ("upscale", "keyframes", "compare"):
        for line in result.stdout.splitlines():
            check_event(json.loads(line))
    return result


def run(*arguments: str | Path) -> Result:
    return sparkvsr("upscale", *arguments)


def check_event(event: dict[str, Any]) -> None:
    """Compare with its own part of the schema: the message of a failed ``oneOf`` tells nothing."""
    schema = event_schema()
    own = schema["$defs"].get(event["event"])
    assert own is not None, f"no event {event['event']!r} in the schema"
    jsonschema.Draft202012Validator(own).validate(event)
    jsonschema.Draft202012Validator(schema).validate(event)


def decoded(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="yuv420p").tobytes() for frame in container.decode(video=0)]
