"""What everything shares: units for people, cache folders, grey, suffixes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sparkvsr.colour import grey
from sparkvsr.units import human_bytes, human_seconds
from sparkvsr.user_cache import user_cache
from sparkvsr.video import IMAGE_SUFFIXES, VIDEO_SUFFIXES


@pytest.mark.parametrize(
    ("count", "text", "rough"),
    [
        (0, "0 B", "0 B"),
        (999, "999 B", "999 B"),
        (1536, "1.5 kB", "2 kB"),
        (20_100_000, "20.1 MB", "20 MB"),
        (3.21e12, "3210.0 GB", "3210.0 GB"),
    ],
)
def test_bytes_for_people(count: float, text: str, rough: str) -> None:
    assert (human_bytes(count), human_bytes(count, digits=0)) == (text, rough)


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (95.4, "1:35"), (3599.6, "1:00:00"), (7325, "2:02:05")])
def test_seconds_for_people(seconds: float, text: str) -> None:
    assert human_seconds(seconds) == text


@pytest.mark.skipif(sys.platform != "linux", reason="the platform's own folder elsewhere")
def test_the_cache_is_where_it_always_was(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from sparkvsr.config import compose_config
    from sparkvsr.pretrained.weights import own_cache

    monkeypatch.delenv("SPARKVSR_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_cache("a", "b") == tmp_path / ".cache" / "sparkvsr" / "a" / "b"
    assert own_cache() == tmp_path / ".cache" / "sparkvsr" / "metrics"
    assert compose_config().paths.cache_dir == str(tmp_path / ".cache" / "sparkvsr" / "training")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert user_cache() == tmp_path / "xdg" / "sparkvsr"
    monkeypatch.setenv("SPARKVSR_CACHE", str(tmp_path / "own"))
    assert compose_config().paths.cache_dir == str(tmp_path / "own" / "training")


def test_grey_of_any_rank_is_the_weighted_sum() -> None:
    image = torch.rand(2, 5, 3, 4, 6)
    expected = 0.299 * image[..., 0, :, :] + 0.587 * image[..., 1, :, :] + 0.114 * image[..., 2, :, :]
    assert torch.allclose(grey(image)[..., 0, :, :], expected, atol=1e-6)
    assert grey(torch.ones(3, 2, 2)).shape == (1, 2, 2)


def test_no_suffix_is_both_a_video_and_an_image() -> None:
    assert not set(VIDEO_SUFFIXES) & set(IMAGE_SUFFIXES)
    assert {".wmv", ".nut", ".mkv"} <= set(VIDEO_SUFFIXES)


def test_upscale_can_be_imported_where_there_is_no_fcntl() -> None:
    code = "import sys; sys.modules['fcntl'] = None; import sparkvsr.inference.clip.store"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
