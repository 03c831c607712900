"""What people see of a version in the UI: its tables, its first rows and its pictures, all of it from stored tables.

One function per asset that has pictures; the rest is the same for all. Only the columns that are drawn are read, so a
million rows cost seconds; digests are left to the verification.
"""

import base64
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.finetune import ANSWERS
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.contracts.tables import TABLES, main_table, view_of
from g2is_assets.errors import StoreError
from g2is_assets.reports import words
from g2is_assets.reports.why import first_reasons
from g2is_assets.reports.words import Cells
from g2is_assets.store.files import read_parquet, write_into
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PICTURES
from g2is_assets.store.version import Version

Draw = Callable[[Lake, Version], dict[str, bytes]]

ANSWER_SHOWN: Final = 100
"""Characters of an answer, and of what it is compared with, that are shown."""
REASON_SHOWN: Final = 160


def show(lake: Lake, version: Version, draw: Draw, n_rows: int = 5) -> dict[str, str | Cells]:
    """What there is to see of a version that is not pruned: `tables` and `first_rows`, each picture under its own name.

    Pictures that are not kept are drawn by `draw`: `reports.drawn.draw`, which needs seconds to load. Of text and
    numbers `n_rows` rows are shown, or none.

    Raises:
        StoreError: A file of the version is missing or damaged.
    """
    seen, asset = Seen(lake, version), version.manifest.asset
    shown: dict[str, str | Cells] = {"tables": _tables(version)}
    try:
        if n_rows:
            shown["first_rows"] = PREVIEWS.get(asset, _first_rows)(seen, n_rows)
        pictures = draw(lake, version) if (kept := kept_pictures(version)) is None else kept
    except MissingError as error:
        return shown | {"pictures": words.escaped(f"not drawn: {error}", limit=300)}
    return shown | {name: words.picture(png, name) for name, png in pictures.items()}


def kept_pictures(version: Version) -> dict[str, bytes] | None:
    """The pictures that were drawn when a version was written, as PNG by name; None where they are not there."""
    try:
        said = json.loads((version.folder / PICTURES).read_text(encoding="utf-8"))
        return {name: base64.b64decode(png) for name, png in said.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return None


def keep_pictures(version: Version, pictures: Mapping[str, bytes]) -> None:
    """Keep them beside the manifest, no part of the payload: they hold names and numbers, never what a row says."""
    said = {name: base64.b64encode(png).decode() for name, png in pictures.items()}
    with suppress(OSError):  # they are drawn again
        write_into(version.folder, PICTURES, json.dumps(said).encode())


class MissingError(StoreError):
    """What a version was made from is no longer there, as happens to old ones."""


class Seen:
    """A version, and tables of what it was made from."""

    def __init__(self, lake: Lake, version: Version) -> None:
        self.lake, self.version, self.metrics = lake, version, version.manifest.metrics

    def own(self, contract: Contract, *columns: str, n_rows: int | None = None) -> pl.DataFrame:
        """A table of the version: these columns, or all."""
        return read_parquet(self.version.folder / contract.file, list(columns) or None, n_rows)

    def some(self, contract: Contract, row_ids: pl.Series, *columns: str | pl.Expr) -> pl.DataFrame:
        """Some rows of a table: these columns."""
        file = pl.scan_parquet(self.version.folder / contract.file, glob=False)
        return file.filter(pl.col("row_id").is_in(row_ids.implode())).select(columns).collect()

    def behind(self, asset: str, *, domain: bool = False) -> "Seen":
        """An asset that the version was made from."""
        partition = self.version.manifest.partition if domain else None
        try:
            return Seen(self.lake, self.lake.input_of(self.version, asset, partition))
        except StoreError as error:
            raise MissingError(str(error)) from error


def _tables(version: Version) -> Cells:
    """Every file of a version: how many rows, which view, and what it holds."""
    manifest = version.manifest
    rows: Cells = []
    for file, record in sorted(manifest.files.items()):
        table = file.removesuffix(".parquet")
        contract = TABLES.get((manifest.asset, table))
        rows.append(
            {
                "file": file,
                "rows": manifest.n_rows.get(table),
                "kB": -(-record.n_bytes // 1000),
                "view in g2is.duckdb": view_of(manifest.asset, table) if table in manifest.n_rows else None,
                "meaning": contract.meaning if contract else None,
            }
        )
    return rows


def _first_rows(seen: Seen, n_rows: int) -> Cells:
    """The first rows of the main table; of instructions, whose they are and what they say."""
    contract = main_table(seen.version.manifest.asset)
    rows = seen.own(contract, n_rows=n_rows)
    if "messages" in rows.columns:
        if "prompt" not in rows.columns:
            said = pl.col("messages").list.eval(pl.element().struct.field("content"))
            rows = rows.with_columns(said.list.join(" ").alias("prompt"))
        shown = ("row_id", "sources", "licenses", "prompt", "response", "n_response_tokens")
        rows = rows.select(name for name in shown if name in rows.columns)
    return words.cells(rows)


def _first_taken(seen: Seen, n_rows: int) -> Cells:
    """The first rows of a subset, each with its reason in words."""
    taken = seen.own(SUBSET, "order", "row_id").sort("order").head(n_rows)
    pool = seen.behind("instructions/pool").some(POOL, taken["row_id"], "row_id", "sources", "prompt")
    rows = taken.join(pool, on="row_id", how="left", maintain_order="left")
    reasons = pl.Series("why", first_reasons(seen.lake, seen.version, n_rows), dtype=pl.String)
    return words.cells(rows.select("row_id", "sources", "prompt", reasons), REASON_SHOWN)


def _first_answers(seen: Seen, n_rows: int) -> Cells:
    said = seen.own(ANSWERS)
    answers = said.pivot("model", index="row_id", values=["response", "right"], sort_columns=True).head(n_rows)
    target = seen.behind("instructions/target", domain=True)
    asked = target.some(TARGET, answers["row_id"], "row_id", "prompt", pl.col("response").alias("reference"))
    rows = answers.join(asked.unique("row_id"), on="row_id", how="left", maintain_order="left")
    names = {"base model": "response_base", "adapter": "response_g2is", "right before": "right_base"}
    if rows.is_empty():
        return []
    shown = rows.select("row_id", "prompt", "reference", **names, **{"right now": "right_g2is"})
    return words.cells(shown, ANSWER_SHOWN)


PREVIEWS: Final[dict[str, Callable[[Seen, int], Cells]]] = {
    "selection/subset": _first_taken,
    "finetune/evaluation": _first_answers,
}
"""Assets whose first rows are not simply those of their main table."""
