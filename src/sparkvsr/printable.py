"""Text from elsewhere as a terminal, a page, a log or a report may show it: names hold what their makers like."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"
"""Invisible, but part of words (Persian) and of emoji."""


def printable(text: str, *, keep_lines: bool = False) -> str:
    r"""Control characters, line breaks and what turns the direction of text, written out: ``\x1b``, ``\n``, ``\u202e``.

    Args:
        text: anything.
        keep_lines: leave line breaks and tabs as they are, for texts of several lines of our own.
    """
    if text.isprintable():
        return text
    return "".join(char if _is_plain(char, keep_lines) else _written(char) for char in text)


def _is_plain(char: str, keep_lines: bool) -> bool:
    if char in _JOINERS or (keep_lines and char in "\n\t"):
        return True
    # Cc: ESC, BEL, C1; Cf: direction and other invisible marks; Zl, Zp: line breaks of Unicode.
    return unicodedata.category(char) not in ("Cc", "Cf", "Zl", "Zp")


def _written(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
