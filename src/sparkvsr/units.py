"""Bytes and seconds for people."""

from __future__ import annotations


def human_bytes(count: float, *, digits: int = 1) -> str:
    """``1536`` to ``1.5 kB``; ``digits`` behind the point below a gigabyte, one from there on."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.{0 if unit == 'B' else digits}f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def human_seconds(seconds: float) -> str:
    """``95`` to ``1:35``."""
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
