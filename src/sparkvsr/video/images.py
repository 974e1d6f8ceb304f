"""Still images and image sequences: finding, decoding and writing them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import cast

import av
import numpy as np
from torch import Tensor

from sparkvsr.errors import DecodeError
from sparkvsr.suffixes import IMAGE_SUFFIXES

from .border import DECODER_OPTIONS, MAX_FRAME_PX, check_size, decoding
from .colour_tags import UNSPECIFIED, ColourTags
from .declared_size import check_memory, check_plausible, declared_size
from .exif import exif_orientation
from .orientation import DisplayMatrix, as_displayed
from .pixels import frame_bit_depth, frame_to_pixels, has_alpha_format, pixels_to_frame, to_float

DEFAULT_SEQUENCE_FPS = Fraction(24)
MAX_IMAGE_BYTES = 2**30
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"\xff\xd8\xff", "mjpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"BM", "bmp"),
)
_WEBP_ANIMATION = 0x02
_PRINTF = re.compile(r"%(0?\d*)d")


def natural_key(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that puts ``frame_2`` before ``frame_10``."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def is_pattern(path: Path) -> bool:
    """Whether the name is a printf pattern of images such as ``%05d.png``; in other names ``%d`` is only text."""
    is_image = path.suffix.lower() in IMAGE_SUFFIXES
    return is_image and bool(_PRINTF.search(path.name)) and not path.exists()


def numbered_name(pattern: str, number: int) -> str:
    """Name of one image of a pattern: ``%05d.png`` and 48 to ``00048.png``; other per cent signs stay."""
    return _PRINTF.sub(lambda match: match.group() % number, pattern, count=1)


def pattern_number(pattern: str, name: str) -> int | None:
    """Number of a file name that a pattern stands for, None for other names."""
    match = _PRINTF.search(pattern)
    if match is None:
        return None
    digits = match.group(1).lstrip("0") or "0"
    number = rf"(\d{{{digits},}})" if match.group(1).startswith("0") and digits != "0" else r"(\d+)"
    found = re.fullmatch(re.escape(pattern[: match.start()]) + number + re.escape(pattern[match.end() :]), name)
    return int(found.group(1)) if found else None


def sequence_numbers(files: Sequence[Path]) -> tuple[int, ...]:
    """The numbers in the names of a sequence's images: the last run of digits, where all else is the same.

    Returns:
        Rising numbers, or nothing where the names hold none that tell the images apart.
    """
    found = [re.fullmatch(r"(.*?)(\d+)(\D*)", file.stem) for file in files]
    if len({(match.group(1), match.group(3)) for match in found if match}) != 1 or None in found:
        return ()
    numbers = tuple(int(match.group(2)) for match in found if match)
    return numbers if all(a < b for a, b in pairwise(numbers)) else ()


def out_of_order(files: Sequence[Path]) -> tuple[str, str] | None:
    """The first two neighbours of a sequence whose names hold numbers that do not follow each other.

    Returns:
        Two names, such as ``a_009.png`` and ``b_000.png``, or ``1.jpg`` and ``1.png``; None where names hold none.
    """
    if not all(re.search(r"\d", file.stem) for file in files):
        return None
    pairs = ((one, other) for one, other in pairwise(files) if not sequence_numbers((one, other)))
    return next(((one.name, other.name) for one, other in pairs), None)


def shared_numbers(ours: Sequence[int], theirs: Sequence[int]) -> list[int] | None:
    """Which images of two sequences belong together by their numbers, as `sequence_numbers` gives them.

    Returns:
        The numbers that both have, rising; None where images are taken in order: without numbers, with the same ones,
        or without gaps where one sequence only is longer or begins at another number.
    """
    if not ours or not theirs or tuple(ours) == tuple(theirs):
        return None
    is_whole = all(numbers[-1] - numbers[0] + 1 == len(numbers) for numbers in (ours, theirs))
    if is_whole and (ours[0] == theirs[0] or len(ours) == len(theirs)):
        return None
    return sorted(set(ours) & set(theirs))


def listed(numbers: Sequence[int]) -> str:
    """The first eight of some numbers, for a line about them."""
    return ", ".join(map(str, numbers[:8])) + (", ..." if len(numbers) > 8 else "")


def missing_numbers(numbers: Sequence[int]) -> list[int]:
    """Numbers between the first and the last that no image has, at most a thousand."""
    gaps = (number for a, b in pairwise(numbers) for number in range(a + 1, b))
    return list(islice(gaps, 1000))


def resolve_images(path: Path) -> list[Path] | None:
    """Find the image files that `path` stands for.

    Args:
        path: a folder, a printf pattern, an image file, or something else.

    Returns:
        The files in natural order (a folder's hidden files and other types are passed over), or None when `path` is
        not about images, which means that it is a video file or missing.

    Raises:
        DecodeError: a folder or a pattern without a single image.
    """
    if path.is_dir():
        files = [p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]
        if not files:
            msg = f"{path} holds no images; a folder is read as a sequence of {', '.join(IMAGE_SUFFIXES)} files"
            raise DecodeError(msg)
        return sorted((p for p in files if p.is_file()), key=natural_key)
    if is_pattern(path):
        folder = path.parent
        names = folder.iterdir() if folder.is_dir() else iter(())
        files = [file for file in names if pattern_number(path.name, file.name) is not None]
        if not files:
            msg = f"no file matches the pattern {path}; number the images like {numbered_name(path.name, 1)}"
            raise DecodeError(msg)
        return sorted(files, key=natural_key)
    if path.is_file() and sniff_image(path) is not None:
        return [path]
    return None


def sniff_image(path: Path) -> str | None:
    """Name the decoder for an image file by its first bytes, or None; the suffix is not trusted.

    Raises:
        DecodeError: an animated WebP.
    """
    with decoding(path), path.open("rb") as file:
        start = file.read(64)
    for magic, codec in _MAGIC:
        if start.startswith(magic):
            return None if codec == "png" and is_animated_png(path) else codec
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        if start[12:16] == b"VP8X" and start[20] & _WEBP_ANIMATION:
            msg = f"{path} is an animated WebP, which is not read; convert it to a video, GIF or animated PNG first"
            raise DecodeError(msg)
        return "webp"
    return None


def is_animated_png(path: Path) -> bool:
    """Whether a PNG file holds several pictures: the chunk that says so comes before the first picture's data."""
    with decoding(path), path.open("rb") as file:
        file.seek(8)
        for _ in range(1000):
            header = file.read(8)
            if len(header) < 8 or header[4:] in (b"IDAT", b"IEND"):
                return False
            if header[4:] == b"acTL":
                return int.from_bytes(file.read(4), "big") > 1
            file.seek(int.from_bytes(header[:4], "big") + 4, 1)
    return False


def decode_image(
    path: Path, of_sequence: tuple[int, int] | None = None, *, max_pixels: int = MAX_FRAME_PX
) -> tuple[av.VideoFrame, DisplayMatrix]:
    """Decode one image file to a frame of its own pixel format, and tell how it is to be turned.

    Args:
        path: the file.
        of_sequence: ``(height, width)`` of the sequence it belongs to, as it is or turned; None takes any.
        max_pixels: the decoder refuses larger pictures before it takes memory for them.

    Raises:
        DecodeError: missing, not an image, damaged, or beyond the size limits (checked before pixels are decoded).
    """
    with decoding(path):
        if not path.is_file():
            msg = f"{path} does not exist or is not a file; check the path"
            raise DecodeError(msg)
        codec_name = sniff_image(path)
        if codec_name is None and is_animated_png(path):
            msg = f"{path} is an animated PNG where one picture is meant; give a still image"
            raise DecodeError(msg)
        if codec_name is None:
            msg = f"{path} is not an image that can be read (PNG, JPEG, WebP, TIFF or BMP); convert it"
            raise DecodeError(msg)
        size = path.stat().st_size
        if size > MAX_IMAGE_BYTES:
            msg = f"{path} has {size / 2**20:.0f} MB; images up to {MAX_IMAGE_BYTES // 2**20} MB are read"
            raise DecodeError(msg)
        data = path.read_bytes()
        declared = declared_size(data, codec_name)
        if declared is not None:
            height, width = declared
            check_size(path, width, height)
            check_memory(path, height, width)
            if height * width > max_pixels:
                msg = f"{path} is {width}x{height}; at most {max_pixels:,} pixels are read here"
                raise DecodeError(msg)
            if of_sequence is not None and of_sequence not in ((height, width), (width, height)):
                msg = (
                    f"{path} is {width}x{height} but the first image of the sequence is {of_sequence[1]}x"
                    f"{of_sequence[0]}; a sequence needs one size"
                )
                raise DecodeError(msg)
            check_plausible(path, data, codec_name, declared)
        decoder = cast(av.VideoCodecContext, av.CodecContext.create(codec_name, "r"))
        decoder.options = {**DECODER_OPTIONS, "max_pixels": str(min(max_pixels, MAX_FRAME_PX))}
        if codec_name == "mjpeg":
            # Else what is missing of one that is cut short is filled with grey; a missing end mark alone passes.
            decoder.options = {**decoder.options, "err_detect": "explode"}
        # One picture: threads only add memory.
        decoder.thread_count = 1
        frames = decoder.decode(av.Packet(data))
        frames = frames or decoder.decode(None)
        if not frames:
            msg = f"{path} holds no picture; it is damaged or cut short"
            raise DecodeError(msg)
        frame = frames[0]
        check_size(path, frame.width, frame.height)
        _refuse_no_numbers(path, frame)
        return frame, exif_orientation(data, codec_name)


def _refuse_no_numbers(path: Path, frame: av.VideoFrame) -> None:
    """Refuse floating-point pixels with NaN or infinity among them, which would become some colour."""
    name = frame.format.name
    if "f32" not in name and "f16" not in name:
        return
    kind = np.dtype(np.float32 if "f32" in name else np.float16).newbyteorder(">" if name.endswith("be") else "<")
    per_pixel = len(frame.format.components) // len(frame.planes) * kind.itemsize
    for plane in frame.planes:
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[
            : plane.height, : plane.width * per_pixel
        ]
        if not np.isfinite(np.ascontiguousarray(rows).view(kind)).all():
            msg = f"{path} holds values that are no numbers (NaN or infinity); write it again without them"
            raise DecodeError(msg)


def image_tags(frame: av.VideoFrame) -> ColourTags:
    """Colour tags of a decoded image; JPEG and WebP are BT.601 by their standards when they say nothing."""
    matrix = frame.colorspace if frame.colorspace not in (0, UNSPECIFIED) else 6
    return ColourTags(matrix, frame.color_range, frame.color_primaries, frame.color_trc)


def image_to_pixels(frame: av.VideoFrame, matrix: DisplayMatrix) -> tuple[Tensor, Tensor | None]:
    """Return RGB ``(3, h, w)`` and alpha ``(1, h, w)`` or None of a decoded image, as displayed, in [0, 1]."""
    is_jpeg = frame.format.name.startswith("yuvj")
    pixels, alpha = frame_to_pixels(frame, image_tags(frame), is_center_sited=is_jpeg)
    return as_displayed(pixels, matrix), None if alpha is None else as_displayed(alpha, matrix)


def read_image(path: str | Path, max_pixels: int = MAX_FRAME_PX) -> Tensor:
    """Read one image file.

    Alpha is dropped (the colour under it is kept), EXIF rotation is applied, embedded colour profiles are not.

    Args:
        path: PNG, JPEG, WebP, TIFF or BMP; 8 or 16 bit, colour, grey or palette.
        max_pixels: larger pictures are refused before they are decoded.

    Returns:
        ``(3, h, w)`` float32 RGB in [0, 1].

    Raises:
        DecodeError: missing, not an image, damaged, or larger than 16384 px a side.
    """
    path = Path(path)
    with decoding(path):
        return image_to_pixels(*decode_image(path, max_pixels=max_pixels))[0]


def image_facts(frame: av.VideoFrame) -> tuple[int, bool]:
    """Return bits of a sample and whether there is alpha."""
    return frame_bit_depth(frame.format.name), has_alpha_format(frame.format.name)


_IMAGE_ENCODERS = {
    ".png": "png",
    ".jpg": "mjpeg",
    ".jpeg": "mjpeg",
    ".webp": "libwebp",
    ".tif": "tiff",
    ".tiff": "tiff",
}
WRITABLE_IMAGE_SUFFIXES = (*_IMAGE_ENCODERS, ".bmp")
DEEP_IMAGE_SUFFIXES = (".png", ".tif", ".tiff")


def encode_image(
    pixels: Tensor, suffix: str, *, bits: int, alpha: Tensor | None = None, is_grey: bool = False
) -> bytes:
    """Encode one picture to the bytes of an image file.

    Args:
        pixels: ``(3, h, w)`` RGB, float in [0, 1] or uint8.
        suffix: one of `WRITABLE_IMAGE_SUFFIXES`. JPEG is written at high quality with full chroma, WebP without loss.
        bits: above 8 gives 16 bit in PNG and TIFF.
        alpha: ``(1, h, w)`` float in [0, 1]; kept by PNG, TIFF and WebP.
        is_grey: write one channel, the BT.601 luma, in PNG and TIFF without alpha.
    """
    suffix = suffix.lower()
    is_deep = bits > 8 and suffix in DEEP_IMAGE_SUFFIXES
    options: dict[str, str] = {}
    tags = ColourTags(matrix=6, range=2)
    if suffix in (".jpg", ".jpeg"):
        pixel_format, options = "yuvj444p", {"qmin": "1", "qmax": "1"}
    elif suffix == ".webp":
        pixel_format, options = "bgra", {"lossless": "1"}
    elif suffix == ".bmp":
        pixel_format = "bgr24"
    elif suffix == ".png":
        pixel_format = ("rgba64be" if is_deep else "rgba") if alpha is not None else ("rgb48be" if is_deep else "rgb24")
        # Level 1 is three times faster than the default of 6 and about 10% larger.
        options = {"compression_level": "1", "pred": "mixed"} if not is_deep else {"compression_level": "1"}
    else:
        pixel_format = ("rgba64le" if is_deep else "rgba") if alpha is not None else ("rgb48le" if is_deep else "rgb24")
        options = {"compression_algo": "deflate"}
    if is_grey and alpha is None and suffix in DEEP_IMAGE_SUFFIXES:
        deep = "gray16be" if suffix == ".png" else "gray16le"
        pixel_format = deep if is_deep else "gray"
    pixels = to_float(pixels)
    native = {
        "bgra": "rgba",
        "bgr24": "rgb24",
        "rgba64le": "rgba64be",
        "rgb48le": "rgb48be",
        "gray16be": "gray16le",
    }.get(pixel_format, pixel_format)
    frame = pixels_to_frame(pixels, native, tags, alpha)
    if native != pixel_format:
        frame = frame.reformat(format=pixel_format)
    encoder = cast(av.VideoCodecContext, av.CodecContext.create(_IMAGE_ENCODERS.get(suffix, "bmp"), "w"))
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, pixel_format
    encoder.time_base = Fraction(1, 24)
    encoder.options = options
    encoder.thread_count = 1
    if suffix in (".jpg", ".jpeg"):
        encoder.color_range = 2
    frame.pts = 0
    packets = [*encoder.encode(frame), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)
