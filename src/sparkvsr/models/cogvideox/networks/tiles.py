"""Cutting a side into overlapping spans and fading them into each other. Pure arithmetic plus one weight tensor.

Used twice: for tiles of the whole model (sides in output pixels, multiples of 16) and for tiles of the VAE (latent
cells). Knows nothing of models.
"""

from __future__ import annotations

import torch
from torch import Tensor


def spans(length: int, size: int, overlap: int, multiple: int = 1) -> list[tuple[int, int]]:
    """Cover ``[0, length)`` with the fewest half-open spans of at most ``size``, sharing at least ``overlap``.

    The spans are made equally long, so that the last one does not repeat most of its neighbour.

    Args:
        length: side to cover, a multiple of ``multiple``.
        size: largest span, rounded down to ``multiple``; must stay above ``overlap``.
        overlap: least cells shared by neighbours, rounded up to ``multiple``.
        multiple: starts and lengths are multiples of this.

    Returns:
        ``(start, stop)`` pairs in order; one pair if the side fits.

    Raises:
        ValueError: no room between ``overlap`` and ``size``, or ``length`` is no multiple.
    """
    if length % multiple:
        msg = f"length {length} is not a multiple of {multiple}"
        raise ValueError(msg)
    cells, most, shared = length // multiple, size // multiple, -(-overlap // multiple)
    if cells <= most:
        return [(0, length)]
    if most <= shared:
        msg = f"tile size {size} must exceed the overlap {overlap} by at least {multiple}"
        raise ValueError(msg)
    count = -(-(cells - shared) // (most - shared))
    even = -(-(cells + (count - 1) * shared) // count)
    starts = [min(round(i * (cells - even) / (count - 1)), cells - even) for i in range(count)]
    return [(start * multiple, (start + even) * multiple) for start in starts]


def fade_weights(pieces: list[tuple[int, int]], index: int, unit: int = 1) -> Tensor:
    """Weights of one span along its side: 1 inside, linear ramps over what it shares with its neighbours.

    Args:
        pieces: all spans of the side (``spans``).
        index: which one.
        unit: values per cell (8 to fade in pixels what was cut in latent cells).

    Returns:
        ``((stop - start) * unit,)`` float32. Over all spans the weights of a position sum to 1 as long as no position
        lies in more than two of them; callers that cannot promise that divide by the sum.
    """
    start, stop = pieces[index]
    weights = torch.ones((stop - start) * unit)
    if index > 0:
        shared = (pieces[index - 1][1] - start) * unit
        if shared > 0:
            weights[:shared] *= (torch.arange(shared) + 0.5) / shared
    if index + 1 < len(pieces):
        shared = (stop - pieces[index + 1][0]) * unit
        if shared > 0:
            weights[-shared:] *= 1 - (torch.arange(shared) + 0.5) / shared
    return weights


class Canvas:
    """Sum of faded tiles ``(B, F, C, th, tw)`` over a plane ``(B, F, C, H, W)``, float32."""

    def __init__(
        self,
        rows: list[tuple[int, int]],
        columns: list[tuple[int, int]],
        unit: int,
        device: torch.device | None = None,
    ) -> None:
        self._rows, self._columns, self._unit, self._device = rows, columns, unit, device
        self._sum: Tensor | None = None
        self._row_weights = normalised_weights(rows, unit)
        self._column_weights = normalised_weights(columns, unit)

    def add(self, tile: Tensor, row: int, column: int) -> None:
        """Add the tile ``(B, F, C, th, tw)`` of a row and a column of the grid, faded towards its neighbours."""
        tile = tile.to(self._device or tile.device, torch.float32)
        if self._sum is None:
            size = (self._rows[-1][1] * self._unit, self._columns[-1][1] * self._unit)
            self._sum = tile.new_zeros((*tile.shape[:3], *size))
        vertical = self._row_weights[row].to(tile.device)[:, None]
        horizontal = self._column_weights[column].to(tile.device)
        top, left = self._rows[row][0] * self._unit, self._columns[column][0] * self._unit
        self._sum[..., top : top + tile.shape[-2], left : left + tile.shape[-1]] += tile * vertical * horizontal

    def result(self) -> Tensor:
        """The plane ``(B, F, C, H, W)``, float32.

        Raises:
            ValueError: nothing was added.
        """
        if self._sum is None:
            msg = "no tile was added"
            raise ValueError(msg)
        return self._sum


def normalised_weights(pieces: list[tuple[int, int]], unit: int) -> list[Tensor]:
    """Fade weights of all spans of a side, ``(length * unit,)`` each, divided by their sum."""
    weights = [fade_weights(pieces, index, unit) for index in range(len(pieces))]
    total = torch.zeros(pieces[-1][1] * unit)
    for (start, stop), weight in zip(pieces, weights, strict=True):
        total[start * unit : stop * unit] += weight
    return [weight / total[start * unit : stop * unit] for (start, stop), weight in zip(pieces, weights, strict=True)]
