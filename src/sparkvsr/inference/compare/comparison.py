"""Two clips against each other: as a side-by-side or wipe video, or as one HTML file to look at frame by frame."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sparkvsr.durable import temporary_path
from sparkvsr.errors import ConfigError, EncodeError
from sparkvsr.hooks import Hook, RateMeter, silent
from sparkvsr.inference.clip.unchanged import Watched
from sparkvsr.inference.compare.captions import GAP_PX, caption, side_by_side
from sparkvsr.inference.compare.page import ComparePage, PagePair, render_page
from sparkvsr.output_lock import OutputLock
from sparkvsr.shapes import ASPECT_TOLERANCE
from sparkvsr.video import EncodeOptions, Frame, VideoInfo, VideoReader, VideoWriter, check_output, probe, read_frames
from sparkvsr.video.frame_size import takes
from sparkvsr.video.images import listed, shared_numbers
from sparkvsr.video.own_files import refuse_source
from sparkvsr.video.pixels import resize_image

HTML_SUFFIXES = (".html", ".htm")
DEFAULT_HTML_FRAMES = 24
MAX_HTML_FRAMES = 200
MAX_HTML_WIDTH = 1920
JPEG_QUALITY = 90
WIPE_SECONDS = 4.0
"""Time of the wipe from one side to the other and back."""

RESIZING = ("bicubic", "nearest")


@dataclass(frozen=True)
class CompareOptions:
    """How to compare.

    Attributes:
        wipe: one picture with a moving line, instead of two beside each other (video only).
        labels: names shown; default the file names.
        resizing: ``bicubic`` or ``nearest``, for the smaller clip.
        start, frames: the part of the clips, in frames.
        html_frames: how many frames an HTML page holds, evenly spread.
        overwrite: replace an existing output.
    """

    wipe: bool = False
    labels: tuple[str, str] | None = None
    resizing: str = "bicubic"
    start: int = 0
    frames: int | None = None
    html_frames: int = DEFAULT_HTML_FRAMES
    overwrite: bool = False


@dataclass(frozen=True)
class _Pair:
    """Both clips, ready to be read. ``places`` are the frames of both that belong together, of the part shown."""

    first: VideoInfo
    second: VideoInfo
    size: tuple[int, int]
    start: int
    stop: int
    places: tuple[Sequence[int], Sequence[int]]
    labels: tuple[str, str]
    notes: list[str]
    watched: Watched


def compare_clips(
    first: Path, second: Path, output: Path, options: CompareOptions | None = None, hook: Hook = silent
) -> dict[str, Any]:
    """Write a comparison of two clips; frames are paired by number.

    Events: ``input`` (twice), ``note``, ``progress``, and ``compared`` (output, width, height, frames, bytes, notes).

    Args:
        output: a video file, or ``.html`` for one self-contained page.

    Returns:
        The ``compared`` event.

    Raises:
        ConfigError: the clips have other aspect ratios, or an option is out of range.
        SparkVSRError: a clip cannot be read, or the output not written.
    """
    options = options or CompareOptions()
    is_page = output.suffix.lower() in HTML_SUFFIXES
    refuse_source(output, [first, second])
    _check_options(options, output, is_page=is_page)
    pair = _prepare(first, second, options, hook)
    for note in pair.notes:
        hook({"event": "note", "text": note})
    write = _write_page if is_page else _write_video
    with OutputLock(output):
        return write(pair, output, options, hook)


def wipe(left: Tensor, right: Tensor, position: float, labels: tuple[str, str]) -> Tensor:
    """One picture: ``left`` up to a line at ``position`` (0 to 1 of the width), ``right`` behind it.

    Args:
        left, right: ``(3, H, W)`` float in [0, 1].
    """
    height, width = left.shape[-2:]
    split = round(position * width)
    out = torch.cat([left[..., :split], right[..., split:]], dim=-1)
    out[..., max(0, split - 1) : split + 1] = 1.0
    for text, at_right in zip(labels, (False, True), strict=True):
        mask = caption(text, height)[:, :height, :width]
        h, w = mask.shape[-2:]
        corner = out[:, height - h :, width - w :] if at_right else out[:, height - h :, :w]
        corner.copy_(corner * 0.4 * (1 - mask) + mask)
    return out


def wipe_position(seconds: float) -> float:
    """Where the line is at a time: it begins in the middle and swings to both sides, slowing down there."""
    return 0.5 - 0.5 * math.sin(2 * math.pi * seconds / WIPE_SECONDS)


def match_size(frame: Tensor, size: tuple[int, int], resizing: str) -> Tensor:
    """``(3, h, w)`` in [0, 1] to ``size``; larger only, as the larger clip decides."""
    if resizing == "nearest" and tuple(frame.shape[-2:]) != size:
        return F.interpolate(frame[None], size=size, mode="nearest-exact")[0]
    return resize_image(frame, size)


def _check_options(options: CompareOptions, output: Path, *, is_page: bool) -> None:
    if options.resizing not in RESIZING:
        msg = f"--resize {options.resizing!r} is unknown; use {' or '.join(RESIZING)}"
        raise ConfigError(msg)
    if not 1 <= options.html_frames <= MAX_HTML_FRAMES:
        msg = f"--html-frames {options.html_frames} is out of range; use 1 to {MAX_HTML_FRAMES}"
        raise ConfigError(msg)
    if options.start < 0 or (options.frames is not None and options.frames < 1):
        msg = f"--start {options.start} with --frames {options.frames} leaves nothing; give 0 or more, and 1 or more"
        raise ConfigError(msg)
    if is_page and options.wipe:
        msg = "--wipe is for videos; an HTML page has a line that you move yourself"
        raise ConfigError(msg)
    if not is_page:
        check_output(output, options.overwrite)
    elif output.exists() and not options.overwrite:
        msg = f"{output} exists; pass --overwrite to replace it, or give another --output"
        raise EncodeError(msg)


def _prepare(first: Path, second: Path, options: CompareOptions, hook: Hook) -> _Pair:
    from sparkvsr.inference.events import input_event

    infos = [probe(first), probe(second)]
    for info in infos:
        hook(input_event(info))
    one, two = infos
    notes: list[str] = []
    if abs((one.width / one.height) / (two.width / two.height) - 1) > ASPECT_TOLERANCE:
        msg = (
            f"{first} is {one.width}x{one.height}, {second} is {two.width}x{two.height}: their aspect ratios differ; "
            f"crop one of them first"
        )
        raise ConfigError(msg)
    larger = max(infos, key=lambda info: info.width * info.height)
    size = (larger.height, larger.width)
    notes += [
        f"{info.path.name} ({info.width}x{info.height}) is scaled up to {size[1]}x{size[0]} ({options.resizing})"
        for info in infos
        if (info.height, info.width) != size
    ]
    places, paired = _places(one, two)
    notes += paired
    shorter = len(places[0])
    if one.average_fps and two.average_fps and abs(one.average_fps - two.average_fps) > 0.01:
        notes.append(
            f"{float(one.average_fps):.6g} against {float(two.average_fps):.6g} fps: frames are paired by number"
        )
    if options.start >= shorter:
        msg = f"--start {options.start} is beyond the clips ({shorter} frames in common)"
        raise ConfigError(msg)
    stop = shorter if options.frames is None else min(shorter, options.start + options.frames)
    labels = options.labels or (first.name, second.name)
    shown = (places[0][options.start : stop], places[1][options.start : stop])
    return _Pair(one, two, size, options.start, stop, shown, labels, notes, Watched(one, two))


def _places(one: VideoInfo, two: VideoInfo) -> tuple[tuple[Sequence[int], Sequence[int]], list[str]]:
    """Which frames of two clips belong together, and what is to be said about it."""
    common = shared_numbers(one.numbers, two.numbers)
    if common is None:
        shorter = min(one.num_frames, two.num_frames)
        frames = f"{one.num_frames} against {two.num_frames} frames: only the first {shorter} are compared"
        return (range(shorter), range(shorter)), [frames] if one.num_frames != two.num_frames else []
    if not common:
        msg = f"{one.path} and {two.path} have no image of the same number; number them alike"
        raise ConfigError(msg)
    wanted = set(common)
    places = [[place for place, number in enumerate(info.numbers) if number in wanted] for info in (one, two)]
    alone = listed(sorted(set(one.numbers) ^ set(two.numbers)))
    return (places[0], places[1]), [
        f"images are paired by their numbers; in one of the folders only, left out: {alone}"
    ]


def _pairs(pair: _Pair, resizing: str) -> Iterator[tuple[Frame, Tensor, Tensor]]:
    with ExitStack() as stack:
        streams = []
        for info, places in zip((pair.first, pair.second), pair.places, strict=True):
            reader = stack.enter_context(VideoReader(info.path, start=places[0], frames=places[-1] - places[0] + 1))
            streams.append(_only(stack.enter_context(closing(iter(reader))), frozenset(places)))
        for one, two in zip(*streams, strict=False):
            yield one, match_size(one.pixels, pair.size, resizing), match_size(two.pixels, pair.size, resizing)


def _only(frames: Iterable[Frame], places: frozenset[int]) -> Iterator[Frame]:
    return (frame for frame in frames if frame.index in places)


def _write_video(pair: _Pair, output: Path, options: CompareOptions, hook: Hook) -> dict[str, Any]:
    height, width = pair.size
    size = pair.size if options.wipe else (height, 2 * width + GAP_PX)
    if not takes(EncodeOptions(), pair.first, size):
        other = ".html" if options.wipe else "--wipe or .html"
        msg = f"{output}: h264 cannot encode frames of {size[1]}x{size[0]}; use {other}"
        raise EncodeError(msg)
    count = pair.stop - pair.start
    meter = RateMeter(count)
    rate = float(pair.first.average_fps or 24)
    with VideoWriter(
        output,
        source=pair.first,
        size=size,
        options=EncodeOptions(),
        overwrite=options.overwrite,
        clip_range=(pair.start, count),
    ) as writer:
        for done, (frame, left, right) in enumerate(_pairs(pair, options.resizing), start=1):
            if options.wipe:
                picture = wipe(left, right, wipe_position((done - 1) / rate), pair.labels)
            else:
                picture = side_by_side(left, right, *pair.labels)
            writer.write(picture, frame.pts, frame.duration)
            hook(meter.update(done))
        pair.watched.check()
    return _done(hook, output, size, writer.num_frames, [*pair.notes, *writer.notes])


def _write_page(pair: _Pair, output: Path, options: CompareOptions, hook: Hook) -> dict[str, Any]:
    count = min(options.html_frames, pair.stop - pair.start)
    span = pair.stop - pair.start - 1
    indices = sorted({pair.start + (round(k * span / (count - 1)) if count > 1 else 0) for k in range(count)})
    notes = list(pair.notes)
    if len(indices) < span + 1:
        notes.append(f"the page holds {len(indices)} of {span + 1} frames, evenly spread")
    factor = min(1.0, MAX_HTML_WIDTH / pair.size[1])
    size = (max(1, round(pair.size[0] * factor)), max(1, round(pair.size[1] * factor)))
    if factor < 1:
        notes.append(f"pictures are reduced to {size[1]}x{size[0]} for the page")
    meter = RateMeter(len(indices))
    rate = float(pair.first.average_fps or 24)
    pictures = []
    for done, index in enumerate(indices, start=1):
        uris = []
        for info, places in zip((pair.first, pair.second), pair.places, strict=True):
            place = places[index - pair.start]
            frame = match_size(read_frames(info.path, [place])[place], pair.size, options.resizing)
            uris.append(jpeg_uri(frame if factor == 1 else _smaller(frame, size)))
        pictures.append(PagePair(index, index / rate, uris[0], uris[1]))
        hook(meter.update(done))
    pair.watched.check()
    page = render_page(ComparePage(pair.labels, size, pictures, notes))
    _write_text(output, page)
    return _done(hook, output, size, len(indices), notes)


def _smaller(frame: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(frame[None], size=size, mode="bicubic", antialias=True, align_corners=False)[0].clamp(0, 1)


def jpeg_uri(frame: Tensor) -> str:
    """``(3, h, w)`` in [0, 1] as a ``data:`` address.

    Raises:
        EncodeError: too large for JPEG.
    """
    array = frame.mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
    bgr = np.ascontiguousarray(array[..., ::-1])
    fits, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
    if not fits:
        msg = f"a frame of {frame.shape[-1]}x{frame.shape[-2]} cannot be written as JPEG; compare as a video instead"
        raise EncodeError(msg)
    return "data:image/jpeg;base64," + base64.b64encode(data.tobytes()).decode()


def _write_text(output: Path, text: str) -> None:
    temporary = temporary_path(output, "partial")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        # Names of files may hold bytes that are no text.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace")
        temporary.replace(output)
    except OSError as exc:
        with suppress(OSError):
            temporary.unlink()
        msg = f"{output} cannot be written ({exc.strerror}); check the folder's permissions and the disk"
        raise EncodeError(msg) from exc


def _done(hook: Hook, output: Path, size: tuple[int, int], frames: int, notes: list[str]) -> dict[str, Any]:
    event = {
        "event": "compared",
        "output": str(output),
        "width": size[1],
        "height": size[0],
        "frames": frames,
        "bytes": output.stat().st_size if output.is_file() else None,
        "notes": notes,
    }
    hook(event)
    return event
