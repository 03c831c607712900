"""Garbage collection: old versions are pruned, and what no unpruned version refers to leaves the lake.

What changed lately may belong to a run in progress and stays, as does all whose use cannot be told because a file is
damaged. Killed at any moment, the next collection finishes. The folder of models is left alone.
"""

import json
import re
import shutil
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from g2is_assets.contracts.gradients import INDEX, SET_ASIDE
from g2is_assets.errors import ContractError, StoreError
from g2is_assets.store.gradient_store import STORE, shard_files
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PRUNED, read_manifest
from g2is_assets.store.mapped import MAPPED
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.serving import served_name
from g2is_assets.store.version import Version
from g2is_assets.store.versions import SCRATCH_NAME, VERSION_NAME, assets_of, entries, folders, partitions_of
from g2is_assets.store.views import rebuild_views

VERSIONS: Final = "old versions"
SHARDS: Final = "gradient shards"
STORES: Final = "gradient stores"
COPIES: Final = "mapped copies"
SCRATCH: Final = "scratch of killed runs"
KINDS: Final = (VERSIONS, SHARDS, STORES, COPIES, SCRATCH)


@dataclass(frozen=True)
class Removed:
    """One thing that left the lake, or would leave it: its kind, its place and the bytes that this frees."""

    kind: str
    path: Path
    n_bytes: int


@dataclass
class Report:
    """What a collection removed, and what it left alone because it is damaged, each with the reason."""

    removed: list[Removed] = field(default_factory=list)
    left_alone: list[str] = field(default_factory=list)


@dataclass
class _References:
    """What unpruned versions refer to in one store: shards by name and digest, and rows set aside."""

    shards: set[tuple[str, str]] = field(default_factory=set)
    set_aside: set[str] = field(default_factory=set)
    all_known: bool = True

    def cover(self, shard: str, sha256: str | None, set_aside: set[str]) -> bool:
        """Whether a shard serves a version; one without a record, hence digest, by its name."""
        if sha256 is None:
            return any(name == shard for name, _ in self.shards)
        return (shard, sha256) in self.shards or not self.set_aside.isdisjoint(set_aside)


def collect_garbage(lake: Lake, keep_versions: int, min_age_s: float, *, dry_run: bool = False) -> Report:
    """Prune versions beyond `keep_versions` per asset and partition, then remove what nothing refers to.

    Best run while no refresh runs: one that has begun may come to refer to old shards that nothing else needs.

    Args:
        lake: The lake.
        keep_versions: How many versions stay whole: the current one and the newest others.
        min_age_s: What changed less than so many seconds ago stays.
        dry_run: Only report.

    Raises:
        StoreError: A file cannot be read or deleted; what is gone by then was garbage.
    """
    sweep = _Sweep(lake, keep_versions, time.time() - min_age_s, dry_run)
    try:
        for asset in assets_of(lake):
            sweep.asset(asset)
        sweep.scratch(lake.root)
        if sweep.report.removed and not dry_run:
            rebuild_views(lake)
    except OSError as error:
        raise StoreError(f"{lake.root} cannot be cleaned up: {error}; mend this and run again") from error
    return sweep.report


class _Sweep:
    """One collection under way. What a dry run would remove counts as gone, so that it reports what a real one does."""

    def __init__(self, lake: Lake, keep_versions: int, newest: float, dry_run: bool) -> None:
        self.lake, self.keep_versions, self.newest, self.dry_run = lake, keep_versions, newest, dry_run
        self.report = Report()
        self.gone: set[Path] = set()

    def asset(self, asset: str) -> None:
        """One asset: its versions first, since only then is it clear what they refer to."""
        folder = self.lake.place(asset)
        kept, all_read = [], True
        for partition in partitions_of(self.lake, asset):
            place = self.lake.place(asset, partition)
            versions, could_read = self.versions(place)
            kept += self.prune(asset, partition, versions)
            all_read &= could_read
            self.scratch(place)
        stores = folders(folder / STORE)
        if stores and not all_read:
            self.report.left_alone.append(f"{folder / STORE}: its shards stay as long as a version cannot be read")
        used = self.references(kept) if stores and all_read else None
        for store in stores:
            self.scratch(store)
            self.scratch(store / MAPPED)
            if used is not None and used.get(store.name, _References()).all_known:
                self.store(store, used.get(store.name))

    def versions(self, place: Path) -> tuple[list[Version], bool]:
        """The unpruned versions of a place, and whether all could be read; prunings that were begun are finished."""
        found, all_read = [], True
        for folder in folders(place):
            if not VERSION_NAME.fullmatch(folder.name):
                continue
            try:
                version = Version(folder, read_manifest(folder))
                if (folder / PRUNED).exists():
                    self.prune_version(version)
                else:
                    found.append(version)
            except StoreError as error:
                self.report.left_alone.append(f"{error}, or delete {folder.name} if it is of no use")
                all_read = False
        return found, all_read

    def prune(self, asset: str, partition: str | None, versions: list[Version]) -> list[Version]:
        """Prune all but the current, the served and the newest versions; returns those that were not pruned."""
        try:
            current = self.lake.find(asset, partition)
            served = served_name(self.lake.place(asset, partition))
        except StoreError as error:  # which one readers follow is unknown
            self.report.left_alone.append(str(error))
            return versions
        name = current.folder.name if current else None
        versions = sorted(
            versions, key=lambda v: (v.folder.name == name, v.manifest.created_at, v.folder.name), reverse=True
        )
        kept = versions[: self.keep_versions]
        for version in versions[self.keep_versions :]:
            try:
                if version.folder.name == served or self.is_young(version.folder):
                    kept.append(version)
                else:
                    self.prune_version(version)
            except StoreError as error:
                self.report.left_alone.append(str(error))
                kept.append(version)
        return kept

    def prune_version(self, version: Version) -> None:
        """Prune a version, or finish what was begun."""
        if pruning := plan_pruning(version.folder, version.manifest):
            self.report.removed.append(Removed(VERSIONS, version.folder, pruning.n_bytes))
            if not self.dry_run:
                pruning.apply()

    def references(self, versions: Iterable[Version]) -> dict[str, _References]:
        """What these versions refer to, by store; versions of other assets than gradients name no store."""
        used: dict[str, _References] = {}
        for version in versions:
            if "store" not in version.manifest.settings:
                continue
            references = used.setdefault(str(version.manifest.settings["store"]), _References())
            try:
                index, set_aside = version.read(INDEX), version.read(SET_ASIDE)
            except (StoreError, ContractError, KeyError) as error:
                self.report.left_alone.append(f"{error}; the shards of its store stay")
                references.all_known = False
                continue
            references.shards.update(index.select("shard", "sha256").unique().iter_rows())
            references.set_aside.update(set_aside["row_id"])
        return used

    def store(self, store: Path, used: _References | None) -> None:
        """A store's shards that serve no version; the whole store if no shard is left and no version names it."""
        alive: dict[str, str | None] = {}
        for name in _shards(store):
            files = shard_files(store, name)
            try:
                sha256, set_aside = _read_record(store / f"{name}.shard.json")
            except StoreError as error:
                self.report.left_alone.append(str(error))
                alive[name] = None
                continue
            if (used and used.cover(name, sha256, set_aside)) or self.is_young(*files):
                alive[name] = sha256
            else:
                self.drop(SHARDS, *files)
        for copy in entries(store / MAPPED):
            parts = copy.name.split(".")  # shard, kind, digest, npy
            if copy in self.gone or len(parts) != 4 or not all(parts):
                continue
            sha256 = alive.get(parts[0], "")
            if sha256 is not None and sha256[:16] != parts[2] and not self.is_young(copy):
                self.drop(COPIES, copy)
        if not alive and used is None and not self.is_young(store):
            self.drop(STORES, store)

    def scratch(self, folder: Path) -> None:
        """What writers that were killed left in a folder."""
        for entry in entries(folder):
            if SCRATCH_NAME.fullmatch(entry.name) and not self.is_young(entry):
                self.drop(SCRATCH, entry)

    def is_young(self, *paths: Path) -> bool:
        """Whether a file there changed lately; of a folder without files, the folder."""
        files = self.files(*paths) or list(paths)
        return not max(file.lstat().st_mtime for file in files) <= self.newest

    def files(self, *paths: Path) -> list[Path]:
        """Files at or below these paths that are not gone yet."""
        found = [file for path in paths for file in (path.rglob("*") if _is_folder(path) else [path])]
        return [file for file in found if not _is_folder(file) and file not in self.gone]

    def drop(self, kind: str, *paths: Path) -> None:
        """Remove files or a folder, in this order."""
        files = self.files(*paths)
        self.report.removed.append(Removed(kind, paths[0], sum(file.lstat().st_size for file in files)))
        self.gone.update(files)
        for path in paths if not self.dry_run else ():
            if _is_folder(path):
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _shards(store: Path) -> list[str]:
    """Names of all shards with a record, a table or both."""
    match = re.compile(r"([^.]+)(\.shard\.json|\.parquet)").fullmatch
    return sorted({found[1] for entry in entries(store) if (found := match(entry.name))})


def _read_record(file: Path) -> tuple[str | None, set[str]]:
    """Digest and set-aside rows of a shard; no digest if it has no record, and then the shard does not count.

    Raises:
        StoreError: The record is damaged.
    """
    if not file.exists():
        return None, set()
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        return str(record["sha256"]), set(record["set_aside"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StoreError(f"{file} is damaged ({type(error).__name__}); materialise the gradients again") from error
