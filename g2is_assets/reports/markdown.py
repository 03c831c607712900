"""Markdown for the UI: tables and pictures, with other people's text as text, whatever it would mean as markup."""

import base64
import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

from g2is_assets.reports.words import printable

SHOWN: Final = 80
"""Characters of a text that a cell shows."""
ID_SHOWN: Final = 8
"""Characters of an id or a digest that are shown, enough for `g2is why`."""
_ID: Final = re.compile(r"[0-9a-f]{32,64}")
_MARKUP: Final = re.compile(r"[\\`*_{}\[\]()#!|~$<>&\"':@]|(?<=www)\.", re.IGNORECASE)
"""What Markdown or HTML would take for markup, or for the beginning of a link. It becomes entities, which mean only
themselves to both; a backslash would not stop an HTML parser, and shows in what is taken for an address."""


def escaped(text: str, limit: int = SHOWN) -> str:
    """Text in one line, cut, that Markdown and HTML show as it is."""
    line = printable(text)
    line = line if len(line) <= limit else line[: limit - 1] + "…"
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", line)


def cell(value: Any, limit: int = SHOWN) -> str:
    """A value as a cell of a table; ids and digests by their first characters."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return escaped(", ".join(map(str, value)), limit)
    text = str(value)
    return text[:ID_SHOWN] if _ID.fullmatch(text) else escaped(text, limit)


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], limit: int = SHOWN) -> str:
    """A Markdown table; every cell is cut and escaped."""
    values = [[cell(value, limit) for value in row] for row in rows]
    lines = [[escaped(name) for name in header], ["---"] * len(header), *values]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def first_rows(rows: pl.DataFrame) -> str:
    """A small table as Markdown, without vectors and nested records."""
    kept = [name for name, dtype in rows.schema.items() if not _is_nested(dtype)]
    return table(kept, rows.select(kept).rows())


def _is_nested(dtype: pl.DataType) -> bool:
    return isinstance(dtype, pl.Array | pl.Struct) or (
        isinstance(dtype, pl.List) and isinstance(dtype.inner, pl.Struct)
    )


def picture(png: bytes, alt: str) -> str:
    """A picture that needs no file beside the text."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})"
