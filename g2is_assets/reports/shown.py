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
from g2is_assets.store.files import read_parquet, write_into
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PICTURES
from g2is_assets.store.version import Version

Draw = Callable[[Lake, Version], dict[str, bytes]]

ANSWER_SHOWN: Final = 240
"""Characters of an answer, and of what it is compared with, that are shown."""
REASON_SHOWN: Final = 900


def show(lake: Lake, version: Version, draw: Draw, n_rows: int = 5) -> dict[str, str]:
    """Markdown by name of a version that is not pruned: `tables`, `first_rows`, and each picture under its own name.

    Pictures that are not kept are drawn by `draw`: `reports.drawn.draw`, which needs seconds to load. Of text and
    numbers `n_rows` rows are shown, or none.

    Raises:
        StoreError: A file of the version is missing or damaged.
    """
    seen, asset = Seen(lake, version), version.manifest.asset
    shown = {"tables": _tables(version)}
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

    def some(self, contract: Contract, row_ids: pl.Series, *columns: str) -> pl.DataFrame:
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


def _tables(version: Version) -> str:
    """Every file of a version: how many rows, which view, and what it holds."""
    manifest, rows, lines = version.manifest, [], []
    for file, record in sorted(manifest.files.items()):
        table = file.removesuffix(".parquet")
        view = view_of(manifest.asset, table) if table in manifest.n_rows else None
        rows.append((file, manifest.n_rows.get(table), f"{record.n_bytes / 1000:,.1f}", view))
        if contract := TABLES.get((manifest.asset, table)):
            lines.append(f"* {words.escaped(str(view))}: {words.escaped(contract.meaning, 200)}")
    return words.table(("file", "rows", "kB", "view in g2is.duckdb"), rows) + "\n\n" + "\n".join(lines)


def _first_rows(seen: Seen, n_rows: int) -> str:
    """The first rows of the main table; of instructions, whose they are and what they say."""
    contract = main_table(seen.version.manifest.asset)
    rows = seen.own(contract, n_rows=n_rows)
    if "messages" in rows.columns:
        if "prompt" not in rows.columns:
            said = pl.col("messages").list.eval(pl.element().struct.field("content"))
            rows = rows.with_columns(said.list.join(" ").alias("prompt"))
        shown = ("row_id", "sources", "licenses", "prompt", "response", "n_response_tokens")
        rows = rows.select(name for name in shown if name in rows.columns)
    return words.first_rows(rows)


def _first_taken(seen: Seen, n_rows: int) -> str:
    """The first rows of a subset, each with its reason in words."""
    taken = seen.own(SUBSET, "order", "row_id").sort("order").head(n_rows)
    pool = seen.behind("instructions/pool").some(POOL, taken["row_id"], "row_id", "sources", "prompt")
    rows = taken.join(pool, on="row_id", how="left", maintain_order="left")
    reasons = first_reasons(seen.lake, seen.version, n_rows)
    cells = rows.select("row_id", "sources", "prompt").rows()
    parts = []
    for place, ((row_id, sources, prompt), reason) in enumerate(zip(cells, reasons, strict=True), start=1):
        row = f"{words.cell(row_id)} **{words.cell(sources)}**: {words.cell(prompt)}"
        parts.append(f"{place}. {row}\n\n   {words.escaped(reason, REASON_SHOWN)}")
    return "\n".join(parts)


def _first_answers(seen: Seen, n_rows: int) -> str:
    answers = seen.own(ANSWERS).pivot("model", index="row_id", values="response", sort_columns=True).head(n_rows)
    target = seen.behind("instructions/target", domain=True)
    asked = target.some(TARGET, answers["row_id"], "row_id", "prompt", "response")
    rows = answers.join(asked, on="row_id", how="left", maintain_order="left")
    columns = ("row_id", "prompt", "response", "base", "g2is")
    header = ("row", "prompt", "reference", "base model", "adapter")
    return words.table(header, rows.select(columns).rows(), limit=ANSWER_SHOWN)


PREVIEWS: Final[dict[str, Callable[[Seen, int], str]]] = {
    "selection/subset": _first_taken,
    "finetune/evaluation": _first_answers,
}
"""Assets whose first rows are not simply those of their main table."""
