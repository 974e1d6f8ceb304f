"""Damaged and hostile files end in our own errors: a small run of benchmarks/fuzz_decode.py."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

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
    import cv2
    import numpy as np

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
    import cv2
    import numpy as np
    import psutil

    from sparkvsr.errors import DecodeError
    from sparkvsr.video import VideoReader, read_image
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
