"""Pruned versions: the payload goes; the manifest, the lists of row ids and a record of what went stay for ever.

Years later they still tell which adapters contain a row. `pruned.json` is there before anything is deleted, so a
pruned version is never taken for a damaged one, and a pruning that was killed half-way can be finished.
"""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import polars as pl
from pydantic import BaseModel, ConfigDict, ValidationError

from g2is_assets.errors import StoreError
from g2is_assets.store.files import write_into
from g2is_assets.store.lake import Version, read_parquet
from g2is_assets.store.manifest import PRUNED, FileRecord, describe_bytes, describe_files
from g2is_assets.store.tombstones import expected_files, read_pending

ROW_IDS: Final = "row_ids.parquet"
"""The rows of all removed tables that had a `row_id`, each once, sorted, with what they had of `KEPT_COLUMNS`."""
KEPT_COLUMNS: Final = ("row_id", "split", "sources", "licenses")
"""Without text, and enough to tell years later which adapters hold rows of a source or a licence."""

STAYS: Final = {
    "selection/subset": {"subset.parquet", "excluded.parquet"},
    "finetune/baseline": {"rows.parquet"},
    "gradients/pool": {"index.parquet", "set_aside.parquet"},
    "gradients/target": {"index.parquet", "set_aside.parquet"},
    "study/embedding": {"index.parquet", "set_aside.parquet"},
    "study/subset": {"subset.parquet"},
    "audit/lineage": {"lineage.parquet", "links.parquet", "rows.parquet"},
}
"""Tables that stay as they are: they hold ids and numbers, no text."""


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
        version: The version.
        record: What `pruned.json` says, or will say.
        additions: Content of the files to write first, by name, in this order.
    """

    version: Version
    record: Pruned
    additions: Mapping[str, bytes]

    @property
    def doomed(self) -> list[Path]:
        """Files that are still to be deleted."""
        known = self.record.removed.keys() & self.version.manifest.files.keys()
        return [file for name in sorted(known) if (file := self.version.folder / name).exists()]

    @property
    def n_bytes(self) -> int:
        """Bytes that it frees, but for the small record."""
        return sum(file.stat().st_size for file in self.doomed) - len(self.additions.get(ROW_IDS, b""))

    def apply(self) -> None:
        """Write the record, then the row ids, then delete; killed at any moment, it can be planned and done again."""
        folder = self.version.folder
        for name, content in self.additions.items():
            write_into(folder, name, content)
        for file in self.doomed:
            file.unlink()
        for empty in _empty_folders(folder):
            empty.rmdir()


def plan_pruning(version: Version) -> Pruning | None:
    """What is to be done to prune a version; None if all of it has been done.

    Raises:
        StoreError: Its files are not those of its manifest: then somebody may need them to see what happened. Or rows
            of it are being erased: which files are the old ones could not be told afterwards.
    """
    folder, files = version.folder, expected_files(version.folder, version.manifest)
    record = read_pruned(folder)
    if record:
        rest = Pruning(version, record, {})
        if not rest.doomed and not _empty_folders(folder):
            return None
        if record.row_ids is None or _stands(folder / ROW_IDS, record.row_ids):
            return rest
    elif read_pending(folder):
        raise StoreError(f"{folder}: an erasure was begun and not finished; run the same g2is gc --erase again")
    elif describe_files(folder) != files:
        raise StoreError(f"{folder} differs from its manifest; delete it yourself if it is of no use")
    removed = {name: files[name] for name in sorted(files.keys() - STAYS.get(version.manifest.asset, set()))}
    row_ids = _row_ids(folder, removed)
    record = Pruned(
        pruned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        removed=removed,
        row_ids=None if row_ids is None else describe_bytes(row_ids),
    )
    additions = {PRUNED: _as_json(record)}
    return Pruning(version, record, additions | ({} if row_ids is None else {ROW_IDS: row_ids}))


def prune_damaged(version: Version) -> None:
    """Prune a version that is damaged and was made again: other manifests may name this one's for ever.

    The new version has the same content, and so the row ids.
    """
    record = Pruned(
        pruned_at=datetime.now(UTC).isoformat(timespec="seconds"),
        removed=version.manifest.files,
        row_ids=None,
        reason="damaged, and made again with the same content",
    )
    Pruning(version, record, {PRUNED: _as_json(record)}).apply()


NOT_USED: Final = {"left.parquet", "excluded.parquet", "withheld.parquet", "quoted.parquet"}
"""Tables of rows that were not used, or not all of them: their ids would seem to have been."""


def _empty_folders(folder: Path) -> list[Path]:
    """Folders below with no file at any depth, the deepest first."""
    folders = [path for path in folder.rglob("*") if path.is_dir()]
    return sorted((path for path in folders if not any(p.is_file() for p in path.rglob("*"))), reverse=True)


def _row_ids(folder: Path, names: Iterable[str]) -> bytes | None:
    """The row ids of these tables as a Parquet file; None if no table has any."""
    tables = [folder / name for name in sorted(names) if name.endswith(".parquet") and name not in NOT_USED]
    parts = []
    for table in tables:
        columns = read_parquet(table, n_rows=0).columns
        if "row_id" in columns:
            parts.append(read_parquet(table, [name for name in KEPT_COLUMNS if name in columns]))
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
