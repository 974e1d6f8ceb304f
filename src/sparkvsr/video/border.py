"""The border to FFmpeg: how files are opened, what is refused, and how its exceptions become ours."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import cast

import av
import av.codec
import av.error
import av.logging

from sparkvsr.errors import DecodeError, EncodeError

from .declared_size import check_plausible, declared_size

MAX_SIDE_PX = 16384
"""Longest side that is read: larger than any camera or format delivers."""
MAX_GIF_PX = 2**25
"""Most pixels in one frame of a GIF, whose palette is for small pictures."""
MAX_FRAME_PX = 2**28
"""Most pixels in one frame (16384 x 16384): 3.2 GB as float RGB."""

# Containers that hold media themselves. Playlists (hls, dash, concat, image2) are absent on purpose: a hostile one
# makes FFmpeg read other files or the network.
_DEMUXERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,av1,obu,ivf,flv,live_flv,asf,ogg,"
    "mxf,nut,yuv4mpegpipe,gif,apng,dv,rm,mjpeg,vc1,wtv,swf,dnxhd,h263,h261,vvc,webp_anim,gxf,lxf,dirac,cavsvideo,pva,nsv,nuv,ty,wav,mp3,aac,flac,ac3,eac3,"
    "dts,w64,aiff,caf,amr"
)
_PACKETS_LOOKED_AT = 300
_STILL = av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
_OPEN_OPTIONS = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS}
DECODER_OPTIONS = {"max_pixels": str(MAX_FRAME_PX)}

# What else FFmpeg's bindings raise for damaged input besides FFmpegError.
_FOREIGN = (
    av.error.FFmpegError,
    ValueError,
    IndexError,
    ZeroDivisionError,
    OverflowError,
    MemoryError,
    RuntimeError,
    OSError,
)

# FFmpeg writes its complaints to stderr by default; a library stays silent and reports through exceptions and warnings.
av.logging.set_level(None)


@contextmanager
def decoding(path: Path, doing: str = "read") -> Iterator[None]:
    """Turn whatever FFmpeg raises inside into `DecodeError` with the file's name."""
    try:
        yield
    except DecodeError:
        raise
    except FileNotFoundError as exc:
        msg = f"{path} does not exist; check the path"
        raise DecodeError(msg) from exc
    except PermissionError as exc:
        msg = f"{path} may not be read (permission denied); change its permissions"
        raise DecodeError(msg) from exc
    except (av.error.InvalidDataError, av.error.EOFError) as exc:
        msg = f"cannot {doing} {path}: it is not a video or image file, or it is damaged or cut short ({exc.strerror})"
        raise DecodeError(msg) from exc
    except _FOREIGN as exc:
        reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
        if getattr(exc, "errno", None) == errno.EBUSY and path.is_file():
            reason = "it declares frames that are too large"  # FFmpeg's y4m reader adds 6 to the error number
        if doing == "open" and isinstance(exc, av.error.ArgumentError):
            reason = "files of its kind are not read"  # what lies outside `_DEMUXERS`
        msg = f"cannot {doing} {path}: {reason}; check that it plays, or convert it with ffmpeg first"
        raise DecodeError(msg) from exc


@contextmanager
def encoding(path: Path, doing: str = "write") -> Iterator[None]:
    """Turn whatever FFmpeg or the disk raises inside into `EncodeError` with the file's name."""
    try:
        yield
    except (EncodeError, DecodeError):
        raise
    except _FOREIGN as exc:
        raise encode_error(path, exc, doing) from exc


def encode_error(path: Path, exc: BaseException, doing: str = "write") -> EncodeError:
    """Make the one-line `EncodeError` for a foreign exception while writing `path`."""
    code = getattr(exc, "errno", None)
    if code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return EncodeError(
            f"cannot {doing} {path}: the disk of {path.parent} is full; free some space or give another --output"
        )
    if code in (errno.EACCES, errno.EPERM, errno.EROFS):
        return EncodeError(f"cannot {doing} {path}: the folder {path.parent} may not be written; give another --output")
    reason = getattr(exc, "strerror", None) or str(exc) or type(exc).__name__
    return EncodeError(f"cannot {doing} {path}: {reason}; try another --codec or container")


def open_input(path: Path) -> av.container.InputContainer:
    """Open a media file for reading, local containers only.

    The path is made absolute so that FFmpeg cannot take a name like ``movie: part 1.mkv`` for a protocol.

    Raises:
        DecodeError: missing, not a media file, or refused.
    """
    with decoding(path, "open"):
        is_pipe = path.exists() and not (path.is_dir() or path.is_file())
        if is_pipe or (str(path) == "-" and not path.exists()):
            msg = f"{path} is a pipe or a device, and a clip is read more than once; save it to a file first"
            raise DecodeError(msg)
        if not path.exists():
            msg = f"{path} does not exist; check the path"
            raise DecodeError(msg)
        if path.is_dir():
            msg = f"{path} is a folder; name a video file inside it"
            raise DecodeError(msg)
        if path.stat().st_size == 0:
            msg = f"{path} is empty (0 bytes); copy or download it again"
            raise DecodeError(msg)
        _check_declared(path)
        return av.open(
            os.fspath(path.absolute()),
            "r",
            options=dict(_OPEN_OPTIONS),
            metadata_errors="replace",
        )


def _check_declared(path: Path) -> None:
    """FFmpeg draws whole pictures of GIF and PNG only to find out what they are; a few bytes may declare any size."""
    with path.open("rb") as file:
        start = file.read(33)
    if start[:8] == b"\x89PNG\r\n\x1a\n" and (declared := declared_size(start, "png")) is not None:
        check_plausible(path, start, "png", declared)
    if start[:3] != b"GIF" or len(start) < 10:
        return
    width, height = int.from_bytes(start[6:8], "little"), int.from_bytes(start[8:10], "little")
    if width * height > MAX_GIF_PX:
        msg = f"{path} declares a GIF of {width}x{height}; at most {MAX_GIF_PX / 1e6:.0f} million pixels are read"
        raise DecodeError(msg)


def main_video_stream(
    container: av.container.InputContainer, path: Path, wanted: int | None = None
) -> av.video.stream.VideoStream:
    """Pick the stream to restore.

    Cover pictures and stills are passed over; of the others one that is flagged as default comes before one that is
    not, but a stream that is less than half as long as another is not the film.

    Args:
        container: the opened file.
        path: its name, for errors.
        wanted: index of the stream in the file, as ffprobe counts; None chooses.

    Raises:
        DecodeError: no video stream, no decoder for it, or a frame size beyond the limits.
    """
    streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
    if not streams:
        found = ", ".join(sorted({_kind(s) for s in container.streams})) or "nothing"
        msg = f"{path} has no video stream (found: {found}); give a video file"
        raise DecodeError(msg)
    if wanted is not None:
        streams = [s for s in container.streams.video if s.index == wanted]
        if not streams:
            known = ", ".join(str(s.index) for s in container.streams.video)
            msg = f"--stream {wanted} is not a video stream of {path}; its video streams are {known}"
            raise DecodeError(msg)
    elif len(streams) > 1:
        stills = {s.index for s in streams if s.frames == 1} | _single_pictures(path, [s.index for s in streams])
        seconds = {s.index: _stream_seconds(s) for s in streams}
        longest = max((value for value in seconds.values() if value is not None), default=0.0)

        def rank(s: av.video.stream.VideoStream) -> tuple[bool, bool, bool]:
            length = seconds[s.index]
            is_short = length is not None and length < longest / 2
            return (
                s.index in stills or bool(s.disposition & _STILL),
                is_short,
                not s.disposition & av.stream.Disposition.default,
            )

        streams.sort(key=rank)
    stream = streams[0]
    if stream.codec_context is None:
        msg = f"{path}: no decoder for its video stream; convert it with ffmpeg first"
        raise DecodeError(msg)
    check_size(path, stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.options = {**stream.codec_context.options, **DECODER_OPTIONS}
    # Else FFmpeg moves the left edge of a cropped picture to where memory is aligned, and shows what was cut off.
    stream.codec_context.flags |= av.codec.context.Flags.unaligned
    return stream


def _stream_seconds(stream: av.video.stream.VideoStream) -> float | None:
    """Length of a stream as its header or Matroska's tag tells it."""
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    for key, value in stream.metadata.items():
        if key.upper().startswith("DURATION"):
            parts = value.split(":")
            with suppress(ValueError):
                return sum(float(part) * 60**k for k, part in enumerate(reversed(parts)))
    return None


def _single_pictures(path: Path, indices: Sequence[int]) -> set[int]:
    """Streams that have given one packet at most when the others have given many: pictures kept as a video."""
    counts = dict.fromkeys(indices, 0)
    with decoding(path), open_input(path) as container:
        for packet in container.demux([container.streams[index] for index in indices]):
            if packet.size:  # the empty ones at the end carry no stream of their own
                counts[packet.stream_index] += 1
            if sum(counts.values()) >= _PACKETS_LOOKED_AT:
                break
    return {index for index, count in counts.items() if count <= 1} if max(counts.values()) > 2 else set()


def alpha_decoder(stream: av.video.stream.VideoStream) -> av.VideoCodecContext | None:
    """A decoder for WebM's transparency, None where the stream has none.

    VP8 and VP9 keep it as a second picture beside each packet, which FFmpeg's own decoders pass over; libvpx reads it.
    """
    name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}.get(stream.codec_context.codec.canonical_name)
    if name is None or stream.metadata.get("alpha_mode") != "1" or name not in av.codec.codecs_available:
        return None
    decoder = cast(av.VideoCodecContext, av.CodecContext.create(name, "r"))
    decoder.options = dict(DECODER_OPTIONS)
    return decoder


def _kind(stream: av.stream.Stream) -> str:
    return "cover picture" if stream.type == "video" else stream.type


def check_size(path: Path, width: int, height: int) -> None:
    """Refuse sizes that no real clip has, before memory is taken for them.

    Raises:
        DecodeError: a side is 0 or beyond `MAX_SIDE_PX`, or the frame beyond `MAX_FRAME_PX`.
    """
    if width < 1 or height < 1:
        msg = f"{path} declares a frame size of {width}x{height}; the file is damaged or has no picture"
        raise DecodeError(msg)
    if width > MAX_SIDE_PX or height > MAX_SIDE_PX or width * height > MAX_FRAME_PX:
        msg = f"{path} declares a frame size of {width}x{height}; at most {MAX_SIDE_PX} px a side are read"
        raise DecodeError(msg)
