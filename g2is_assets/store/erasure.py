"""Erasure: text and vectors of withdrawn rows leave every version of the lake; the record that they were there stays.

A version is rewritten under `erasing.json` (see `store.tombstones`): a row keeps its place, its text becomes empty, its
vectors zero. Then goes what may hold a copy. Killed at any moment, the lake can be read and the next erasure finishes.
"""

import io
import os
import shutil
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from g2is_assets.contracts.audit import ERASED_PAGE, PAGE, QUOTED
from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.tables import is_part
from g2is_assets.errors import REDRAW, ContractError, SettingsError, StoreError, command
from g2is_assets.hashing import known_sha256
from g2is_assets.store.features import MAPPED, copies_of
from g2is_assets.store.files import read_parquet, write_into
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import ERASED, ERASING, PRUNED, describe_bytes, describe_files
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.tombstones import (
    Change,
    Tombstone,
    as_json,
    completed_files,
    erased_rows,
    expected_files,
    read_pending,
    read_tombstones,
)
from g2is_assets.store.version import Version
from g2is_assets.store.versions import SCRATCH_NAME, assets_of, entries, partitions_of, versions_of
from g2is_assets.store.views import rebuild_views


@dataclass
class Erased:
    """What an erasure did, or would do.

    Attributes:
        versions: Versions that were rewritten, shards of vectors among them, by folder.
        pruned: Versions whose whole payload went: it is the vectors of rows, or a damaged shard.
        copies: What may have held a copy and went: mapped copies, scratch of killed runs.
        left_alone: What is damaged, so that it could not be searched, with the remedy.
    """

    versions: list[Path] = field(default_factory=list)
    pruned: list[Path] = field(default_factory=list)
    copies: list[Path] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)


def erase(
    lake: Lake, rows: Collection[str], reason: str, in_use: Iterable[tuple[str, str | None]], *, dry_run: bool = False
) -> Erased:
    """Erase rows from all versions, and finish erasures of other rows that were killed. Run it while no refresh runs.

    Args:
        lake: The lake.
        rows: Full row ids.
        reason: For the tombstones.
        in_use: Asset and partition of all current versions that must not use a row; what else there is counts as old.
        dry_run: Only report.

    Raises:
        SettingsError: A current version still uses a row; the message names the command that ends this.
        StoreError: A current version or a record is damaged, or a file cannot be written.
    """
    at = datetime.now(UTC).isoformat(timespec="seconds")
    report = Erased()
    try:
        rows = {*rows, *_erased_before(lake)}
        _require_unused(lake, rows, in_use)
        for asset in assets_of(lake):
            versions, faults = versions_of(lake, asset)
            report.left_alone += faults
            for version in versions:
                try:
                    _erase_version(lake, version, rows, (at, reason), report, dry_run)
                except (StoreError, ContractError) as error:
                    if is_part(asset) and not _is_whole(lake, version):  # computed again where it is needed
                        if not dry_run:
                            lake.retire(version.folder)
                        if dry_run or not any((version.folder / name).exists() for name in version.manifest.files):
                            report.pruned.append(version.folder)
                            continue
                    report.left_alone.append(f"{error}; it may hold the row: materialise again or delete it")
        _remove_copies(lake, report, dry_run)
        if not dry_run:
            rebuild_views(lake)
    except OSError as error:
        raise StoreError(f"{lake.root} cannot be written: {error}; mend this and erase again") from error
    return report


def _is_whole(lake: Lake, version: Version) -> bool:
    """Whether a version is as it should be, so that what went wrong is the disk's fault."""
    try:
        lake.whole(version.folder)
    except StoreError:
        return False
    return True


def _require_unused(lake: Lake, rows: Collection[str], in_use: Iterable[tuple[str, str | None]]) -> None:
    """Refuse rows that a current version still uses.

    Raises:
        SettingsError: One does; the message names the command that ends this.
    """
    users: dict[str, set[str | None]] = {}
    for asset, partition in in_use:
        version = lake.find(asset, partition)
        if version and not _rows_of(lake, version).isdisjoint(rows):
            users.setdefault(asset, set()).add(partition)
    if not users:
        return
    named = [
        f"{asset}[{p}]" if p else asset for asset, partitions in users.items() for p in sorted(partitions, key=str)
    ]
    stale = sorted({p for partitions in users.values() for p in partitions if p})
    words = " ".join(["refresh", *(f"--domain {domain}" for domain in stale)] if stale else ["refresh", "--pool"])
    raise SettingsError(f"still used by {', '.join(named)}; run {command(words)}, then erase")


def with_text(sample: pl.DataFrame) -> pl.DataFrame:
    """A sample's rows but for erased ones.

    Raises:
        StoreError: None is left.
    """
    left = sample.filter(pl.col("messages").list.len() > 0)
    if left.is_empty():
        raise StoreError(f"every row of the warmup sample was erased; draw another with {command(REDRAW)}")
    return left


def _erased_before(lake: Lake) -> set[str]:
    """Rows that some version records as erased: one that was killed may not have reached all the others."""
    found = set()
    for asset in assets_of(lake):
        for version in versions_of(lake, asset)[0]:
            with suppress(StoreError):  # reported when the version's turn comes
                found |= erased_rows(version.folder)
    return found


def _rows_of(lake: Lake, version: Version) -> set[str]:
    """Rows that a version uses: those in its tables, and those whose vectors are its directions."""
    found = _rows_as_nodes(lake, version) or set()
    for contract in version.manifest.tables:
        if "row_id" in contract.columns and contract.uses_rows:
            found |= set(read_parquet(version.folder / contract.file, ["row_id"])["row_id"])
    return found


def _rows_as_nodes(lake: Lake, version: Version) -> set[str] | None:
    """Rows whose vectors a version of `knowledge/components` holds one by one; None if that is no longer known."""
    if version.manifest.asset != "knowledge/components" or version.manifest.settings.get("nodes") != "rows":
        return set()
    made_from = version.manifest.inputs["gradients/target"].data_version
    for gradients in versions_of(lake, "gradients/target")[0]:  # pruned ones keep their index
        if (gradients.manifest.data_version, gradients.manifest.partition) == (made_from, version.manifest.partition):
            return set(read_parquet(gradients.folder / INDEX.file, ["row_id"])["row_id"])
    return None


def _erase_version(
    lake: Lake,
    version: Version,
    rows: Collection[str],
    stamp: tuple[str, str],
    report: Erased,
    dry_run: bool,
) -> None:
    folder, files = version.folder, version.manifest
    nodes = _rows_as_nodes(lake, version)
    if (folder / PRUNED).exists() or nodes is None or not nodes.isdisjoint(rows):
        if pruning := plan_pruning(folder, files):
            report.pruned.append(folder)
            if not dry_run:
                pruning.apply()
        return
    pending = read_pending(folder)
    additions, erased = _rewritten(version, rows)
    if not additions and not pending:
        return
    found = describe_files(folder)
    if found != expected_files(folder, files):
        raise StoreError(f"{folder} differs from its manifest")
    report.versions.append(folder)
    if dry_run:
        return
    now = found | {name: describe_bytes(content) for name, content in additions.items()}
    before = completed_files(folder, files)
    changes = {name: Change(old=old, new=now[name]) for name, old in before.items() if now[name] != old}
    at, reason = stamp
    everything = sorted(erased.union(pending.rows if pending else ()))
    entry = Tombstone(erased_at=at, reason=reason, rows=everything, files=changes)
    write_into(folder, ERASING, as_json([*read_tombstones(folder), entry]).encode())
    for name, content in additions.items():
        write_into(folder, name, content)
    os.replace(folder / ERASING, folder / ERASED)


def _rewritten(version: Version, rows: Collection[str]) -> tuple[dict[str, bytes], set[str]]:
    """Files of a version without these rows' text and vectors; and the rows concerned."""
    additions, erased = _without_page(version, rows)
    expected = expected_files(version.folder, version.manifest)
    for contract in (contract for contract in version.manifest.tables if contract.texts):
        file = version.folder / contract.file
        found = set(read_parquet(file, ["row_id"])["row_id"])
        if known_sha256(file) != expected[contract.file].sha256:  # then the ids may be others too
            raise StoreError(f"{version.folder} differs from its manifest")
        if found.isdisjoint(rows):
            continue
        table = read_parquet(file)
        new = _blanked(table, contract, rows)
        if not new.equals(table):
            content = io.BytesIO()
            contract.write(new, content)
            additions[contract.file] = content.getvalue()
            erased |= _differing(table, new, rows)
    return additions, erased


def _without_page(version: Version, rows: Collection[str]) -> tuple[dict[str, bytes], set[str]]:
    """A page goes as a whole if it quotes one of these rows: the next refresh makes another."""
    file = version.folder / PAGE
    if PAGE not in version.manifest.files or (file.is_file() and file.read_bytes() == ERASED_PAGE):
        return {}, set()
    quoted = set(read_parquet(version.folder / QUOTED.file, ["row_id"])["row_id"]).intersection(rows)
    return ({PAGE: ERASED_PAGE} if quoted else {}), quoted


def _blanked(table: pl.DataFrame, contract: Contract, rows: Collection[str]) -> pl.DataFrame:
    gone = pl.col("row_id").is_in(list(rows))
    return table.with_columns(
        pl.when(gone).then(column.blank(table[name])).otherwise(pl.col(name)).alias(name)
        for name, column in contract.texts.items()
        if name in table.columns
    )


def _differing(table: pl.DataFrame, new: pl.DataFrame, rows: Collection[str]) -> set[str]:
    was, then = (t.filter(pl.col("row_id").is_in(list(rows))) for t in (table, new))
    return {row for row, old, blank in zip(was["row_id"], was.rows(), then.rows(), strict=True) if old != blank}


def _remove_copies(lake: Lake, report: Erased, dry_run: bool) -> None:
    """Delete all else that may hold a copy of what was erased."""
    for asset in filter(is_part, assets_of(lake)):
        changed = {*report.versions, *report.pruned}
        parts = [version for version in versions_of(lake, asset)[0] if version.folder not in changed]
        serving = {copy for part in parts if not (part.folder / PRUNED).exists() for copy in copies_of(part).values()}
        for partition in partitions_of(lake, asset):
            copies = entries(lake.place(asset, partition) / MAPPED)
            report.copies += [copy for copy in copies if copy not in serving]
    below = [path for asset in assets_of(lake) for path in lake.place(asset).rglob(".*")]
    scratch = [path for path in [*entries(lake.root), *below] if SCRATCH_NAME.fullmatch(path.name)]
    report.copies += [path for path in scratch if path not in report.copies]
    for path in report.copies if not dry_run else ():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
