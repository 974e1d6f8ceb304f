"""Damaged and hostile files end in our own errors: a small run of benchmarks/fuzz_decode.py."""

from __future__ import annotations

import importlib
import math
import resource
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from sparkvsr.errors import DecodeError
from sparkvsr.video import probe, read_image

NUM_INPUTS = 100
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_hundred_damaged_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))  # the worker process imports it by its name, too
    fuzzer = importlib.import_module("fuzz_decode")
    outcomes = [(name, outcome) for name, outcome, _, _ in fuzzer.fuzz(NUM_INPUTS, 7, tmp_path)]
    bad = [entry for entry in outcomes if entry[1] not in ("read", "refused")]
    assert not bad
    assert {outcome for _, outcome in outcomes} == {"read", "refused"}  # the damage is neither nothing nor everything


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".tif", ".bmp"])
def test_sizes_are_told_by_headers_alone(tmp_path: Path, suffix: str) -> None:
    """The same as decoding tells, for every kind and also for lossy WebP."""
    from sparkvsr.video.declared_size import declared_size
    from sparkvsr.video.images import sniff_image

    path = tmp_path / f"a{suffix}"
    image = np.zeros((37, 52, 3), np.uint8)
    for options in ([], [cv2.IMWRITE_WEBP_QUALITY, 101], [cv2.IMWRITE_WEBP_QUALITY, 50]):
        cv2.imwrite(str(path), image, options if suffix == ".webp" else [])
        assert declared_size(path.read_bytes(), sniff_image(path)) == (37, 52)
    assert declared_size(path.read_bytes()[:20], sniff_image(path)) in (None, (37, 52))


def test_an_image_that_fits_into_no_memory_or_sequence_is_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psutil

    from sparkvsr.video import VideoReader
    from sparkvsr.video import images as module

    for index, size in enumerate(((32, 48), (640, 480))):
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.zeros((*size, 3), np.uint8))
    real = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: real._replace(available=100_000))
    with pytest.raises(DecodeError, match="declares 480x640, which takes about 0.0 GB"):
        read_image(tmp_path / "1.png")
    monkeypatch.undo()
    with VideoReader(tmp_path) as reader:
        frames = iter(reader)
        next(frames)
        monkeypatch.setattr(module.av.CodecContext, "create", None)
        with pytest.raises(DecodeError, match="first image of the sequence is 48x32"):
            next(frames)


def _png(width: int, height: int, depth: int = 8, *, animated: bool = False) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, 6, 0, 0, 0))
    control = chunk(b"acTL", struct.pack(">II", 2, 0)) if animated else b""
    picture = chunk(b"IDAT", zlib.compress(bytes(3000)))
    return b"\x89PNG\r\n\x1a\n" + header + control + picture + chunk(b"IEND", b"")


def _tiff(width: int, height: int, compression: int) -> bytes:
    tags = [(256, width), (257, height), (258, 8), (259, compression), (262, 1), (273, 200), (278, height), (279, 99)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return (b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)).ljust(400, b"\0")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.png", _png(9000, 9000)),
        ("deep.png", _png(9000, 9000, 16)),
        ("animated.png", _png(9000, 9000, animated=True)),
        ("plain.tif", _tiff(9000, 9000, 1)),
        ("deflate.tif", _tiff(9000, 9000, 8)),
        ("a.jpg", b"\xff\xd8\xff\xc0\0\x0b\x08" + struct.pack(">HH", 9000, 9000) + b"\1\1\x11\0" + bytes(200)),
    ],
)
def test_a_few_bytes_that_declare_a_large_picture_are_refused_before_they_are_decoded(
    tmp_path: Path, name: str, data: bytes
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DecodeError, match=rf"declares 9000x9000, but {len(data)} bytes cannot hold that"):
        probe(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_plain_colours_pack_well_and_are_read(tmp_path: Path) -> None:
    flat = Image.new("RGB", (3000, 2000), (40, 90, 200))
    flat.save(tmp_path / "a.png", compress_level=9)
    flat.save(tmp_path / "a.jpg", quality=5, progressive=True, optimize=True)
    for kind in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
        flat.save(tmp_path / f"{kind}.tif", compression=kind)
    Image.new("1", (3000, 2000), 1).save(tmp_path / "fax.tif", compression="group4")
    for path in sorted(tmp_path.iterdir()):
        assert (probe(path).width, probe(path).height) == (3000, 2000), path.name


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_images_with_values_that_are_no_numbers_are_refused(tmp_path: Path, value: float) -> None:
    pixels = np.full((8, 8, 3), 0.5, np.float32)
    for name in ("good.tiff", "bad.tiff"):
        cv2.imwrite(str(tmp_path / name), pixels)
        pixels[3, 4, 1] = value
    assert read_image(tmp_path / "good.tiff").shape == (3, 8, 8)
    with pytest.raises(DecodeError, match=r"bad.tiff holds values that are no numbers"):
        read_image(tmp_path / "bad.tiff")
