"""Pruned versions: the payload goes; the manifest, the lists of row ids and a record of what went stay for ever.

Years later they still tell which adapters contain a row. `pruned.json` is there before anything is deleted, so a
pruned version is never taken for a damaged one, and a pruning that was killed half-way can be finished.
"""

import io
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from g2is_assets.contracts.tables import tables_of
from g2is_assets.errors import StoreError
from g2is_assets.store.files import read_parquet, write_into
from g2is_assets.store.manifest import PICTURES, PRUNED, FileRecord, Manifest, describe_bytes, describe_files
from g2is_assets.store.tombstones import completed_files, expected_files, read_pending

ROW_IDS: Final = "row_ids.parquet"
"""The rows of all tables that went and had a `row_id`, each once, sorted, with what they had of columns `kept`."""


class Pruned(BaseModel):
    """What `pruned.json` says.

    Attributes:
        pruned_at: When, UTC.
        removed: The removed files with size and digest as in the manifest, or as its tombstones left them.
        row_ids: Size and digest of `row_ids.parquet`, if there is one.
        reason: Why it was pruned before its time; None of a version that had grown old.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pruned_at: str
    removed: dict[str, FileRecord]
    row_ids: FileRecord | None
    reason: str | None = None


def read_pruned(folder: Path) -> Pruned | None:
    """The record of a pruned version, None of one that was not pruned.

    Raises:
        StoreError: It is damaged.
    """
    file = folder / PRUNED
    try:
        return Pruned.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise StoreError(f"{file} is damaged ({type(error).__name__}); restore it from a backup") from error


@dataclass(frozen=True)
class Pruning:
    """What is still to do until a version is pruned.

    Attributes:
        folder, manifest: The version.
        record: What `pruned.json` says, or will say.
        additions: Content of the files to write first, by name, in this order.
    """

    folder: Path
    manifest: Manifest
    record: Pruned
    additions: Mapping[str, bytes]

    @property
    def doomed(self) -> list[Path]:
        """Files that are still to be deleted."""
        known = self.record.removed.keys() & self.manifest.files.keys()
        return [file for name in sorted(known) if (file := self.folder / name).exists()]

    @property
    def n_bytes(self) -> int:
        """Bytes that it frees, but for the small record."""
        return sum(file.stat().st_size for file in self.doomed) - len(self.additions.get(ROW_IDS, b""))

    def apply(self) -> None:
        """Write the record, then the row ids, then delete; killed at any moment, it can be planned and done again."""
        for name, content in self.additions.items():
            write_into(self.folder, name, content)
        for file in self.doomed:
            file.unlink()
        (self.folder / PICTURES).unlink(missing_ok=True)
        for empty in _empty_folders(self.folder):
            empty.rmdir()


def staying_files(asset: str) -> set[str]:
    """Files of an asset's versions that stay as they are when one is pruned because it has grown old."""
    return {contract.file for contract in tables_of(asset) if contract.pruned == "whole"}


def plan_pruning(folder: Path, manifest: Manifest) -> Pruning | None:
    """What is to be done to prune a version; None if all of it has been done.

    Raises:
        StoreError: Its files are not those of its manifest: then somebody may need them to see what happened. Or rows
            of it are being erased: which files are the old ones could not be told afterwards. Or it has a table that
            this version of the project does not know.
    """
    files, record = expected_files(folder, manifest), read_pruned(folder)
    if record:
        rest = Pruning(folder, manifest, record, {})
        if not rest.doomed and not _empty_folders(folder):
            return None
        if record.row_ids is None or _stands(folder / ROW_IDS, record.row_ids):
            return rest
    elif read_pending(folder):
        raise StoreError(f"{folder}: an erasure was begun and not finished; erase the same rows again")
    elif describe_files(folder) != files:
        raise StoreError(f"{folder} differs from its manifest; delete it yourself if it is of no use")
    row_ids = _row_ids(folder, manifest)
    record = Pruned(
        pruned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        removed={name: files[name] for name in sorted(files.keys() - staying_files(manifest.asset))},
        row_ids=None if row_ids is None else describe_bytes(row_ids),
    )
    additions = {PRUNED: _as_json(record)} | ({} if row_ids is None else {ROW_IDS: row_ids})
    return Pruning(folder, manifest, record, additions)


def prune_damaged(folder: Path, manifest: Manifest) -> None:
    """Prune a version that is damaged and was made again: other manifests may name this one's for ever.

    The new version has the same content, and so the row ids.
    """
    removed = manifest.files
    with suppress(StoreError):  # the record of an erasure is what is damaged
        removed = completed_files(folder, manifest)
    record = Pruned(
        pruned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        removed=removed,
        row_ids=None,
        reason="damaged, and made again with the same content",
    )
    Pruning(folder, manifest, record, {PRUNED: _as_json(record)}).apply()


def _empty_folders(folder: Path) -> list[Path]:
    """Folders below with no file at any depth, the deepest first."""
    folders = [path for path in folder.rglob("*") if path.is_dir()]
    return sorted((path for path in folders if not any(p.is_file() for p in path.rglob("*"))), reverse=True)


def _row_ids(folder: Path, manifest: Manifest) -> bytes | None:
    """The row ids of the tables of which they stay, as a Parquet file; None if no table has any."""
    parts = []
    for contract in manifest.tables:
        if contract.pruned == "ids":
            there = read_parquet(folder / contract.file, n_rows=0).columns
            kept = [name for name, column in contract.columns.items() if column.kept and name in there]
            if "row_id" in kept:
                parts.append(read_parquet(folder / contract.file, kept))
    if not parts:
        return None
    row_ids = pl.concat(parts, how="diagonal").unique("row_id", keep="first", maintain_order=True)
    content = io.BytesIO()
    row_ids.sort("row_id").write_parquet(content, compression="zstd")
    return content.getvalue()


def _as_json(record: Pruned) -> bytes:
    return (record.model_dump_json(indent=2) + "\n").encode()


def _stands(file: Path, record: FileRecord) -> bool:
    return file.exists() and describe_bytes(file.read_bytes()) == record
