"""Clips for the tests of the command line, and the command itself."""

from __future__ import annotations

import json
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import av
import jsonschema
from small_clips import smooth as picture
from small_clips import write_clip
from typer.testing import CliRunner, Result

from sparkvsr.inference import events

__all__ = ["ENTRY_POINT", "check_event", "decoded", "picture", "run", "sparkvsr", "write_clip"]

ENTRY_POINT = (
    "from importlib.metadata import entry_points as e; next(iter(e(group='console_scripts', name='sparkvsr'))).load()()"
)

event_schema = cache(events.event_schema)


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
