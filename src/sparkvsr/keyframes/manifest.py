"""`keyframes.json`: what lies beside the images of a reference folder, and which clip they were made for.

People edit this file by hand and get it from others, so nothing in it is trusted.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparkvsr.errors import DecodeError, KeyframeError
from sparkvsr.keyframes.frame_names import MAX_INDEX

if TYPE_CHECKING:
    from sparkvsr.video import VideoReader

MANIFEST_NAME = "keyframes.json"
LR_FOLDER = "lr"
SHEET_NAME = "contact_sheet.png"

FORMAT, VERSION = "sparkvsr-keyframes", 1
MAX_BYTES = 16 * 2**20

MAX_GUIDANCE = 10.0
"""Of a clip and of a single keyframe."""

FINGERPRINT_CELLS = 8
"""Rows and columns of the thumbnails in a fingerprint."""

FINGERPRINT_TOLERANCE = 3
"""Largest difference of a thumbnail cell, in codes of 255: another decoder or a gentle re-encode stays below, two
takes of one scene do not."""


@dataclass(frozen=True)
class KeyframeEntry:
    """One keyframe of a manifest.

    Attributes:
        index: frame of the clip.
        time_seconds: when it is shown, from the clip's first frame.
        shot: number of the shot it lies in, from 0.
        maker: what made the image.
        weight: influence, 0 (not used) to 1.
        prompt: words the maker got.
        file: name of the image inside the folder; None for the image named by the index.
        guidance: for this keyframe instead of the render's, 1 (plain) to 10; None for the render's.
    """

    index: int
    time_seconds: float | None = None
    shot: int | None = None
    maker: str | None = None
    weight: float = 1.0
    prompt: str | None = None
    file: str | None = None
    guidance: float | None = None


@dataclass(frozen=True)
class Manifest:
    """The contents of ``keyframes.json``.

    Attributes:
        keyframes: rising indices.
        fingerprint: of the clip, see ``clip_fingerprint``; None when unknown.
        clip_name: file name of the clip, to tell the user.
        num_frames: of the clip.
    """

    keyframes: tuple[KeyframeEntry, ...]
    fingerprint: str | None = None
    clip_name: str | None = None
    num_frames: int | None = None


def clip_fingerprint(path: str | Path) -> str:
    """What tells a clip from others: size, frames, rate, and coarse thumbnails of its first, middle and last frame.

    Three frames are decoded. It stays the same when the file is renamed, copied, remuxed or tagged. Compare with
    ``is_same_clip``, not ``==``: decoders differ in the last bit. Too coarse to key stored pixels with.

    Raises:
        DecodeError: the clip cannot be read.
    """
    # A list of keyframes is read where no torch is.
    from sparkvsr.video import VideoReader

    return fingerprint_of(VideoReader(path))


def fingerprint_of(reader: VideoReader) -> str:
    """``clip_fingerprint`` of a clip that was opened already (without ``start``): its packets are not read again."""
    import torch.nn.functional as F

    info = reader.info
    rate = info.average_fps or 0
    parts = [f"{info.width}x{info.height}", str(info.num_frames), f"{float(rate):.4f}"]
    for index in sorted({0, info.num_frames // 2, info.num_frames - 1}):
        try:
            frame = reader.at([index])[index]
        except DecodeError:
            parts.append("-")  # damaged there; the other frames still tell
            continue
        grey = frame.mean(0, keepdim=True)[None]
        small = F.adaptive_avg_pool2d(grey, FINGERPRINT_CELLS)[0, 0]
        parts.append(bytes(round(value * 255) for value in small.clamp(0, 1).flatten().tolist()).hex())
    return ":".join(parts)


def is_same_clip(first: str, second: str) -> bool:
    """Whether two fingerprints are of one clip."""
    left, right = first.split(":"), second.split(":")
    if len(left) != len(right) or left[:3] != right[:3]:
        return False
    for a, b in zip(left[3:], right[3:], strict=True):
        if "-" in (a, b):
            continue
        try:
            cells = list(zip(bytes.fromhex(a), bytes.fromhex(b), strict=True))
        except ValueError:
            return False
        if any(abs(x - y) > FINGERPRINT_TOLERANCE for x, y in cells):
            return False
    return True


def write_manifest(folder: Path, manifest: Manifest) -> Path:
    """Write ``keyframes.json`` into a folder.

    Raises:
        KeyframeError: the folder cannot be written.
    """
    entries = []
    for entry in manifest.keyframes:
        item = {
            "index": entry.index,
            "time": entry.time_seconds,
            "shot": entry.shot,
            "file": entry.file,
            "maker": entry.maker,
            "weight": entry.weight,
            "guidance": entry.guidance,
            "prompt": entry.prompt,
        }
        entries.append({name: value for name, value in item.items() if value is not None})
    clip = {"name": manifest.clip_name, "frames": manifest.num_frames, "fingerprint": manifest.fingerprint}
    content = {
        "format": FORMAT,
        "version": VERSION,
        "clip": {name: value for name, value in clip.items() if value is not None},
        "keyframes": entries,
    }
    path = folder / MANIFEST_NAME
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    if not _is_utf8(text):  # file names may hold bytes that are no text
        text = json.dumps(content, indent=1) + "\n"
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as exc:
        msg = f"{path} cannot be written ({exc.strerror}); check the folder's permissions and the disk"
        raise KeyframeError(msg) from exc
    return path


def _is_utf8(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def read_manifest(folder: Path) -> Manifest | None:
    """Read ``keyframes.json``; None when the folder has none.

    Raises:
        KeyframeError: not JSON, of another format, or with a value that is out of range.
    """
    path = folder / MANIFEST_NAME
    if not path.exists():
        return None
    if not path.is_file():
        # A pipe or a device, also behind a link, would never end.
        msg = f"{path} is not a file; remove it"
        raise KeyframeError(msg)
    try:
        if path.stat().st_size > MAX_BYTES:
            msg = f"{path} has more than {MAX_BYTES // 2**20} MB; that is no keyframes.json, remove it"
            raise KeyframeError(msg)
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as exc:
        msg = f"{path} is not readable JSON ({exc}); correct it, or remove it to use the images by their names"
        raise KeyframeError(msg) from exc
    if not isinstance(content, dict) or content.get("format", FORMAT) != FORMAT:
        msg = f'{path} is not a keyframe list: "format" has to be "{FORMAT}"; remove it to use the images alone'
        raise KeyframeError(msg)
    if content.get("version", VERSION) != VERSION:
        msg = f"{path} has version {_shown(content['version'])}, this sparkvsr reads {VERSION}; make it again"
        raise KeyframeError(msg)
    items = content.get("keyframes")
    if not isinstance(items, list):
        msg = f'{path}: "keyframes" has to be a list like [{{"index": 0, "weight": 1.0}}], it is {_shown(items)}'
        raise KeyframeError(msg)
    entries = [_entry(item, f"{path}: keyframe {number}") for number, item in enumerate(items)]
    seen: set[int] = set()
    files: set[str] = set()
    for entry in entries:
        if entry.index in seen:
            msg = f"{path} lists frame {entry.index} twice; keep one"
            raise KeyframeError(msg)
        if entry.file is not None and entry.file in files:
            msg = f"{path} gives the image {entry.file} to two frames; each frame needs its own"
            raise KeyframeError(msg)
        seen.add(entry.index)
        files |= {entry.file} if entry.file is not None else set()
    clip = content.get("clip", {})
    if not isinstance(clip, dict):
        msg = f'{path}: "clip" has to be an object, it is {_shown(clip)}'
        raise KeyframeError(msg)
    return Manifest(
        keyframes=tuple(sorted(entries, key=lambda entry: entry.index)),
        fingerprint=_text(clip, "fingerprint", str(path)),
        clip_name=_text(clip, "name", str(path)),
        num_frames=_whole(clip, "frames", str(path)),
    )


def _entry(item: Any, where: str) -> KeyframeEntry:
    if not isinstance(item, dict):
        msg = f'{where} has to be an object like {{"index": 0}}, it is {_shown(item)}'
        raise KeyframeError(msg)
    index = _whole(item, "index", where)
    if index is None:
        msg = f'{where} has no "index"; give the frame number'
        raise KeyframeError(msg)
    weight = item.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight <= 1:
        msg = f'{where}: "weight" {_shown(weight)} is not a number from 0 (not used) to 1'
        raise KeyframeError(msg)
    guidance = item.get("guidance")
    is_guidance = isinstance(guidance, int | float) and not isinstance(guidance, bool)
    if guidance is not None and not (is_guidance and 1 <= guidance <= MAX_GUIDANCE):
        msg = (
            f'{where}: "guidance" {_shown(guidance)} is not a number from 1 (plain) to {MAX_GUIDANCE:g}; for less '
            'influence lower "weight"'
        )
        raise KeyframeError(msg)
    time = item.get("time")
    is_number = isinstance(time, int | float) and not isinstance(time, bool)
    if time is not None and not (is_number and abs(time) < MAX_INDEX and math.isfinite(time)):
        msg = f'{where}: "time" {_shown(time)} is not a number of seconds'
        raise KeyframeError(msg)
    file = _text(item, "file", where)
    # Only names inside the folder: a list from somebody else must not open any other file.
    if file is not None and (not file or file.startswith(".") or re.search(r"[/\\:\x00]", file)):
        msg = f'{where}: "file" {_shown(file)} is not the plain name of an image in this folder'
        raise KeyframeError(msg)
    return KeyframeEntry(
        index=index,
        time_seconds=None if time is None else float(time),
        shot=_whole(item, "shot", where),
        maker=_text(item, "maker", where),
        weight=float(weight),
        guidance=None if guidance is None else float(guidance),
        prompt=_text(item, "prompt", where),
        file=file,
    )


def _whole(item: dict[str, Any], name: str, where: str) -> int | None:
    value = item.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_INDEX:
        msg = f'{where}: "{name}" {_shown(value)} is not a whole number from 0 to {MAX_INDEX}'
        raise KeyframeError(msg)
    return value


def _text(item: dict[str, Any], name: str, where: str) -> str | None:
    value = item.get(name)
    if value is not None and not isinstance(value, str):
        msg = f'{where}: "{name}" {_shown(value)} is not text'
        raise KeyframeError(msg)
    return value


def _shown(value: Any) -> str:
    """A value for a message: short, whatever it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 64:
        return f"of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
