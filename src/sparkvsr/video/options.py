"""What to encode to: codecs, containers, pixel formats, and the checks that need no frame."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import av

from sparkvsr.errors import EncodeError, OutputExistsError

from .images import WRITABLE_IMAGE_SUFFIXES, is_pattern, numbered_name
from .info import VideoInfo
from .pixels import has_alpha_format

Codec = Literal["h264", "hevc", "av1", "ffv1", "prores"]


@dataclass(frozen=True)
class EncodeOptions:
    """How to encode the picture."""

    codec: Codec = "h264"
    crf: int | None = None
    """Quality: lower is better and larger. Default 16 for h264, 18 for hevc, 24 for av1; ffv1 (lossless) and prores
    (a fixed quality) take none."""
    preset: str | None = None
    """Speed against size. Default veryfast for h264 (10 ms for a 1280x720 frame on one core), fast for hevc, 8 for
    av1."""
    pixel_format: str | None = None
    """FFmpeg name; None keeps the bit depth and chroma subsampling of the source where the codec can."""
    copy_streams: bool = True
    """Copy sound, subtitles, chapters, attachments and metadata of the source."""


@dataclass(frozen=True)
class CodecSpec:
    """What is known about one codec."""

    encoder: str
    containers: tuple[str, ...]
    crf: int | None
    preset: str | None
    preset_option: str = "preset"


CODECS: dict[str, CodecSpec] = {
    "h264": CodecSpec("libx264", (".mp4", ".m4v", ".mov", ".mkv", ".ts"), 16, "veryfast"),
    "hevc": CodecSpec("libx265", (".mp4", ".m4v", ".mov", ".mkv", ".ts"), 18, "fast"),
    "av1": CodecSpec("libsvtav1", (".mp4", ".mkv", ".webm"), 24, "8"),
    "ffv1": CodecSpec("ffv1", (".mkv",), None, None),
    "prores": CodecSpec("prores_ks", (".mov", ".mkv"), None, None),
}
MUXERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".ts": "mpegts",
}
MAX_NAME_BYTES = 255
"""Longest file name of all usual file systems."""
WRITABLE_VIDEO_SUFFIXES = tuple(sorted({suffix for spec in CODECS.values() for suffix in spec.containers}))


def output_kind(path: str | Path) -> Literal["video", "sequence", "image"]:
    """Tell what an output name asks for, without touching the disk.

    A trailing slash, a folder that exists or a name without a suffix is a folder of PNG files; ``%05d.png`` is a
    pattern; an image suffix is one image; everything else is a video.
    """
    text = os.fspath(path)
    path = Path(path)
    if text.endswith(("/", os.sep)) or path.is_dir() or not path.suffix:
        return "sequence"
    if is_pattern(path):
        return "sequence"
    if path.suffix.lower() in WRITABLE_IMAGE_SUFFIXES:
        return "image"
    return "video"


def check_output(
    path: str | Path, overwrite: bool = False, options: EncodeOptions | None = None, *, codec: str | None = None
) -> None:
    """Check all that can be checked before any work: the name, the folder, the codec, an existing file.

    Args:
        path: as for `VideoWriter`.
        overwrite: whether an existing output may be replaced.
        options: to check that the container takes the codec, and the codec the options.
        codec: short for ``EncodeOptions(codec=codec)``; not both.

    Raises:
        EncodeError: the output exists, its folder cannot be made or written, the suffix is unknown, or codec and
            container do not go together.
    """
    options = options or EncodeOptions(codec=cast(Codec, codec or "h264"))
    check_name(Path(path))
    kind = output_kind(path)
    path = Path(path)
    check_codec(path, kind, options)
    if kind == "sequence":
        _check_sequence(path, overwrite)
    elif path.exists() and not overwrite:
        msg = f"{path} exists; pass --overwrite to replace it, or give another --output"
        raise OutputExistsError(msg, path)
    _check_folder(path if kind == "sequence" and not is_pattern(path) else path.parent)


def check_name(path: Path) -> None:
    """Refuse a name that no file system takes.

    Raises:
        EncodeError: with the length that is allowed.
    """
    for part in path.parts:
        length = len(os.fsencode(part))
        if length > MAX_NAME_BYTES:
            msg = f"the name {part[:40]}... has {length} bytes, at most {MAX_NAME_BYTES} are allowed; give a shorter -o"
            raise EncodeError(msg)


def check_codec(path: Path, kind: str, options: EncodeOptions) -> None:
    """Refuse a codec, its settings or a suffix that do not go together.

    Args:
        path: the output; only its name is looked at.
        kind: see `output_kind`.
        options: of the encoder.

    Raises:
        EncodeError: with what goes.
    """
    spec = CODECS.get(options.codec)
    if spec is None:
        msg = f"codec {options.codec!r} is unknown; use one of {', '.join(CODECS)}"
        raise EncodeError(msg)
    suffix = path.suffix.lower()
    is_numbered = numbered_name(path.name, 0) != path.name
    writable = (*WRITABLE_IMAGE_SUFFIXES, *(() if is_pattern(path) else WRITABLE_VIDEO_SUFFIXES))
    if is_numbered and suffix not in writable:
        msg = f"{path}: image files of type {path.suffix or '(none)'} are not written; use .png"
        raise EncodeError(msg)
    if kind != "video":
        return
    if suffix not in WRITABLE_VIDEO_SUFFIXES:
        allowed = ", ".join(WRITABLE_VIDEO_SUFFIXES)
        msg = f"{path}: the file type {suffix} is not written; use one of {allowed}, or a folder/"
        raise EncodeError(msg)
    if suffix not in spec.containers:
        fits = " or ".join(name for name, other in CODECS.items() if suffix in other.containers)
        msg = f"{path}: {suffix} does not hold {options.codec}; use --codec {fits}, or {', '.join(spec.containers)}"
        raise EncodeError(msg)
    if options.crf is not None and spec.crf is None:
        msg = f"crf {options.crf} does not apply to {options.codec}, which has one quality; drop --crf"
        raise EncodeError(msg)
    top = 63 if options.codec == "av1" else 51
    if options.crf is not None and not 0 <= options.crf <= top:
        msg = f"crf {options.crf} is outside 0 to {top} for {options.codec}; lower is better, the default is {spec.crf}"
        raise EncodeError(msg)
    if options.pixel_format is not None:
        _check_pixel_format(options.pixel_format, spec, options.codec)


def _check_pixel_format(name: str, spec: CodecSpec, codec: str) -> None:
    formats = [f.name for f in av.codec.Codec(spec.encoder, "w").video_formats or ()]
    if name not in formats:
        shown = ", ".join(f for f in formats if f.startswith(("yuv", "gbr", "gray", "bgr")) and not f.endswith("be"))
        msg = f"pixel format {name!r} is not one that {codec} encodes; use one of {shown}"
        raise EncodeError(msg)


def _check_sequence(path: Path, overwrite: bool) -> None:
    if overwrite:
        return
    if is_pattern(path):
        taken = path.parent.is_dir() and path.with_name(numbered_name(path.name, 0)).exists()
    else:
        taken = path.is_dir() and any(path.glob("*.png"))
    if taken:
        msg = f"{path} already holds images; pass --overwrite to replace them, or give another --output"
        raise OutputExistsError(msg, path)
    if path.is_file():
        msg = f"{path} is a file, not a folder; give another --output"
        raise EncodeError(msg)


def _check_folder(folder: Path) -> None:
    nearest = folder.absolute()
    while not nearest.exists() and nearest != nearest.parent:
        nearest = nearest.parent
    if not nearest.is_dir():
        msg = f"cannot make the folder {folder}: {nearest} is a file; give another --output"
        raise EncodeError(msg)
    if not os.access(nearest, os.W_OK | os.X_OK):
        msg = f"the folder {nearest} may not be written; change its permissions or give another --output"
        raise EncodeError(msg)


def choose_pixel_format(
    options: EncodeOptions, source: VideoInfo | None, size: tuple[int, int]
) -> tuple[str, list[str]]:
    """Choose what the encoder gets: as close to the source as the codec allows.

    Args:
        options: with or without a pixel format.
        source: the clip that is restored; None counts as 8 bit 4:2:0.
        size: ``(H, W)`` of the output; odd sizes cannot be 4:2:0.

    Returns:
        The FFmpeg pixel format, and notes for the user about what it changes.
    """
    notes: list[str] = []
    if options.pixel_format is not None:
        if source is not None and source.has_alpha and not has_alpha_format(options.pixel_format):
            notes.append(f"{options.pixel_format} has no transparency: it is dropped")
        return options.pixel_format, notes
    bits = min(source.bit_depth, 16) if source else 8
    name = source.pixel_format if source else "yuv420p"
    chroma = _chroma_of(name)
    is_rgb = chroma == "rgb"
    wants_alpha = bool(source and source.has_alpha)
    height, width = size
    codec = options.codec
    if codec == "prores":
        if bits > 10:
            notes.append(f"prores is written with 10 bits, the source has {bits}; --codec ffv1 keeps them")
        if wants_alpha:
            return "yuva444p10le", notes
        return ("yuv444p10le" if chroma == "444" or is_rgb else "yuv422p10le"), notes
    if codec == "ffv1":
        if is_rgb:
            deep = "gbrap16le" if wants_alpha else "gbrp16le"
            return (deep if bits > 8 else ("bgra" if wants_alpha else "bgr0")), notes
        depth = "" if bits == 8 else "10le" if bits <= 10 else "12le" if bits <= 12 else "16le"
        return (f"yuva{chroma}p{depth}" if wants_alpha else f"yuv{chroma}p{depth}"), notes
    if wants_alpha:
        notes.append(f"{codec} has no transparency: it is dropped; keep it with --codec prores, ffv1 or images")
    limit = {"h264": 10, "hevc": 12, "av1": 10}[codec]
    if bits > limit:
        notes.append(f"{codec} is written with {limit} bits, the source has {bits}; --codec ffv1 keeps them")
    depth = "" if bits == 8 else "12le" if bits > 10 and limit == 12 else "10le"
    if codec == "av1" and (chroma != "420" or height % 2 or width % 2):
        notes.append("av1 is written as 4:2:0; --codec hevc keeps the source's chroma")
        chroma = "420"
    elif is_rgb:
        chroma = "420"
        if source is not None and source.kind == "video":
            notes.append(f"{codec} is written as 4:2:0, the source is RGB; --codec ffv1 keeps it")
    if codec != "av1" and ((chroma == "420" and (height % 2 or width % 2)) or (chroma == "422" and width % 2)):
        notes.append(
            f"{width}x{height} is odd, so chroma is kept at full resolution (4:4:4), which some players refuse"
        )
        chroma = "444"
    return f"yuv{chroma}p{depth}", notes


def _chroma_of(name: str) -> str:
    """Return ``rgb``, ``444``, ``422`` or ``420`` (grey and the rare coarser layouts count as 420)."""
    pixel_format = av.VideoFormat(name, 64, 64)
    if pixel_format.is_rgb or pixel_format.has_palette:
        return "rgb"
    if len(pixel_format.components) < 3:
        return "420"
    across, down = 64 // pixel_format.chroma_width(64), 64 // pixel_format.chroma_height(64)
    return {(1, 1): "444", (2, 1): "422"}.get((across, down), "420")


def encoder_version() -> str:
    """Text that changes with the libraries that encode: segments of two versions should not be joined."""
    versions = {name: ".".join(map(str, number)) for name, number in av.library_versions.items()}
    return f"av {av.__version__} {versions.get('libavcodec', '')}"
