"""Other people's text in a terminal."""

import unicodedata
from typing import Final

_REORDER: Final = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
"""Marks that make a terminal show text in another order than it stands in."""


def printable(text: str) -> str:
    """The text in one line, without the characters that would move the cursor, recolour the screen or reorder text."""
    line = " ".join(text.split())
    return "".join("\ufffd" if c in _REORDER or unicodedata.category(c) == "Cc" else c for c in line)
