"""What of a source an output keeps, converts or drops: decided in this one place.

The plan, ``--dry-run``, the writers, the end of a run and ``--json`` all say what `losses` gives; the table in
docs/fidelity.md is `KEPT`. Nothing is dropped without a line here.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import av
import av.error
from av.stream import Disposition

from .border import open_input
from .images import DEEP_IMAGE_SUFFIXES
from .info import VideoInfo
from .options import MUXERS, EncodeOptions, choose_pixel_format, output_kind
from .subtitles import subtitle_converter

Action = Literal["copy", "convert", "transcode", "attach", "cover", "drop", "elsewhere"]

COLUMNS = (".mp4, .m4v", ".mov", ".mkv", ".webm", ".ts", "images")
KEPT: dict[str, tuple[str, ...]] = {
    "sound of a kind that the container holds": ("copied", "copied", "copied", "copied", "copied", "dropped"),
    "other sound": ("AAC", "AAC", "FLAC", "Opus", "AAC", "dropped"),
    "text subtitles": ("timed text", "timed text", "copied", "WebVTT only", "dropped", "dropped"),
    "bitmap subtitles": ("DVD only", "DVD only", "copied", "dropped", "DVB, PGS", "dropped"),
    "further video streams": ("copied", "copied", "copied", "VP8, VP9, AV1", "copied", "dropped"),
    "chapters": ("kept", "kept", "kept", "kept", "dropped", "dropped"),
    "attachments": ("dropped", "dropped", "kept", "dropped", "dropped", "dropped"),
    "cover picture": ("kept", "dropped", "kept", "dropped", "dropped", "dropped"),
    "timecode": ("kept", "kept", "as a tag", "as a tag", "dropped", "dropped"),
    "other data streams": ("dropped",) * 6,
    "variable frame rate": ("kept",) * 5 + ("dropped",),
}
"""Per kind of content, what becomes of it in `COLUMNS`; docs/fidelity.md shows it and a test holds every cell."""

LOST_SIDE_DATA = {
    "A53_CC": "closed captions inside the picture's data (CEA-608/708) are dropped; extract them to a subtitle file",
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata is dropped: it describes the source's pixels frame by frame",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata is dropped: it describes the source's pixels frame by frame",
    "DOVI_METADATA": "Dolby Vision metadata is dropped: it describes the source's pixels frame by frame",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata is dropped: it describes the source's pixels frame by frame",
    "ICC_PROFILE": "the embedded colour profile (ICC) is neither applied nor carried",
    "SPHERICAL": "the description of the picture as a sphere (360 degrees) is dropped",
    "STEREO3D": "the description of the picture as stereoscopic (3D) is dropped",
    "S12M_TIMECODE": "the timecode inside the picture's data is dropped",
    "AFD": "the active format description is dropped",
}
"""Side data of decoded frames that no output carries, and the line for it."""

SOUND_TARGETS = {
    ".mp4": ("aac", "AAC"),
    ".m4v": ("aac", "AAC"),
    ".mov": ("aac", "AAC"),
    ".ts": ("aac", "AAC"),
    ".mkv": ("flac", "FLAC"),
    ".webm": ("libopus", "Opus"),
}
"""FFmpeg's encoder, and the name for people, of sound that a container cannot hold as it is."""

# MPEG-TS takes every codec, but what has no number in its tables no reader knows again.
_TS_CODECS = frozenset(
    (
        *("h264", "hevc", "vvc", "mpeg1video", "mpeg2video", "mpeg4", "vc1", "dirac"),
        *("mp2", "mp3", "aac", "aac_latm", "ac3", "eac3", "dts", "truehd", "opus"),
        *("dvb_subtitle", "dvb_teletext", "hdmv_pgs_subtitle"),
    )
)
_PCM_BYTES = 8 * 6720
"""A whole number of samples of any kind, of up to eight channels."""
_COVER_SUFFIXES = (".mp4", ".m4v", ".mkv")
_ALPHA_IMAGES = (".png", ".tif", ".tiff", ".webp")
_HDR_CODECS = ("h264", "hevc", "av1")


@dataclass(frozen=True)
class StreamPlan:
    """What becomes of one stream of the source other than the picture.

    Attributes:
        index: in the source.
        action: ``elsewhere`` means that the output holds its content in another form (chapters, timecode).
        note: what the user should know, None where the stream is copied as it is.
        target: for ``transcode`` FFmpeg's name of the encoder.
    """

    index: int
    action: Action
    note: str | None = None
    target: str | None = None


def losses(
    source: VideoInfo | None,
    path: Path,
    options: EncodeOptions,
    size: tuple[int, int],
    side_data: Collection[str] = (),
) -> list[str]:
    """List what an output does not keep of its source, or keeps in another form.

    Args:
        source: the clip that is restored.
        path: the output: video, folder, pattern or image.
        options: codec, pixel format, and whether other streams are wanted at all.
        size: ``(H, W)`` of the output.
        side_data: names of the frames' side data that reading the clip has shown, beside those in `source`.

    Returns:
        One line each, for the user.

    Raises:
        DecodeError: the source cannot be opened.
    """
    if output_kind(path) != "video":
        return _image_losses(source, path, side_data)
    notes = choose_pixel_format(options, source, size)[1]
    if source is None:
        return notes
    if source.hdr is not None and options.codec not in _HDR_CODECS:
        notes.append(f"HDR10 metadata is dropped: it has no place in {options.codec}; --codec hevc carries it")
    notes += _side_data_notes(source, side_data)
    if source.is_container and options.copy_streams:
        suffix = path.suffix.lower()
        with open_input(source.path) as container:
            notes += [plan.note for plan in plan_streams(container, source.stream_index, suffix) if plan.note]
            notes += _file_losses(container, source.stream_index, suffix)
    return notes


def plan_streams(container: av.container.InputContainer, picture: int, suffix: str) -> list[StreamPlan]:
    """Decide about every stream but the picture.

    Args:
        container: the source, opened.
        picture: index of the stream that is restored.
        suffix: of the output file, lower case.
    """
    return [_plan_stream(stream, container, suffix) for stream in container.streams if stream.index != picture]


def timecode_of(container: av.container.InputContainer, picture: int) -> str | None:
    """The timecode of the first frame as the file has it (``HH:MM:SS:FF``, ``;`` before the frames for drop-frame)."""
    streams = [container.streams[picture], *(s for s in container.streams if s.type == "data")]
    for tags in (container.metadata, *(stream.metadata for stream in streams)):
        for key, value in tags.items():
            if key.lower() == "timecode":
                return str(value)
    return None


def label(stream: av.stream.Stream) -> str:
    """A stream for people: ``audio stream 1 (aac, eng)``."""
    codec = _codec(stream) or stream.name or "unknown"
    language = f", {stream.language}" if stream.language else ""
    return f"{stream.type} stream {stream.index} ({codec}{language})"


def _plan_stream(stream: av.stream.Stream, container: av.container.InputContainer, suffix: str) -> StreamPlan:
    index, name = stream.index, label(stream)
    is_cover = stream.type == "video" and bool(stream.disposition & Disposition.attached_pic)
    if stream.type == "attachment":
        if suffix == ".mkv":
            return StreamPlan(index, "attach")
        return _dropped(index, f"{name} is dropped: {suffix} cannot hold it; write .mkv to keep it")
    if is_cover:
        name = f"cover picture (stream {index})"
        if suffix not in _COVER_SUFFIXES:
            return _dropped(index, f"{name} is dropped: {suffix} cannot hold it; write .mkv or .mp4 to keep it")
        if suffix == ".mkv":
            if _codec(stream) not in ("png", "mjpeg"):
                return _dropped(index, f"{name} is dropped: {suffix} holds covers as PNG or JPEG only")
            return StreamPlan(index, "cover")
    if stream.type == "subtitle":
        converter = subtitle_converter(stream, suffix)
        if converter is not None:
            return StreamPlan(index, "convert", f"{name} is converted to {converter.target}, which {suffix} holds")
    if stream.type not in ("audio", "subtitle", "video"):
        if _is_chapter_track(stream, container) or (_is_timecode_track(stream) and suffix != ".ts"):
            return StreamPlan(index, "elsewhere")
        return _dropped(index, f"{name} is dropped: only sound, subtitles, pictures and attachments are copied")
    if can_hold(stream, suffix):
        return StreamPlan(index, "copy")
    if stream.type == "audio" and suffix in SOUND_TARGETS:
        encoder, word = SOUND_TARGETS[suffix]
        if stream.codec_context is None:
            return _dropped(index, f"{name} is dropped: {suffix} cannot hold it, and there is no decoder for it")
        more = "; .mkv takes it as it is" if suffix != ".mkv" and can_hold(stream, ".mkv") else ""
        return StreamPlan(index, "transcode", f"{name} is transcoded to {word}: {suffix} cannot hold it{more}", encoder)
    if suffix != ".mkv" and can_hold(stream, ".mkv"):
        return _dropped(index, f"{name} is dropped: {suffix} cannot hold it; write .mkv to keep it")
    return _dropped(index, f"{name} is dropped: {suffix} cannot hold it")


def _dropped(index: int, note: str) -> StreamPlan:
    return StreamPlan(index, "drop", note)


def can_hold(stream: av.stream.Stream, suffix: str) -> bool:
    """Try a stream's header in memory: some muxers refuse only then what they say they take (Opus in MOV)."""
    if suffix == ".ts" and _codec(stream) not in _TS_CODECS:
        return False
    trial = av.open(io.BytesIO(), "w", format=MUXERS[suffix])
    try:
        copy = trial.add_stream_from_template(stream, opaque=True)
        trial.start_encoding()
        if _codec(stream).startswith("pcm_"):
            # MP4 refuses channels without names (PCM in AVI and Matroska) only where it writes its index: at the end.
            silence = av.Packet(bytes(_PCM_BYTES))
            silence.stream, silence.pts, silence.dts = copy, 0, 0
            if stream.time_base is not None:
                silence.time_base = stream.time_base
            trial.mux(silence)
            trial.close()
    except (ValueError, av.error.FFmpegError):
        return False
    finally:
        with suppress(ValueError, av.error.FFmpegError):
            trial.close()
    return True


def _file_losses(container: av.container.InputContainer, picture: int, suffix: str) -> list[str]:
    notes = []
    if suffix == ".ts":
        if chapters := container.chapters():
            notes.append(f"{_counted(len(chapters), 'chapter')} dropped: .ts has none; write .mkv or .mp4 to keep them")
        if timecode_of(container, picture) is not None:
            notes.append("the timecode is dropped: .ts has no place for it; write .mov, .mp4 or .mkv to keep it")
    return notes


def _image_losses(source: VideoInfo | None, path: Path, side_data: Collection[str]) -> list[str]:
    if source is None:
        return []
    suffix = path.suffix.lower() if path.suffix and not path.is_dir() else ".png"
    notes = []
    if source.has_alpha and suffix not in _ALPHA_IMAGES:
        notes.append(f"transparency is dropped: {suffix} has none; write .png to keep it")
    if source.bit_depth > 8 and suffix not in DEEP_IMAGE_SUFFIXES:
        notes.append(f"{suffix} is written with 8 bits, the source has {source.bit_depth}; .png keeps them")
    if source.hdr is not None or source.color.transfer in (16, 18):
        notes.append("images are written without the HDR tags of the source")
    if source.is_vfr:
        notes.append("images have no times: the variable frame rate is lost")
    if source.kind == "video" and not source.is_passing:
        with open_input(source.path) as container:
            others = [
                stream
                for stream in container.streams
                if stream.index != source.stream_index
                and not (_is_chapter_track(stream, container) or _is_timecode_track(stream))
            ]
            parts = _kinds(others)
            if chapters := container.chapters():
                parts.append(_counted(len(chapters), "chapter", verb=False))
            if timecode_of(container, source.stream_index) is not None:
                parts.append("the timecode")
        if parts:
            notes.append(f"images hold only the picture; dropped: {', '.join(parts)}")
    return notes + _side_data_notes(source, side_data)


def _kinds(streams: Sequence[av.stream.Stream]) -> list[str]:
    words = {
        "audio": "sound track",
        "subtitle": "subtitle track",
        "attachment": "attachment",
        "data": "data stream",
        "video": "further video stream",
    }
    counts: dict[str, int] = {}
    for stream in streams:
        is_cover = stream.type == "video" and stream.disposition & Disposition.attached_pic
        word = "cover picture" if is_cover else words.get(stream.type, f"{stream.type} stream")
        counts[word] = counts.get(word, 0) + 1
    return [_counted(count, word, verb=False) for word, count in counts.items()]


def _counted(count: int, word: str, *, verb: bool = True) -> str:
    text = f"{count} {word}{'s' if count > 1 else ''}"
    return f"{text} {'are' if count > 1 else 'is'}" if verb else text


def _side_data_notes(source: VideoInfo, side_data: Collection[str]) -> list[str]:
    found = {*source.side_data, *side_data}
    return list(dict.fromkeys(note for name, note in LOST_SIDE_DATA.items() if name in found))


def _codec(stream: av.stream.Stream) -> str:
    return stream.codec_context.codec.canonical_name if stream.codec_context else ""


def _is_chapter_track(stream: av.stream.Stream, container: av.container.InputContainer) -> bool:
    """Whether it is the text track in which MP4 keeps chapter names; chapters are copied as such."""
    is_data = stream.type == "data" and "mp4" in container.format.name
    return is_data and 0 < stream.frames == len(container.chapters())


def _is_timecode_track(stream: av.stream.Stream) -> bool:
    return stream.type == "data" and any(key.lower() == "timecode" for key in stream.metadata)
