"""Markdown for the UI: tables and pictures, with other people's text as text, whatever it would mean as markup."""

import base64
from collections.abc import Iterable, Sequence
from typing import Any, Final

import polars as pl

from g2is_assets.reports.words import printable

SHOWN: Final = 80
"""Characters of a text that a cell shows."""
_MARKUP: Final = {ord(c): f"\\{c}" for c in "\\`*_{}[]()#!|~$"} | {ord(c): f"&#{ord(c)};" for c in "<>&\"'"}
"""What Markdown or HTML would take for markup. Entities, since a backslash before `<` would not stop an HTML parser."""


def escaped(text: str, limit: int = SHOWN) -> str:
    """Text in one line, cut, that Markdown and HTML show as it is."""
    line = printable(text)
    return (line if len(line) <= limit else line[: limit - 1] + "…").translate(_MARKUP)


def cell(value: Any, limit: int = SHOWN) -> str:
    """A value as a cell of a table."""
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return escaped(", ".join(map(str, value)), limit)
    return escaped(str(value), limit)


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
