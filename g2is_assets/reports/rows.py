"""Which row a person means: by its id, the beginning of it, or the id that a source gave it."""

from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.instructions import REJECTED, WITHHELD
from g2is_assets.contracts.tables import main_table
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import ROW_IDS
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of

MIN_PREFIX: Final = 8
"""Characters of a row id from which its beginning is enough."""


def answers_to(asked: str) -> pl.Expr:
    """Whether column `row_id` is, or begins with, what was asked for."""
    whole = pl.col("row_id") == asked
    return whole | pl.col("row_id").str.starts_with(asked) if len(asked) >= MIN_PREFIX else whole


def only_one(found: list[dict[str, Any]], asked: str) -> dict[str, Any] | None:
    """The record found, if any; several are a SettingsError."""
    if len(found) > 1:
        raise SettingsError(f"{len(found)} rows answer to '{asked}': {', '.join(r['row_id'] for r in found[:5])}")
    return found[0] if found else None


def find_row(lake: Lake, asked: str) -> str:
    """The id of a row that stands, or stood, in any version of the pool or of a domain's rows.

    Raises:
        SettingsError: No row or several rows answer to `asked`.
    """
    found: set[str] = set()
    versions = [version for asset in WITHHELD.assets for version in versions_of(lake, asset)[0]]
    for version in versions:
        for file in (main_table(version.manifest.asset).file, WITHHELD.file, ROW_IDS):
            found |= _answering(version.folder / file, asked)
    if row := only_one([{"row_id": row_id} for row_id in sorted(found)], asked):
        return str(row["row_id"])
    for version in versions:
        say_why_not(version, asked)
    raise SettingsError(
        f"no row in {lake.root} is or was '{asked}'; give a row id, its first {MIN_PREFIX} characters or more, or a "
        "source's id"
    )


def say_why_not(version: Version, asked: str) -> None:
    """Refuse a row that an instructions version lists as unusable or withheld, with the reason that it gives.

    Raises:
        SettingsError: It lists such a row.
    """
    line = _first(version, REJECTED, pl.col("id") == asked)
    if line:
        raise SettingsError(f"row '{asked}' was set aside ({line['file']}, line {line['line']}): {line['reason']}")
    line = _first(version, WITHHELD, answers_to(asked) | pl.col("ids").list.contains(asked))
    if line:
        raise SettingsError(f"row {line['row_id']} may not be used ({line['reason']}): {line['detail']}")


def _answering(file: Path, asked: str) -> set[str]:
    table = _table(file, ("row_id", "ids"))
    if table is None:
        return set()
    rule = answers_to(asked) | pl.col("ids").list.contains(asked) if "ids" in table.columns else answers_to(asked)
    return set(table.filter(rule)["row_id"])


def _table(file: Path, columns: Collection[str]) -> pl.DataFrame | None:
    """Those of the columns that a table has; None if it is gone or damaged, for other versions know the row too."""
    try:
        there = read_parquet(file, n_rows=0).columns
        return read_parquet(file, [column for column in there if column in columns])
    except StoreError:
        return None


def _first(version: Version, contract: Contract, rule: pl.Expr) -> dict[str, Any] | None:
    table = _table(version.folder / contract.file, contract.columns)
    if table is None or not contract.columns.keys() <= set(table.columns):
        return None
    return next(table.filter(rule).iter_rows(named=True), None)
