"""The looks of a model that has several; in a module of its own, so that naming one needs no torch."""

from __future__ import annotations

LOOKS = ("vivid", "faithful")
