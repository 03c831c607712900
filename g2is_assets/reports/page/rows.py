"""Rows with their text: those that were taken, with the trace in words, and the domain's own."""

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from g2is_assets.reports.page.map import first_words
from g2is_assets.reports.page.material import Material
from g2is_assets.reports.why import taken_lines
from g2is_assets.reports.words import printable, readable

TEXT_LIMIT: Final = 4000
"""Characters of a prompt or response that are shown."""
ANSWER_LIMIT: Final = 1200
"""The same of a row with answers."""
PAGE_LIMIT: Final = 1_000_000
"""Characters that all shown texts may have together: of many rows less is shown of each."""
SUMMARY: Final = 90
"""Characters of a row's one line."""


@dataclass(frozen=True)
class Shown:
    """A row on the page.

    Attributes:
        row_id: The row.
        words: Its beginning, in one line.
        source: Its sources.
        licenses: Its licences.
        why: Why it was taken, in words; empty for a domain's own.
        texts: Heading, text and a note on what was cut, of prompt and response.
    """

    row_id: str
    words: str
    source: str
    licenses: str
    why: list[str]
    texts: list[tuple[str, str, str]]


def taken_rows(material: Material) -> list[Shown]:
    """The subset in its order."""
    own = material.target.filter(pl.col("split") == "validation")
    rows = material.subset.join(material.pool, on="row_id", how="inner", maintain_order="left")
    # A trace names rows of the subset and of the domain, no others.
    prompts = dict(pl.concat([table.select("row_id", "prompt") for table in (rows, own)]).iter_rows())
    limit = _limit(len(rows))
    return [
        _shown(row, limit, [printable(line) for line in taken_lines(row, material.made, prompts)])
        for row in rows.iter_rows(named=True)
    ]


def validation_rows(material: Material) -> list[Shown]:
    """The domain's validation rows, which steered the selection."""
    rows = material.target.filter(pl.col("split") == "validation")
    return [_shown(row, _limit(len(rows)), []) for row in rows.iter_rows(named=True)]


@dataclass(frozen=True)
class Answered:
    """A row with what the base model and the adapter answer, each text with a note on what was cut."""

    row_id: str
    texts: list[tuple[str, str, str]]


def answered_rows(material: Material) -> list[Answered]:
    """The rows whose answers were kept, by id."""
    own = material.target.unique("row_id", keep="first", maintain_order=True)
    wide = material.answers.pivot("model", index="row_id", values="response", sort_columns=True).sort("row_id")
    headings = {"prompt": "Prompt", "response": "Reference", "base": "Base model", "g2is": "This adapter"}
    return [
        Answered(row["row_id"], [(heading, *_cut(row[name], ANSWER_LIMIT)) for name, heading in headings.items()])
        for row in wide.join(own, on="row_id", how="inner", maintain_order="left").iter_rows(named=True)
    ]


def _limit(n_rows: int) -> int:
    return min(TEXT_LIMIT, PAGE_LIMIT // max(2 * n_rows, 1))


def _shown(row: dict[str, Any], limit: int, why: list[str]) -> Shown:
    return Shown(
        row_id=row["row_id"],
        words=first_words(row["prompt"], SUMMARY),
        source=printable(", ".join(row["sources"])),
        licenses=printable(", ".join(row["licenses"])),
        why=why,
        texts=[("Prompt", *_cut(row["prompt"], limit)), ("Response", *_cut(row["response"], limit))],
    )


def _cut(text: str, limit: int) -> tuple[str, str]:
    if len(text) <= limit:
        return readable(text), ""
    return readable(text[:limit]) + "…", f"The first {limit:,} of {len(text):,} characters."
