"""Text for people: that of others made harmless, Markdown for the UI, and what an evaluation says in words."""

import base64
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import polars as pl
from polars import selectors as cs

_REORDER: Final = frozenset(map(chr, [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]))
"""Marks that make a terminal show text in another order than it stands in."""
OTHERS: Final = {"base": "the base model", "random": "a random subset of the same size"}
"""What an adapter is compared with, by the name that metrics have."""


def printable(text: str) -> str:
    """The text in one line, without the characters that would move the cursor, recolour the screen or reorder text."""
    return _harmless(" ".join(text.split()))


def beginning(text: str, limit: int) -> str:
    """The beginning of a text in one line of at most `limit` characters, with dots where it is cut."""
    line = printable(text[: 4 * limit])
    return line if len(line) <= limit and len(text) <= 4 * limit else line[: limit - 1] + "…"


def readable(text: str) -> str:
    """The text without such characters, with its lines and tabs as they are."""
    return "\n".join("\t".join(map(_harmless, line.split("\t"))) for line in text.replace("\r\n", "\n").split("\n"))


def _harmless(text: str) -> str:
    return "".join("\ufffd" if c in _REORDER or unicodedata.category(c) == "Cc" else c for c in text)


class Difference(NamedTuple):
    """Mean loss of an adapter less that of another model, with its 95 % interval over rows, in nats per token."""

    mean: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """What the interval says: below 0 is better."""
        return "better than" if self.high < 0 else "worse than" if self.low > 0 else "not told apart from"

    def __str__(self) -> str:
        return f"{self.mean:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


def difference_to(other: str, metrics: Mapping[str, int | float | str]) -> Difference:
    """The difference to one of `OTHERS`, from the metrics of `finetune/evaluation`."""
    return Difference(*(float(metrics[f"minus_{other}{end}"]) for end in ("", "_low", "_high")))


def verdict_with_intervals(metrics: Mapping[str, int | float | str], n_rows: int) -> str:
    """One sentence with what was measured on so many rows: differences of the loss, with their intervals."""
    said = []
    for other, name in (OTHERS | {"random": "one trained on random rows"}).items():
        found = difference_to(other, metrics)
        numbers = f"difference in loss {found.mean:+.4f}, 95 % interval {found.low:+.4f} to {found.high:+.4f}"
        numbers = numbers.replace("-", "\u2212")
        said.append(f"{found.word} {name} ({numbers})")
    where = f"On {n_rows:,} test rows" if metrics["split"] == "test" else f"On its own {n_rows:,} validation rows"
    doubt = "" if metrics["split"] == "test" else ", which is only indicative"
    return f"{where} this adapter is {said[0]} and {said[1]}, one training seed each{doubt}."


def verdict(metrics: Mapping[str, int | float | str]) -> str:
    """One sentence from the metrics of `finetune/evaluation`."""
    said = " and ".join(f"{difference_to(other, metrics).word} {name}" for other, name in OTHERS.items())
    if metrics["split"] != "test":
        return f"On its own validation rows, so only indicative, G2IS is {said}. Add test.jsonl."
    return f"Here G2IS is {said} (one seed)."


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
    return _MARKUP.sub(lambda found: f"&#{ord(found[0])};", beginning(text, limit))


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
    kept = rows.select(~(cs.array() | cs.struct() | cs.list(cs.struct())))
    return table(kept.columns, kept.rows())


def picture(png: bytes, alt: str) -> str:
    """A picture that needs no file beside the text."""
    return f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})"
