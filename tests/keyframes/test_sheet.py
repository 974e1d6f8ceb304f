"""The contact sheet."""

from __future__ import annotations

import pytest
import torch

from sparkvsr.keyframes.sheet import MAX_TILES, SheetTile, contact_sheet, format_time, thumbnail


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0:00.00"), (95.4, "1:35.40"), (3661.25, "1:01:01.25"), (-1, "0:00.00")]
)
def test_times_are_readable(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


def test_every_tile_is_on_the_sheet_in_order() -> None:
    tiles = [SheetTile(k * 24, float(k), 0, thumbnail(torch.full((3, 90, 160), 0.2 + 0.1 * k))) for k in range(7)]
    sheet = contact_sheet(tiles)
    assert sheet.shape[-1] % 2 == 0
    assert sheet.shape[-2] % 2 == 0
    seen = [round(value, 1) for value in sheet[0, 60, :].unique(sorted=False).tolist() if value > 0.15]
    assert set(seen) <= {round(0.2 + 0.1 * k, 1) for k in range(7)}
    for k in range(7):
        assert (sheet[0] - (0.2 + 0.1 * k)).abs().lt(1e-3).sum() >= 320 * 180
    # The labels are there: bright pixels in the strip below the first tile.
    assert sheet[:, 188:212, 8:328].max() > 0.8


def test_one_tile_and_very_many() -> None:
    tile = SheetTile(0, 0.0, 0, thumbnail(torch.rand(3, 9, 16)))
    assert contact_sheet([tile]).shape[-1] >= 320
    many = contact_sheet([tile] * (MAX_TILES + 50))
    assert many.shape[-1] < 2100
