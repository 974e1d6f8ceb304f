"""The events about an input and its plan, and the schema of all events."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any

from sparkvsr.hooks import Event
from sparkvsr.video import VideoInfo

if TYPE_CHECKING:
    from sparkvsr.inference.clip.job import ClipJob


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


def plan_event(job: ClipJob) -> dict[str, Any]:
    """The ``plan`` event of a job."""
    return {
        "event": "plan",
        "output": str(job.output),
        "width": job.size.width,
        "height": job.size.height,
        "scale": round(job.size.scale, 4),
        "frames": job.num_frames,
        "model": job.model_name,
        "device": job.model_device,
        "dtype": job.model_dtype,
        "shots": [[shot.start, shot.stop] for shot in job.shots],
        "keyframes": list(job.selection.indices),
        "dropped_keyframes": list(job.selection.dropped),
        "keyframe_method": job.selection.method,
        "references": job.references,
        "guidance_scale": job.settings.guidance_scale,
        "chunk_frames": job.settings.chunk_frames,
        "tile": job.settings.tile,
        "memory_bytes": job.memory_bytes,
        "notes": list(job.notes),
    }


def event_schema() -> Event:
    """The JSON Schema (draft 2020-12) of all events."""
    text = resources.files("sparkvsr.inference").joinpath("events.schema.json").read_text(encoding="utf-8")
    schema: Event = json.loads(text)
    return schema
