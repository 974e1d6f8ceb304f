"""The one place for numbers that turn colours into grey."""

from __future__ import annotations

GREY_WEIGHTS = (0.299, 0.587, 0.114)
"""Weights of R, G, B in grey, ITU-R BT.601; they sum to 1."""
