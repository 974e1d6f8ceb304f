"""The event about an input, and the schema of all events."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from sparkvsr.hooks import Event
from sparkvsr.video import VideoInfo


def input_event(info: VideoInfo) -> dict[str, Any]:
    """The ``input`` event of a clip."""
    return {
        "event": "input",
        "path": str(info.path),
        "kind": info.kind,
        "width": info.width,
        "height": info.height,
        "frames": info.num_frames,
        "fps": float(info.average_fps) if info.average_fps else None,
        "codec": info.codec,
        "audio": info.num_audio,
        "summary": info.summary(),
    }


def event_schema() -> Event:
    """The JSON Schema (draft 2020-12) of all events."""
    text = resources.files("sparkvsr.inference").joinpath("events.schema.json").read_text(encoding="utf-8")
    schema: Event = json.loads(text)
    return schema
