"""Which row a person means: by its id, the beginning of it, or the id that a source gave it."""

from typing import Any, Final

import polars as pl

from g2is_assets.errors import SettingsError
from g2is_assets.storage.lake import Lake, Version
from g2is_assets.storage.pruning import ROW_IDS

MIN_PREFIX: Final = 8
"""Characters of a row id from which its beginning is enough."""


def answers_to(asked: str) -> pl.Expr:
    """Whether column `row_id` is, or begins with, what was asked for."""
    whole = pl.col("row_id") == asked
    return whole | pl.col("row_id").str.starts_with(asked) if len(asked) >= MIN_PREFIX else whole


def only_one(found: list[dict[str, Any]], asked: str) -> dict[str, Any] | None:
    """The record found, if any.

    Raises:
        SettingsError: There are several.
    """
    if len(found) > 1:
        raise SettingsError(f"{len(found)} rows answer to '{asked}': {', '.join(r['row_id'] for r in found[:5])}")
    return found[0] if found else None


def find_row(lake: Lake, asked: str) -> str:
    """The id of a row that stands, or stood, in any version of the pool or of a domain's rows.

    Raises:
        SettingsError: No row or several rows answer to `asked`.
    """
    found: set[str] = set()
    for version in _versions_with_rows(lake):
        for name in ("pool", "target", "withheld", ROW_IDS.removesuffix(".parquet")):
            found |= set(_answering(version, name, asked))
    row = only_one([{"row_id": row_id} for row_id in sorted(found)], asked)
    if row is None:
        for version in _versions_with_rows(lake):
            _refuse_unusable(version, asked)
        raise SettingsError(
            f"no row in {lake.root} is or was '{asked}'; give a row id, its first {MIN_PREFIX} characters or more, or "
            "a source's id"
        )
    return str(row["row_id"])


def refuse_unusable(version: Version, asked: str) -> None:
    """Say why a row that a source calls so is not there, if it was set aside or withheld.

    Raises:
        SettingsError: It was.
    """
    _refuse_unusable(version, asked)
