"""Garbage collection: old versions are pruned, and what no unpruned version refers to leaves the lake.

What changed lately may belong to a run in progress and stays, as does all whose use cannot be told because a file is
damaged. Killed at any moment, the next collection finishes. The folder of models is left alone.
"""

import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from g2is_assets.contracts.tables import is_part, owners_of
from g2is_assets.errors import StoreError
from g2is_assets.store.features import MAPPED, copies_of
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import PRUNED, read_manifest
from g2is_assets.store.pruning import plan_pruning
from g2is_assets.store.serving import SERVED, needed_names
from g2is_assets.store.version import Version
from g2is_assets.store.versions import SCRATCH_NAME, assets_of, entries, partitions_of, version_folders
from g2is_assets.store.views import rebuild_views

VERSIONS: Final = "old versions"
PARTS: Final = "parts of versions"
COPIES: Final = "mapped copies"
SCRATCH: Final = "scratch of killed runs"
KINDS: Final = (VERSIONS, PARTS, COPIES, SCRATCH)


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


def collect_garbage(
    lake: Lake, keep_versions: int, min_age_s: float, domains: Collection[str] | None = None, *, dry_run: bool = False
) -> Report:
    """Prune versions beyond `keep_versions` per asset and partition, then remove what nothing refers to.

    Best run while no refresh runs: one that has begun may come to refer to old shards that nothing else needs.

    Args:
        lake: The lake.
        keep_versions: How many versions stay whole: the current one and the newest others.
        min_age_s: What changed less than so many seconds ago stays.
        domains: Where it is given, no version of any other domain is kept whole, not even what is current or served.
        dry_run: Only report.

    Raises:
        StoreError: A file cannot be read or deleted; what is gone by then was garbage.
    """
    sweep = _Sweep(lake, keep_versions, time.time() - min_age_s, domains, dry_run)
    try:
        for asset in sorted(assets_of(lake), key=is_part):
            sweep.asset(asset)
        sweep.scratch(lake.root)
        if sweep.report.removed and not dry_run:
            rebuild_views(lake)
    except OSError as error:
        raise StoreError(f"{lake.root} cannot be cleaned up: {error}; mend this and run again") from error
    return sweep.report


class _Sweep:
    """One collection under way. What a dry run would remove counts as gone, so that it reports what a real one does."""

    def __init__(
        self, lake: Lake, keep_versions: int, newest: float, domains: Collection[str] | None, dry_run: bool
    ) -> None:
        self.lake, self.keep_versions, self.newest, self.dry_run = lake, keep_versions, newest, dry_run
        self.domains = domains
        self.report = Report()
        self.gone: set[Path] = set()
        self.needed: set[Path] = set()
        self.unread: set[str] = set()

    def asset(self, asset: str) -> None:
        """One asset; parts come after the assets whose versions are made of them."""
        owners = owners_of(asset)
        if owners & self.unread:
            self.report.left_alone.append(f"{self.lake.place(asset)}: all stays as long as a version cannot be read")
        for partition in partitions_of(self.lake, asset):
            place = self.lake.place(asset, partition)
            versions, all_read = self.versions(asset, partition)
            if not all_read:
                self.unread.add(asset)
            if owners & self.unread:
                kept = versions
            elif owners:
                kept = self.prune([v for v in versions if v.folder not in self.needed], versions)
            else:
                kept = self.prune(self.outdated(asset, partition, versions), versions)
            self.need_parts_of(kept)
            self.scratch(place)
            self.copies(place, kept)

    def versions(self, asset: str, partition: str | None) -> tuple[list[Version], bool]:
        """A partition's unpruned versions, and whether all could be read; prunings that were begun are finished."""
        found, all_read = [], True
        for folder in version_folders(self.lake, asset, partition):
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

    def outdated(self, asset: str, partition: str | None, versions: list[Version]) -> list[Version]:
        """All but the current, the newest, the served one and that before it; all of a domain that is to go."""
        if self.domains is not None and partition and partition.split(".")[0] not in self.domains:
            if not self.dry_run and not any(self.is_young(version.folder) for version in versions):
                for pointer in ("current.json", SERVED):  # first: readers follow none to what is pruned
                    (self.lake.place(asset, partition) / pointer).unlink(missing_ok=True)
            return versions
        try:
            current = self.lake.find(asset, partition)
            served = needed_names(self.lake.place(asset, partition))
        except StoreError as error:  # which one readers follow is unknown
            self.report.left_alone.append(str(error))
            return []
        name = current.folder.name if current else None
        by_age = sorted(
            versions, key=lambda v: (v.folder.name == name, v.manifest.created_at, v.folder.name), reverse=True
        )
        return [version for version in by_age[self.keep_versions :] if version.folder.name not in served]

    def prune(self, doomed: list[Version], versions: list[Version]) -> list[Version]:
        """Prune these of a partition's versions but for young ones; returns those that were not pruned."""
        pruned = set()
        for version in doomed:
            try:
                if not self.is_young(version.folder):
                    self.prune_version(version)
                    pruned.add(version.folder)
            except StoreError as error:
                self.report.left_alone.append(str(error))
        return [version for version in versions if version.folder not in pruned]

    def prune_version(self, version: Version) -> None:
        """Prune a version, or finish what was begun."""
        if pruning := plan_pruning(version.folder, version.manifest):
            kind = PARTS if is_part(version.manifest.asset) else VERSIONS
            self.report.removed.append(Removed(kind, version.folder, pruning.n_bytes))
            if not self.dry_run:
                pruning.apply()

    def need_parts_of(self, versions: list[Version]) -> None:
        """What these versions are made of stays."""
        for version in versions:
            for name, said in version.manifest.parts.items():
                if part := self.lake.find_part(name, said.data_version):
                    self.needed.add(part.folder)

    def copies(self, place: Path, kept: list[Version]) -> None:
        """Mapped copies of what is not there, or not so."""
        serving = {copy for version in kept for copy in copies_of(version).values()}
        for copy in entries(place / MAPPED):
            if copy not in serving and not SCRATCH_NAME.fullmatch(copy.name) and not self.is_young(copy):
                self.drop(COPIES, copy)
        self.scratch(place / MAPPED)

    def scratch(self, folder: Path) -> None:
        """What writers that were killed left in a folder."""
        for entry in entries(folder):
            if SCRATCH_NAME.fullmatch(entry.name) and not self.is_young(entry):
                self.drop(SCRATCH, entry)

    def is_young(self, path: Path) -> bool:
        """Whether a file there changed lately; of a folder without files, the folder."""
        files = self.files(path) or [path]
        return not max(file.lstat().st_mtime for file in files) <= self.newest

    def files(self, path: Path) -> list[Path]:
        """Files at or below a path that are not gone yet."""
        found = path.rglob("*") if _is_folder(path) else [path]
        return [file for file in found if not _is_folder(file) and file not in self.gone]

    def drop(self, kind: str, path: Path) -> None:
        """Remove a file or a folder."""
        files = self.files(path)
        self.report.removed.append(Removed(kind, path, sum(file.lstat().st_size for file in files)))
        self.gone.update(files)
        if self.dry_run:
            return
        if _is_folder(path):
            shutil.rmtree(path)
        else:
            path.unlink()


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
