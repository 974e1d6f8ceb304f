"""Output sizes."""

from __future__ import annotations

import pytest

from sparkvsr.errors import ConfigError
from sparkvsr.shapes import output_size, parse_preview, parse_size, preview_frames


def test_default_is_four_times() -> None:
    assert (output_size((180, 320)).height, output_size((180, 320)).width) == (720, 1280)


@pytest.mark.parametrize("scale", [1.0, 1.5, 2.0, 3.3, 4.0])
@pytest.mark.parametrize("lr_size", [(180, 320), (181, 319), (17, 33)])
def test_sides_are_even_and_close_to_the_factor(scale: float, lr_size: tuple[int, int]) -> None:
    size = output_size(lr_size, scale=scale)
    assert size.height % 2 == 0
    assert size.width % 2 == 0
    assert abs(size.height - lr_size[0] * scale) <= 1
    assert abs(size.width - lr_size[1] * scale) <= 1


def test_height_keeps_the_aspect_ratio() -> None:
    size = output_size((270, 480), height=1080)
    assert (size.height, size.width, size.note) == (1080, 1920, "")


def test_size_is_a_box_and_says_how_the_aspect_ratio_was_kept() -> None:
    size = output_size((480, 640), size=(1080, 1920))
    assert (size.height, size.width) == (1080, 1440)
    assert "aspect ratio" in size.note


def test_odd_results_are_said() -> None:
    assert "even" in output_size((181, 319), scale=1.0).note
    assert "even" in output_size((270, 480), height=541).note


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": 0.5}, "shrink"),
        ({"height": 100}, "shrink"),
        ({"size": (100, 100)}, "shrink"),
        ({"scale": 4.5}, "up to 1280x720"),
        ({"height": 2160}, "12 times"),
        ({"scale": 2.0, "height": 720}, "exclude each other"),
    ],
)
def test_impossible_sizes_are_refused(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        output_size((180, 320), **arguments)  # type: ignore[arg-type]


def test_size_text() -> None:
    assert parse_size("1920x1080") == (1080, 1920)
    with pytest.raises(ConfigError, match="WIDTHxHEIGHT"):
        parse_size("1080p")


@pytest.mark.parametrize(
    ("text", "seconds"), [("3s@0:42", (3, 42)), ("2.5@7", (2.5, 7)), ("10s@1:02:03.5", (10, 3723.5)), ("1s@0", (1, 0))]
)
def test_preview_text(text: str, seconds: tuple[float, float]) -> None:
    assert parse_preview(text) == seconds


@pytest.mark.parametrize("text", ["3s", "@4", "0s@4", "three@4", "3s@1:2:3:4"])
def test_bad_preview_text_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="3s@0:42"):
        parse_preview(text)


def test_preview_lies_around_its_moment_and_inside_the_clip() -> None:
    assert preview_frames("2s@5", 25, 1000) == (100, 50)
    assert preview_frames("2s@0", 25, 1000) == (0, 50)
    assert preview_frames("2s@39.9", 25, 1000) == (950, 50)
    assert preview_frames("100s@1", 25, 60) == (0, 60)
    with pytest.raises(ConfigError, match=r"ends at 40\.00 s"):
        preview_frames("2s@40", 25, 1000)
