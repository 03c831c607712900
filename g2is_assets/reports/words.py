"""Other people's text in a terminal and on a page."""

import unicodedata
from typing import Final

_REORDER: Final = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
"""Marks that make a terminal show text in another order than it stands in."""


def printable(text: str) -> str:
    """The text in one line, without the characters that would move the cursor, recolour the screen or reorder text."""
    return _harmless(" ".join(text.split()))


def readable(text: str) -> str:
    """The same with its lines and tabs as they are."""
    return "\n".join("\t".join(map(_harmless, line.split("\t"))) for line in text.replace("\r\n", "\n").split("\n"))


def _harmless(text: str) -> str:
    return "".join("\ufffd" if c in _REORDER or unicodedata.category(c) == "Cc" else c for c in text)
