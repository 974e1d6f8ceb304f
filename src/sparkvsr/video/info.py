"""What a clip is: read from its headers and packets, with one frame decoded for what only frames know."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Literal

import av

from sparkvsr.errors import DecodeError

from .border import alpha_decoder, check_size, decoding, main_video_stream, open_input
from .colour_tags import ColourTags, is_known_matrix
from .declared_size import holds_more
from .hdr import HdrMetadata, hdr_metadata
from .images import (
    DEFAULT_SEQUENCE_FPS,
    decode_image,
    image_facts,
    image_tags,
    listed,
    missing_numbers,
    out_of_order,
    resolve_images,
    sequence_numbers,
    sniff_image,
)
from .orientation import display_matrix, rotation_degrees, swaps_sides
from .pixels import frame_bit_depth, has_alpha_format
from .scan import PacketScan, scan_packets
from .side_data import image_side_data, side_data_names
from .time_steps import TimeStep

# Enough for the first frames of an open GOP that a decoder drops, few enough to be quick on a damaged file.
_MAX_PACKETS_TO_FIRST_FRAME = 200
_FRAMES_CHECKED_FOR_FIELDS = 5


@dataclass(frozen=True)
class VideoInfo:
    """A clip before it is decoded."""

    path: Path
    kind: Literal["video", "sequence", "image"]
    width: int
    """Pixels across as displayed (after rotation), before the sample aspect ratio."""
    height: int
    num_frames: int
    num_frames_is_exact: bool
    """False when packets cannot tell: damaged files, and codecs with invisible frames (VP8, MPEG-4 in AVI)."""
    average_fps: Fraction
    duration_seconds: float | None
    codec: str
    pixel_format: str
    bit_depth: int
    """Bits of one sample: 8 to 16."""
    has_alpha: bool
    rotation_degrees: int
    """Clockwise, from stored to displayed: 0, 90, 180 or 270. Pixels are read as displayed."""
    sample_aspect_ratio: Fraction
    """Width of a pixel over its height as displayed; 1 when the file says nothing."""
    color: ColourTags
    is_interlaced: bool | None
    """None when neither the header nor the first frames say."""
    is_vfr: bool
    container: str
    num_audio: int = 0
    num_subtitles: int = 0
    num_chapters: int = 0
    num_attachments: int = 0
    num_other_streams: int = 0
    time_base: Fraction = Fraction(1, 24)
    """Unit of timestamps, in seconds."""
    start_pts: int = 0
    """Time of the first frame, in `time_base` units."""
    files: tuple[Path, ...] = ()
    """The images of a sequence, in order."""
    numbers: tuple[int, ...] = ()
    """The numbers in their names, rising; empty where the names hold none. Outputs of images keep them."""
    hdr: HdrMetadata | None = None
    """Mastering display and light level, when the first frame carries them."""
    stream_index: int = 0
    """Position of the video stream in the container."""
    side_data: frozenset[str] = frozenset()
    """Names of what the first frames carry beside their pixels (FFmpeg's, as ``A53_CC`` for captions)."""
    is_passing: bool = False
    """Whether it came through a pipe: there is no file to look into again."""
    is_center_sited: bool = False
    """Whether chroma samples sit between two luma columns (JPEG, y4m's 420jpeg) instead of on the left one."""
    time_steps: tuple[TimeStep, ...] = ()
    """Where the file's clock was set anew; `start_pts` and all times read are already moved."""
    warnings: tuple[str, ...] = field(default=())
    """What is unusual about the file, in words for the user."""

    @property
    def is_container(self) -> bool:
        """Whether there is a file with streams to look into again: images have none, a pipe is gone."""
        return self.kind == "video" and not self.is_passing

    def summary(self) -> str:
        """Describe the clip in one line."""
        rate = f"{float(self.average_fps):.6g} fps" + (" (variable)" if self.is_vfr else "")
        frames = f"{'' if self.num_frames_is_exact else 'about '}{self.num_frames} frames"
        if self.kind == "image":
            return f"{self.path.name}: {self.width}x{self.height} image, {self.codec}, {self.bit_depth} bit"
        parts = [f"{self.width}x{self.height}", frames, rate, self.codec, f"{self.bit_depth} bit"]
        if self.kind == "video":
            parts.append(str(self.color))
        for count, word in ((self.num_audio, "audio"), (self.num_subtitles, "subtitle")):
            if count:
                parts.append(f"{count} {word} track{'s' if count > 1 else ''}")
        if self.is_interlaced:
            parts.append("interlaced")
        if self.rotation_degrees:
            parts.append(f"rotated {self.rotation_degrees} degrees")
        return f"{self.path.name}: {', '.join(parts)}"


def probe(path: str | Path, stream: int | None = None) -> VideoInfo:
    """Read what a clip is.

    A video's packets are read to the end to count frames and the first frames are decoded for orientation and fields;
    nothing else is decoded.

    Args:
        path: a video file, one image (PNG, JPEG, WebP, TIFF, BMP), a folder of images (natural order) or a printf
            pattern such as ``frames/%05d.png``.
        stream: index of the video stream in the file; None takes the main one (see `border.main_video_stream`).

    Raises:
        DecodeError: missing, unreadable, not a media file, no (such) video stream, no frames, or an absurd frame size.
    """
    return probe_with_scan(Path(path), stream)[0]


def probe_with_scan(path: Path, stream: int | None = None) -> tuple[VideoInfo, PacketScan | None]:
    """Like `probe`, and also return the packet scan of a video (None for images).

    Raises:
        DecodeError: see ``probe``.
    """
    try:
        path.is_dir()
    except OSError as exc:
        msg = f"{str(path)[:60]}... cannot be opened: {(exc.strerror or str(exc)).lower()}; check the path"
        raise DecodeError(msg) from exc
    images = resolve_images(path)
    if images is not None:
        return _probe_images(path, images), None
    scan = scan_packets(path, stream)
    return _probe_video(path, scan, stream), scan


def _probe_images(path: Path, files: list[Path]) -> VideoInfo:
    with decoding(files[0]):
        frame, matrix = decode_image(files[0])
        width, height = (frame.height, frame.width) if swaps_sides(matrix) else (frame.width, frame.height)
        bits, has_alpha = image_facts(frame)
        is_image = path.is_file()
        numbers = () if is_image else sequence_numbers(files)
        warnings = []
        if missing := missing_numbers(numbers):
            shown = listed(missing)
            few = "a number is" if len(missing) == 1 else f"{len(missing)} numbers are"
            warnings.append(f"{few} missing in {path}: {shown}; images keep their numbers, videos close the gap")
        if not is_image and not numbers and (names := out_of_order(files)):
            warnings.append(
                f"the numbers in the names of {path} do not follow each other ({names[0]}, then {names[1]}): all "
                f"{len(files)} images are taken in this order, and outputs are numbered from 0"
            )
        if holds_more(files[0], sniff_image(files[0])):
            warnings.append(f"{files[0].name} holds more than one picture; only the first is read")
        return VideoInfo(
            path=path,
            kind="image" if is_image else "sequence",
            width=width,
            height=height,
            num_frames=len(files),
            num_frames_is_exact=True,
            average_fps=DEFAULT_SEQUENCE_FPS,
            duration_seconds=None if is_image else float(len(files) / DEFAULT_SEQUENCE_FPS),
            codec=files[0].suffix.lower().lstrip("."),
            pixel_format=frame.format.name,
            bit_depth=bits,
            has_alpha=has_alpha,
            rotation_degrees=rotation_degrees(matrix),
            sample_aspect_ratio=Fraction(1),
            color=image_tags(frame),
            is_interlaced=False,
            is_vfr=False,
            container="image" if is_image else "image sequence",
            time_base=1 / DEFAULT_SEQUENCE_FPS,
            files=tuple(files),
            numbers=numbers,
            warnings=tuple(warnings),
            side_data=side_data_names([frame]) | image_side_data(files[0]),
        )


def _probe_video(path: Path, scan: PacketScan, wanted: int | None) -> VideoInfo:
    if scan.num_frames == 0:
        msg = f"{path} has a video stream without frames; it is cut short or was never finished"
        raise DecodeError(msg)
    with decoding(path), open_input(path) as container:
        stream = main_video_stream(container, path, wanted)
        frames = _first_frames(container, stream, path)
        first = frames[0]
        check_size(path, first.width, first.height)
        matrix = display_matrix(first)
        sar = _sample_aspect_ratio(stream)
        width, height = first.width, first.height
        if swaps_sides(matrix):
            width, height, sar = height, width, 1 / sar
        fps = _average_fps(stream, scan)
        counts = {kind: sum(s.type == kind for s in container.streams) for kind in ("audio", "subtitle", "attachment")}
        warnings = [scan.damage] if scan.damage else []
        tags = ColourTags(first.colorspace, first.color_range, first.color_primaries, first.color_trc)
        if not is_known_matrix(tags.matrix):
            warnings.append(f"{path.name} uses the colour matrix of {tags}, which is read as BT.709: colours shift")
        if scan.steps:
            warnings.append(
                f"the clock of {path.name} is set anew {len(scan.steps)} time{'s' * (len(scan.steps) > 1)} (joined "
                "recordings?); picture and sound go on without a gap"
            )
        if first.format.name.startswith("yuvj"):
            tags = ColourTags(tags.matrix, 2, tags.primaries, tags.transfer)
        return VideoInfo(
            path=path,
            kind="video",
            width=width,
            height=height,
            num_frames=scan.num_frames,
            num_frames_is_exact=scan.is_exact,
            average_fps=fps,
            duration_seconds=_span_seconds(scan, fps) if scan.times else float(scan.num_frames / fps),
            codec=stream.codec_context.codec.canonical_name,
            pixel_format=first.format.name,
            bit_depth=min(16, frame_bit_depth(first.format.name)),
            has_alpha=has_alpha_format(first.format.name),
            rotation_degrees=rotation_degrees(matrix),
            sample_aspect_ratio=sar,
            color=tags,
            is_interlaced=_is_interlaced(stream, frames),
            is_vfr=scan.is_vfr,
            container=container.format.name.split(",")[0],
            num_audio=counts["audio"],
            num_subtitles=counts["subtitle"],
            num_chapters=len(container.chapters()),
            num_attachments=counts["attachment"],
            num_other_streams=len(container.streams) - 1 - sum(counts.values()),
            time_base=scan.time_base,
            start_pts=scan.times[0] if scan.times else 0,
            hdr=hdr_metadata(first),
            stream_index=stream.index,
            side_data=side_data_names(frames),
            is_center_sited=_is_center_sited(path, stream, container),
            time_steps=scan.steps,
            warnings=tuple(warnings),
        )


def _first_frames(
    container: av.container.InputContainer, stream: av.video.stream.VideoStream, path: Path
) -> list[av.VideoFrame]:
    frames: list[av.VideoFrame] = []
    error: Exception | None = None
    decoder = alpha_decoder(stream)
    for number, packet in enumerate(container.demux(stream)):
        try:
            frames += packet.decode() if decoder is None else decoder.decode(packet)
        except av.error.FFmpegError as exc:  # a damaged start does not make the rest unreadable
            error = exc
        if len(frames) >= _FRAMES_CHECKED_FOR_FIELDS or number > _MAX_PACKETS_TO_FIRST_FRAME:
            break
    if not frames:
        msg = f"no frame of {path} could be decoded; the file is damaged or its codec is not supported"
        raise DecodeError(msg) from error
    return frames


def _is_center_sited(path: Path, stream: av.video.stream.VideoStream, container: av.container.InputContainer) -> bool:
    if stream.codec_context.codec.canonical_name == "mjpeg":
        return True
    if container.format.name != "yuv4mpegpipe":
        return False
    with path.open("rb") as file:
        words = file.readline(4096).split()
    # Without a word for its layout a stream is 420jpeg (yuv4mpeg(5)).
    layout = next((word for word in words[1:] if word.startswith(b"C")), b"C420jpeg")
    return layout == b"C420jpeg"


def _sample_aspect_ratio(stream: av.video.stream.VideoStream) -> Fraction:
    sar = stream.sample_aspect_ratio
    return Fraction(sar) if sar and sar > 0 else Fraction(1)


def _average_fps(stream: av.video.stream.VideoStream, scan: PacketScan) -> Fraction:
    """Rate as the file declares it; measured when it declares none or a variable rate's header is absurd."""
    declared = stream.average_rate or stream.guessed_rate or stream.base_rate
    if declared and Fraction(1, 100) <= declared <= 1000:
        return _exact_rate(Fraction(declared))
    if len(scan.times) > 1:
        measured = (len(scan.times) - 1) / ((scan.times[-1] - scan.times[0]) * scan.time_base)
        return Fraction(measured).limit_denominator(1001)
    return DEFAULT_SEQUENCE_FPS


def _exact_rate(rate: Fraction) -> Fraction:
    """Undo the rounding of containers: Matroska stores nanoseconds a frame, so 60000/1001 comes back as 19001/317."""
    exact = Fraction(round(rate * 1001 / 1000) * 1000, 1001)
    return exact if abs(exact - rate) <= rate / 1_000_000 else rate


def _span_seconds(scan: PacketScan, fps: Fraction) -> float:
    last = scan.last_duration * scan.time_base or 1 / fps
    return float((scan.times[-1] - scan.times[0]) * scan.time_base + last)


def _is_interlaced(stream: av.video.stream.VideoStream, frames: list[av.VideoFrame]) -> bool | None:
    if any(frame.interlaced_frame for frame in frames):
        return True
    field_order = getattr(stream.codec_context, "field_order", 0)
    if field_order == 1:
        return False
    # 2 to 5 are the four orders of fields; the frames of such a stream are not always flagged (DV, raw video).
    return True if field_order >= 2 else None
