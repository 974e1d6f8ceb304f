"""The page of `sparkvsr compare a b -o compare.html`: one file, no network, works from disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sparkvsr.pages import render


@dataclass(frozen=True)
class PagePair:
    """One frame of both clips: number, time, and two ``data:`` addresses."""

    index: int
    seconds: float
    first: str
    second: str


@dataclass(frozen=True)
class ComparePage:
    """What a page shows.

    Attributes:
        labels: of the two clips.
        size: ``(H, W)`` of the pictures.
        pairs: at least one.
        notes: lines below the picture.
    """

    labels: tuple[str, str]
    size: tuple[int, int]
    pairs: Sequence[PagePair]
    notes: Sequence[str] = ()


def render_page(page: ComparePage) -> str:
    """The page as text. Labels and notes may hold anything: they are escaped."""
    frames = [
        {"index": pair.index, "seconds": round(pair.seconds, 3), "first": pair.first, "second": pair.second}
        for pair in page.pairs
    ]
    return render("compare.html", page=page, frames=frames)
