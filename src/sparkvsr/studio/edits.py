"""What the page may ask for, each a function that gets the clip and plain values; all are checked here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from sparkvsr.errors import ConfigError, KeyframeError
from sparkvsr.keyframes.manifest import MAX_GUIDANCE
from sparkvsr.models.looks import LOOKS
from sparkvsr.studio.clip_session import ClipSession

FIXES = {"align": "aligned", "colours": "colours matched"}
"""What mends an image, and what the mended one is called."""

_IMAGE = re.compile(r"[0-9a-f]{32}")

Values = Mapping[str, Any]


def remove(clip: ClipSession, values: Values) -> None:
    """Take a keyframe away; its images stay to choose from."""
    with clip.lock:
        table, index = clip.history.table, clip.check_index(values.get("index"))
        _entry(table, index)
        del table["keyframes"][str(index)]
        clip.commit(f"remove {index}", table)


def weight(clip: ClipSession, values: Values) -> None:
    """Influence of a keyframe, 0 to 1."""
    value = number(values, "weight", 0.0, 1.0)
    with clip.lock:
        table, index = clip.history.table, clip.check_index(values.get("index"))
        _entry(table, index)["weight"] = round(value, 3)
        clip.commit(f"weight of {index}", table)


def keyframe_guidance(clip: ClipSession, values: Values) -> None:
    """How closely the result follows this keyframe, from 1; None for as closely as all."""
    value = None if values.get("guidance") is None else round(number(values, "guidance", 1.0, MAX_GUIDANCE), 3)
    with clip.lock:
        table, index = clip.history.table, clip.check_index(values.get("index"))
        entry = _entry(table, index)
        entry.pop("guidance", None)
        if value is not None:
            entry["guidance"] = value
        clip.commit(f"guidance of {index}", table)


def enable(clip: ClipSession, values: Values) -> None:
    """Use a keyframe or leave it out."""
    with clip.lock:
        table, index = clip.history.table, clip.check_index(values.get("index"))
        entry = _entry(table, index)
        entry["enabled"] = not entry["enabled"] if values.get("enabled") is None else values["enabled"] is True
        clip.commit(f"{'enable' if entry['enabled'] else 'disable'} {index}", table)


def choose(clip: ClipSession, values: Values) -> None:
    """Another of the images of a keyframe.

    Raises:
        KeyframeError: the image is not one of this keyframe.
    """
    image = image_of(values, "image")
    with clip.lock:
        index = clip.check_index(values.get("index"))
        found = next((one for one in clip.candidates(index) if one["image"] == image), None)
        if found is None:
            msg = f"this image does not belong to frame {index}"
            raise KeyframeError(msg)
        use_image(clip, index, image, str(found["maker"]), f"choose image of {index}", found.get("prompt"))


def guidance(clip: ClipSession, values: Values) -> None:
    """How closely the result follows the keyframes."""
    value = round(number(values, "guidance", 0.0, MAX_GUIDANCE), 3)
    with clip.lock:
        table = clip.history.table
        table["guidance"] = value
        clip.commit(f"guidance {value:g}", table)


def look(clip: ClipSession, values: Values) -> None:
    """The look of the whole result.

    Raises:
        ConfigError: there is none of that name.
    """
    value = values.get("look")
    if value not in LOOKS:
        msg = f"look {str(value)[:20]!r} is unknown; use {' or '.join(LOOKS)}"
        raise ConfigError(msg)
    with clip.lock:
        table = clip.history.table
        table["look"] = value
        clip.commit(f"{value} look", table)


def undo(clip: ClipSession, values: Values) -> None:  # noqa: ARG001
    """One version back.

    Raises:
        ConfigError: this is the first version.
    """
    with clip.lock:
        if clip.history.undo() is None:
            msg = "there is nothing to undo"
            raise ConfigError(msg)
        clip.refresh()


def redo(clip: ClipSession, values: Values) -> None:  # noqa: ARG001
    """One version on.

    Raises:
        ConfigError: this is the last version.
    """
    with clip.lock:
        if clip.history.redo() is None:
            msg = "there is nothing to redo"
            raise ConfigError(msg)
        clip.refresh()


def output_frame(clip: ClipSession, values: Values) -> None:
    """Take the result of a frame as its keyframe, to mend it."""
    index = clip.check_index(values.get("index"))
    image = clip.ask("keep_frame", project=str(clip.project.folder), place=clip.best(index))
    clip.add_candidate(index, image, "output")
    use_image(clip, index, image, "output", f"take output of {index}")


def fix(clip: ClipSession, values: Values) -> None:
    """Mend what the checks found.

    Raises:
        ConfigError: there is no such fix, or no keyframe at this frame.
    """
    index, name = clip.check_index(values.get("index")), str(values.get("fix"))
    if name not in FIXES:
        msg = f"fix {name[:20]!r} is unknown; use {' or '.join(FIXES)}"
        raise ConfigError(msg)
    entry = _entry(clip.history.table, index)
    before = str(clip.project.image_path(entry["image"]))
    image = clip.ask("fix", project=str(clip.project.folder), name=name, frame=clip.source(index), image=before)
    clip.add_candidate(index, image, FIXES[name])
    use_image(clip, index, image, entry.get("maker") or "", f"{name} {index}", entry.get("prompt"))


def upload(clip: ClipSession, index: int, data: bytes) -> None:
    """An image from outside becomes the keyframe of a frame."""
    index = clip.check_index(index)
    image = clip.project.keep_bytes(data, (clip.info["height"], clip.info["width"]))
    clip.add_candidate(index, image, "upload")
    use_image(clip, index, image, "upload", f"upload {index}")


def mask(clip: ClipSession, index: int, data: bytes, over: str, base: str) -> None:
    """Take only the painted part of an image; the rest comes from another one.

    Args:
        data: the mask as an image: white is taken.
        over: the image that is painted from.
        base: ``output``, ``source`` (bicubic), or another image of the keyframe.

    Raises:
        KeyframeError: an image is not one of this keyframe.
    """
    index = clip.check_index(index)
    known = {one["image"] for one in clip.candidates(index)}
    if over not in known or (base not in ("output", "source") and base not in known):
        msg = f"these images do not belong to frame {index}"
        raise KeyframeError(msg)
    name = clip.project.keep_bytes(data)
    clip.project.image_path(over)
    below = _base(clip, index, base)
    image = clip.ask("paint", project=str(clip.project.folder), over=over, base=below, mask=name)
    source = {"over": over, "base": base, "mask": name}
    clip.add_candidate(index, image, "painted", mask=source)
    use_image(clip, index, image, "painted", f"paint {index}", mask=source)


def use_image(
    clip: ClipSession, index: int, image: str, maker: str, label: str, prompt: str | None = None, mask: Any = None
) -> None:
    """Make an image the keyframe of a frame, with the weight that it had."""
    with clip.lock:
        table = clip.history.table
        old = table["keyframes"].get(str(index), {})
        entry = {
            "image": image,
            "weight": old.get("weight", 1.0),
            "enabled": old.get("enabled", True),
            "maker": maker,
        }
        if old.get("guidance") is not None:
            entry["guidance"] = old["guidance"]
        if prompt:
            entry["prompt"] = prompt
        if mask:
            entry["mask"] = mask
        table["keyframes"][str(index)] = entry
        clip.commit(label, table)


EDITS: dict[str, Callable[[ClipSession, Values], None]] = {
    "remove": remove,
    "weight": weight,
    "keyframe_guidance": keyframe_guidance,
    "enable": enable,
    "choose": choose,
    "guidance": guidance,
    "look": look,
    "undo": undo,
    "redo": redo,
    "output_frame": output_frame,
    "fix": fix,
}


def number(values: Values, name: str, low: float, high: float) -> float:
    """A number from the page.

    Raises:
        ConfigError: it is none, or out of range.
    """
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        msg = f"{name} {str(value)[:20]!r} is out of range; use {low:g} to {high:g}"
        raise ConfigError(msg)
    return float(value)


def image_of(values: Values, name: str) -> str:
    """The name of an image from the page.

    Raises:
        ConfigError: it cannot be one.
    """
    value = values.get(name)
    if not isinstance(value, str) or not _IMAGE.fullmatch(value):
        msg = f"{name} is not the name of an image"
        raise ConfigError(msg)
    return value


def _entry(table: dict[str, Any], index: int) -> dict[str, Any]:
    entry: dict[str, Any] | None = table["keyframes"].get(str(index))
    if entry is None:
        msg = f"frame {index} is no keyframe; add it first"
        raise KeyframeError(msg)
    return entry


def _base(clip: ClipSession, index: int, base: str) -> dict[str, Any]:
    if base == "output":
        return clip.best(index)
    if base == "source":
        return {**clip.source(index), "enlarge": True}
    return {"image": str(clip.project.image_path(base))}
