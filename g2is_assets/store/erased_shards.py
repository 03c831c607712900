"""Erasing vectors from gradient stores: a shard is written anew, under a name of its own, and the old one goes last.

The new shard has a zero vector in the erased row's place, so every other row keeps its position. As long as a version
may still name the old shard, both are there; killed at any moment, the next erasure finds what is left to do.
"""

import hashlib
import io
import json
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.errors import StoreError
from g2is_assets.hashing import file_sha256
from g2is_assets.store.files import read_parquet, write_atomically
from g2is_assets.store.gradient_store import ERASED_ROW, STORE, shard_files
from g2is_assets.store.lake import Lake
from g2is_assets.store.mapped import MAPPED
from g2is_assets.store.versions import assets_of, entries, folders


@dataclass(frozen=True)
class Moved:
    """A shard that held vectors to erase, and the one in its place.

    Attributes:
        store: The store's folder.
        old: The shard's name and digest.
        new: Name and digest of the shard in its place.
        rows: The rows erased in it now.
    """

    store: Path
    old: tuple[str, str]
    new: tuple[str, str]
    rows: list[str]

    def remove_old(self) -> None:
        """Delete the old shard, once no version names it."""
        for file in shard_files(self.store, self.old[0]):
            file.unlink()


def stores_of(lake: Lake) -> list[Path]:
    """The folders of all gradient stores."""
    return [store for asset in assets_of(lake) for store in folders(lake.place(asset) / STORE)]


def erase_vectors(store: Path, rows: Collection[str], erased_at: str, *, dry_run: bool = False) -> list[Moved]:
    """Put a shard without vectors of these rows beside each one that has some; the old ones stay for now.

    Raises:
        StoreError: The record of a shard is damaged.
    """
    moved = []
    for name, record in list(_records(store)):
        asked = set(rows) - _erased(record)
        table = _whole_shard(store, name, record, asked)
        if table is None:
            continue
        gone = pl.col("row_id").is_in(list(asked))
        here = sorted(table.filter(gone)["row_id"])
        content = io.BytesIO()
        table.with_columns(
            pl.when(gone).then(_zero(column, dtype)).otherwise(pl.col(column)).alias(column)
            for column, dtype in table.schema.items()
            if column.startswith(("features_", "norm_"))
        ).write_parquet(content, compression="uncompressed", statistics=False)
        sha256 = hashlib.sha256(content.getvalue()).hexdigest()
        new = f"{name.split('-')[0]}-{sha256[:8]}"
        moved.append(Moved(store, (name, record["sha256"]), (new, sha256), here))
        if not dry_run:
            scratch = store / f".{new}.parquet"
            scratch.write_bytes(content.getvalue())
            os.replace(scratch, store / f"{new}.parquet")
            change = {"rows": here, "shard": name, "old": record["sha256"], "new": sha256, "erased_at": erased_at}
            record["set_aside"] |= dict.fromkeys(here, ERASED_ROW)
            record |= {"sha256": sha256, "erased": [*record.get("erased", []), change]}
            write_atomically(store / f"{new}.shard.json", json.dumps(record, sort_keys=True) + "\n")
    return moved


def erased_rows(store: Path) -> set[str]:
    """Rows whose vectors were erased from some shard of a store."""
    return {row for _, record in _records(store) for row in _erased(record)}


def find_leftovers(store: Path, rows: Collection[str], leaving: Collection[str]) -> list[Path]:
    """Files of a store that serve nobody and hold, or may hold, vectors of these rows.

    They are shards without a whole record, which are computed again in any case, and mapped copies of shards that are
    not there.

    Args:
        store: The store's folder.
        rows: The rows to erase.
        leaving: Shards that are deleted otherwise.
    """
    found = []
    records = dict(_records(store))
    for file in entries(store):
        name = file.name.removesuffix(".parquet")
        if file.suffix != ".parquet" or file.name.startswith(".") or name in leaving:
            continue
        if _may_hold(file, rows) and (name not in records or file_sha256(file) != records[name]["sha256"]):
            found += shard_files(store, name)
    alive = {(name, record["sha256"][:16]) for name, record in records.items() if name not in leaving}
    for copy in entries(store / MAPPED):
        parts = copy.name.split(".")  # shard, kind, digest, npy
        if copy not in found and parts[0] not in leaving and (len(parts) != 4 or (parts[0], parts[2]) not in alive):
            found.append(copy)
    return found


def _records(store: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for file in entries(store):
        if file.name.endswith(".shard.json") and not file.name.startswith("."):
            try:
                record = json.loads(file.read_text(encoding="utf-8"))
                yield file.name.removesuffix(".shard.json"), record | {"set_aside": dict(record["set_aside"])}
            except (ValueError, KeyError, TypeError) as error:
                raise StoreError(
                    f"{file} is damaged ({type(error).__name__}); delete it and materialise the gradients again"
                ) from error


def _erased(record: dict[str, Any]) -> set[str]:
    return {row for row, reason in record["set_aside"].items() if reason == ERASED_ROW}


def _whole_shard(store: Path, name: str, record: dict[str, Any], rows: Collection[str]) -> pl.DataFrame | None:
    """The shard, if it is whole and holds some of these rows."""
    file = store / f"{name}.parquet"
    try:
        if set(rows).isdisjoint(read_parquet(file, ["row_id"])["row_id"]):
            return None
        return read_parquet(file) if file_sha256(file) == record["sha256"] else None
    except (StoreError, OSError):
        return None  # no whole shard: among the leftovers


def _may_hold(file: Path, rows: Collection[str]) -> bool:
    try:
        return not set(rows).isdisjoint(read_parquet(file, ["row_id"])["row_id"])
    except StoreError:
        return True


def _zero(column: str, dtype: pl.DataType) -> pl.Expr:
    if isinstance(dtype, pl.Array):
        return pl.lit(pl.Series(column, [[0.0] * dtype.size], dtype=dtype))
    return pl.lit(0.0, dtype=dtype)
