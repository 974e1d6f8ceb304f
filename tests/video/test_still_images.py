"""read_image: formats, depth, alpha, palettes, EXIF orientation, refusals."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from video_clips import picture

from sparkvsr.errors import DecodeError
from sparkvsr.video import VideoReader, VideoWriter, probe, read_image


def corners() -> np.ndarray:
    """White, red / blue, black: every orientation looks different."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:24, :32] = 255
    image[:24, 32:] = (255, 0, 0)
    image[24:, :32] = (0, 0, 255)
    return image


def exif(order: str, orientation: int) -> bytes:
    head = b"II*\0" if order == "<" else b"MM\0*"
    return head + struct.pack(order + "IHHHIHHI", 8, 1, 0x112, 3, 1, orientation, 0, 0)


def jpeg_with(orientation: int, order: str = "<") -> bytes:
    plain = cv2.imencode(".jpg", corners()[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    body = b"Exif\0\0" + exif(order, orientation)
    return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + plain[2:]


@pytest.mark.parametrize("is_progressive", [0, 1])
def test_a_jpeg_that_is_cut_short_is_refused(tmp_path: Path, is_progressive: int) -> None:
    path = tmp_path / "x.jpg"
    options = [cv2.IMWRITE_JPEG_PROGRESSIVE, is_progressive]
    data = cv2.imencode(".jpg", picture(0, 48, 64), options)[1].tobytes()
    path.write_bytes(data[:-2])  # only the end mark is missing
    without_mark = read_image(path)
    path.write_bytes(data)
    assert torch.equal(read_image(path), without_mark)
    for share in (0.5, 0.9):
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(DecodeError, match="cut short"):
            read_image(path)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_that_of_opencv(tmp_path: Path, orientation: int, order: str) -> None:
    path = tmp_path / "e.jpg"
    path.write_bytes(jpeg_with(orientation, order))
    expected = torch.from_numpy(cv2.imread(str(path))[:, :, ::-1].copy()).permute(2, 0, 1) / 255
    pixels = read_image(path)
    info = probe(path)
    assert pixels.shape == expected.shape == (3, info.height, info.width)
    assert (pixels - expected).abs().mean() < 2 / 255


def test_nonsense_exif_is_passed_over(tmp_path: Path) -> None:
    data = jpeg_with(6)
    for cut in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"):
        body = cut
        path = tmp_path / "n.jpg"
        start = data.index(b"\xff\xe1")
        size = struct.unpack(">H", data[start + 2 : start + 4])[0]
        path.write_bytes(data[: start + 2] + struct.pack(">H", len(body) + 2) + body + data[start + 2 + size :])
        assert read_image(path).shape == (3, 48, 64)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".bmp"])
def test_lossless_formats_round_trip(tmp_path: Path, suffix: str) -> None:
    image = torch.from_numpy(picture(5)).permute(2, 0, 1)
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, source=None, size=(48, 64)) as writer:
        writer.write(image)
    assert torch.equal((read_image(path) * 255).round().to(torch.uint8), image)
    theirs = cv2.imread(str(path))[:, :, ::-1]
    assert np.array_equal(theirs, picture(5))


def test_jpeg_is_near(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.jpg", source=None, size=(48, 64)) as writer:
        writer.write(torch.from_numpy(picture(5)).permute(2, 0, 1))
    expected = torch.from_numpy(picture(5)).permute(2, 0, 1) / 255
    assert (read_image(tmp_path / "a.jpg") - expected).abs().mean() < 1.5 / 255


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_stay_sixteen(tmp_path: Path, suffix: str) -> None:
    deep = (np.arange(48 * 64 * 3, dtype=np.uint32) * 7 % 65536).astype(np.uint16).reshape(48, 64, 3)
    source = tmp_path / f"s{suffix}"
    cv2.imwrite(str(source), deep[:, :, ::-1])
    info = probe(source)
    assert info.bit_depth == 16
    pixels = read_image(source)
    assert torch.equal((pixels * 65535).round().int(), torch.from_numpy(deep.astype(np.int32)).permute(2, 0, 1))
    with VideoWriter(tmp_path / f"o{suffix}", source=info, size=(48, 64)) as writer:
        writer.write(pixels)
    back = cv2.imread(str(tmp_path / f"o{suffix}"), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    assert np.array_equal(back, deep)


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_alpha_is_kept_apart_and_written_back(tmp_path: Path, depth: type) -> None:
    top = np.iinfo(depth).max
    image = np.random.default_rng(0).integers(0, top, (48, 64, 4), dtype=depth)
    cv2.imwrite(str(tmp_path / "s.png"), image)
    reader = VideoReader(tmp_path / "s.png")
    frame = next(iter(reader))
    assert reader.info.has_alpha
    assert frame.alpha is not None
    assert frame.alpha.shape == (1, 48, 64)
    with VideoWriter(tmp_path / "o.png", source=reader.info, size=(48, 64)) as writer:
        writer.write(frame.pixels, alpha=frame.alpha)
    assert np.array_equal(cv2.imread(str(tmp_path / "o.png"), cv2.IMREAD_UNCHANGED), image)


def test_grey_and_palette(tmp_path: Path, ffmpeg) -> None:
    cv2.imwrite(str(tmp_path / "g.png"), picture(3)[:, :, 1])
    grey = read_image(tmp_path / "g.png")
    assert torch.equal(grey[0], grey[2])
    assert torch.equal((grey[1] * 255).round().to(torch.uint8), torch.from_numpy(picture(3)[:, :, 1].copy()))
    cv2.imwrite(str(tmp_path / "c.png"), corners()[:, :, ::-1])
    ffmpeg("-i", tmp_path / "c.png", "-vf", "palettegen", tmp_path / "palette.png")
    ffmpeg("-i", tmp_path / "c.png", "-i", tmp_path / "palette.png", "-lavfi", "paletteuse", tmp_path / "p.png")
    assert probe(tmp_path / "p.png").pixel_format == "pal8"
    expected = torch.from_numpy(corners()).permute(2, 0, 1) / 255
    assert (read_image(tmp_path / "p.png") - expected).abs().max() < 3 / 255


def test_suffix_is_not_trusted(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(jpeg_with(1))
    assert read_image(tmp_path / "a.png").shape == (3, 48, 64)


# Refusals


def test_missing_text_empty_and_folder(tmp_path: Path) -> None:
    (tmp_path / "t.png").write_text("hello")
    (tmp_path / "e.png").touch()
    for name, words in (
        ("no.png", "does not exist"),
        ("t.png", "not an image"),
        ("e.png", "not an image"),
        ("", "not a file"),
    ):
        with pytest.raises(DecodeError, match=words):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".bmp", ".webp"])
def test_header_only(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    with VideoWriter(path, source=None, size=(48, 64)) as writer:
        writer.write(torch.rand(3, 48, 64))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DecodeError):
        read_image(path)


def bmp_header(side: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 1000, 0, 0, 54) + info + bytes(1000)


def tiff_header(side: int) -> bytes:
    values = {256: side, 257: side, 258: 8, 259: 1, 262: 1, 273: 200, 277: 1, 278: side, 279: 800}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in values.items())
    return b"II*\0" + struct.pack("<IH", 8, len(values)) + entries + bytes(1000)


def webp_header(side: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4) + (side - 1).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def jpeg_header(side: int) -> bytes:
    frame = b"\xff\xc0" + struct.pack(">HBHHB", 11, 8, side, side, 1) + b"\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00" + bytes(1000) + b"\xff\xd9"


@pytest.mark.parametrize(
    ("make", "side"), [(bmp_header, 100_000), (tiff_header, 100_000), (webp_header, 2**24), (jpeg_header, 60_000)]
)
def test_headers_that_claim_giant_sizes(tmp_path: Path, make, side: int) -> None:
    path = tmp_path / "big"
    path.write_bytes(make(side))
    with pytest.raises(DecodeError):
        read_image(path)


@pytest.mark.parametrize("kind", ["png", "webp"])
@pytest.mark.parametrize("orientation", [1, 5, 6, 8])
def test_orientation_in_png_and_webp(tmp_path: Path, kind: str, orientation: int) -> None:
    (tmp_path / "e.jpg").write_bytes(jpeg_with(orientation))
    path = tmp_path / f"e.{kind}"
    with VideoWriter(path, source=None, size=(48, 64)) as writer:
        writer.write(torch.from_numpy(corners()).permute(2, 0, 1))
    data, tag = path.read_bytes(), exif("<", orientation)
    if kind == "png":
        chunk = b"eXIf" + tag
        data = data[:33] + struct.pack(">I", len(tag)) + chunk + struct.pack(">I", zlib.crc32(chunk)) + data[33:]
    else:
        flags = (
            b"VP8X" + struct.pack("<I", 10) + b"\x08\0\0\0" + (63).to_bytes(3, "little") + (47).to_bytes(3, "little")
        )
        body = b"WEBP" + flags + data[12:] + b"EXIF" + struct.pack("<I", len(tag)) + tag
        data = b"RIFF" + struct.pack("<I", len(body)) + body
    path.write_bytes(data)
    assert (read_image(path) - read_image(tmp_path / "e.jpg")).abs().mean() < 2 / 255
