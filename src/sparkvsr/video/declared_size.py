"""What size an image file says it has, judged before its pixels are decoded: a small file can unpack to gigabytes."""

from __future__ import annotations

import io
import warnings
from importlib import import_module
from pathlib import Path

import psutil

from sparkvsr.errors import DecodeError

# What Pillow thinks of damaged EXIF is nothing for the terminal.
warnings.filterwarnings("ignore", module=r"PIL\.")

BYTES_PER_PIXEL = 24
"""What decoding takes at most: as the file has it, as float RGB, and once more while it is turned or converted."""

# What the best case of a compression unpacks to: deflate 258 bytes from 2 bits, LZW 4,096 from 12. A block of 8x8 JPEG
# pixels takes a bit at least.
_DEFLATE_RATIO = 1040
_LZW_RATIO = 2800
_JPEG_PIXELS_A_BYTE = 1024
_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_YCBCR = 6
_FAX = (2, 3, 4)

# Decoder by the first bytes, and Pillow's reader of its header. `Image.open` would refuse large ones by an exception
# that does not tell the size.
_READERS = {
    "png": ("PngImagePlugin", "PngImageFile"),
    "mjpeg": ("JpegImagePlugin", "JpegImageFile"),
    "tiff": ("TiffImagePlugin", "TiffImageFile"),
    "bmp": ("BmpImagePlugin", "BmpImageFile"),
}


def declared_size(data: bytes, codec: str | None) -> tuple[int, int] | None:
    """``(height, width)`` by an image's header, before EXIF rotation; None where the header cannot be read.

    Args:
        data: of the file.
        codec: as ``sniff_image`` names it.
    """
    if codec == "webp":
        return _webp_size(data)
    if codec == "png" and data[12:16] == b"IHDR" and len(data) >= 24:
        # Pillow refuses a side of 0 without a word about it.
        return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")
    if codec not in _READERS:
        return None
    module, name = _READERS[codec]
    try:
        reader = getattr(import_module(f"PIL.{module}"), name)
        with reader(io.BytesIO(data)) as image:
            return image.height, image.width
    except Exception:  # noqa: BLE001  (whatever a damaged header makes it raise; decoding says what is wrong)
        return None


def holds_more(path: Path, codec: str | None) -> bool:
    """Whether an image file holds further pictures: pages of a TIFF, a second one in a JPEG of a phone (MPF)."""
    if codec not in ("tiff", "mjpeg"):
        return False
    module, name = _READERS[codec]
    try:
        with path.open("rb") as file, getattr(import_module(f"PIL.{module}"), name)(file) as image:
            if codec == "mjpeg":
                return "mpoffset" in image.info
            image.seek(1)
    except Exception:  # noqa: BLE001  (there is no second page, or the header is damaged, which decoding tells)
        return False
    return True


def check_memory(path: Path, height: int, width: int) -> None:
    """Refuse an image that does not fit into the memory that is free.

    Raises:
        DecodeError: it needs more.
    """
    need, free = height * width * BYTES_PER_PIXEL, psutil.virtual_memory().available
    if need > free:
        msg = (
            f"{path} declares {width}x{height}, which takes about {need / 1e9:.1f} GB to read, and {free / 1e9:.1f} GB "
            "are free; make it smaller"
        )
        raise DecodeError(msg)


def check_plausible(path: Path, data: bytes, codec: str | None, declared: tuple[int, int]) -> None:
    """Refuse an image that holds far too few bytes for the size that it declares: decoding would fill in the rest.

    Args:
        path: for the error.
        data: of the file; of a PNG its first 33 bytes are enough.
        codec: as ``sniff_image`` names it.
        declared: ``(height, width)``, see ``declared_size``.

    Raises:
        DecodeError: no compression of its format packs so much into so little.
    """
    size, (height, width) = path.stat().st_size, declared
    if codec == "png" and len(data) >= 26:
        raw, most = height * -(-width * data[24] * _PNG_CHANNELS.get(data[25], 1) // 8), _DEFLATE_RATIO * size
    elif codec == "tiff":
        found = _tiff_bytes(data, declared)
        if found is None:
            return
        raw, most = found
    elif codec == "mjpeg":
        raw, most = height * width, _JPEG_PIXELS_A_BYTE * size
    else:
        return  # BMP is stored as it is, and cut ones are refused; WebP packs a plain colour into nothing
    if raw > most:
        msg = f"{path} declares {width}x{height}, but {size:,} bytes cannot hold that; it is damaged or cut short"
        raise DecodeError(msg)


def _tiff_bytes(data: bytes, declared: tuple[int, int]) -> tuple[int, int] | None:
    """Bytes unpacked, and the most that the file can hold; None where it cannot be told."""
    module, name = _READERS["tiff"]
    try:
        with getattr(import_module(f"PIL.{module}"), name)(io.BytesIO(data)) as image:
            tags = image.tag_v2
            kind = int(tags.get(259, 1))
            bits = tags.get(258, (1,))
            bits = bits if isinstance(bits, tuple) else (bits,)
            samples = int(tags.get(277, 1))
            deep = sum(bits) if len(bits) >= samples else samples * max(bits)
            subsampled = 2 if int(tags.get(262, 0)) == _YCBCR else 1
    except Exception:  # noqa: BLE001  (a damaged header; decoding says what is wrong)
        return None
    if kind in _FAX:
        return None  # an empty page of a fax takes a bit a line
    ratio = subsampled if kind == 1 else _LZW_RATIO
    height, width = declared
    return height * -(-width * deep // 8), ratio * len(data)


def _webp_size(data: bytes) -> tuple[int, int] | None:
    """Pillow would set up the whole picture to tell; the three kinds of header are in RFC 9649."""
    kind = data[12:16]
    if len(data) < 30:
        return None
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[27:30], "little"), 1 + int.from_bytes(data[24:27], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8 ":
        return int.from_bytes(data[28:30], "little") & 0x3FFF, int.from_bytes(data[26:28], "little") & 0x3FFF
    return None
