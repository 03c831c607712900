"""Which adapters, past and present, were exposed to a row, and how.

Every adapter's chain is followed; manifests and row ids are never pruned, so old adapters answer too.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.finetune import ADAPTER_LOG, BASELINE_LOG
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.contracts.study import ADAPTER
from g2is_assets.contracts.tables import TABLES, tables_of
from g2is_assets.errors import StoreError
from g2is_assets.settings.parsing import license_name
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of
from g2is_assets.trail.chain import Manifests, follow, rows_file

TRAINED: Final = "trained on"
BASELINE: Final = "random baseline"
SELECTED: Final = "selected"
WARMUP: Final = "warmup"
VALIDATION: Final = "validation"
TEST: Final = "test"
KINDS: Final = {
    TRAINED: "in the subset that the adapter was trained on",
    BASELINE: "in the random subset that a baseline was trained on",
    SELECTED: "in a subset that no adapter was trained on",
    WARMUP: "in the warmup sample: it shaped the checkpoint whose gradients chose the adapter's rows",
    VALIDATION: "in the domain's validation rows: it steered the selection and chose the epoch",
    TEST: "in the domain's test rows: the adapter was measured on it",
}

_TRAININGS: Final[list[str]] = [asset for contract in (ADAPTER_LOG, BASELINE_LOG, ADAPTER) for asset in contract.assets]
_PLACE: Final = ("component", "step", "order")


@dataclass(frozen=True)
class Exposure:
    """One row in one use.

    Attributes:
        kind: One of `KINDS`.
        row_id: The row.
        asset: `finetune/adapter`, `finetune/baseline`, or `selection/subset` where no adapter was trained on it.
        domain: Its domain.
        version: Folder of its version.
        current: Whether readers follow that version now.
        run_id, created_at: Of that version.
        component, step, order: Of the walk, where it took the row.
    """

    kind: str
    row_id: str
    asset: str
    domain: str
    version: Path
    current: bool
    run_id: str
    created_at: str
    component: int | None = None
    step: int | None = None
    order: int | None = None


class Exposures:
    """Looks up exposures in one lake; each version's rows are read at most once.

    Attributes:
        unreadable: Versions that could not be read, hence may hide an exposure; filled while looking.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.unreadable: list[str] = []
        self._rows: dict[Path, pl.DataFrame] = {}
        self._manifests = Manifests(lake)

    def rows_of(self, *, source: str | None = None, license: str | None = None) -> set[str]:
        """Ids of all rows, of past and present pools and domains, that have the source and the licence."""
        found: set[str] = set()
        for (asset, _), contract in TABLES.items():
            tells = contract.pruned == "ids" and "sources" in contract.columns
            for version in self._versions(asset) if tells else ():
                rows = self._read(version, contract)
                if "sources" not in rows.columns:
                    continue
                if source is not None:
                    rows = rows.filter(pl.col("sources").list.contains(source))
                if license is not None:
                    names = rows["licenses"].explode().drop_nulls().unique()
                    same = [name for name in names if license_name(name) == license_name(license)]
                    rows = rows.filter(pl.col("licenses").list.set_intersection(same).list.len() > 0)
                found |= set(rows["row_id"])
        return found

    def of(self, row_ids: Collection[str]) -> list[Exposure]:
        """Every exposure of these rows, by kind, then by domain and time."""
        wanted = set(row_ids)
        found: list[Exposure] = []
        trained_on: set[Path] = set()
        for asset in _TRAININGS:
            for adapter in self._versions(asset):
                for link in follow(self.lake, [adapter], self._manifests):
                    if link.version is None:
                        self.unreadable.append(f"{link.place}: {link.named_by} was made from a version that is gone")
                        continue
                    if asset in ADAPTER_LOG.assets:
                        trained_on.add(link.version.folder)
                    found += self._exposures(adapter, link.version, wanted)
        for subset in self._versions(*SUBSET.assets):
            if subset.folder not in trained_on:
                found += self._exposures(subset, subset, wanted)
        order = list(KINDS)
        return sorted(found, key=lambda e: (order.index(e.kind), e.domain, e.created_at, str(e.version), e.row_id))

    def _exposures(self, user: Version, version: Version, wanted: set[str]) -> Iterator[Exposure]:
        """What it means for `user` that a version behind it, or itself, holds some of the rows."""
        made = user.manifest
        if user.folder != version.folder and any(contract.exposure for contract in tables_of(made.asset)):
            return  # it has rows of its own: what steered the selection did not choose a baseline's
        for contract in tables_of(version.manifest.asset):
            if contract.exposure:
                yield from self._exposures_in(contract, user, version, wanted)

    def _exposures_in(
        self, contract: Contract, user: Version, version: Version, wanted: set[str]
    ) -> Iterator[Exposure]:
        made = user.manifest
        for row in self._read(version, contract).filter(pl.col("row_id").is_in(wanted)).iter_rows(named=True):
            kind = str(row.get("split") or VALIDATION) if contract.exposure == "split" else contract.exposure
            if kind == TRAINED and user.folder == version.folder:
                kind = SELECTED  # a subset that no adapter was trained on
            walk = {name: row.get(name) for name in _PLACE}
            yield Exposure(
                kind,
                row["row_id"],
                made.asset,
                str(made.partition),
                user.folder,
                self._is_current(user),
                made.run_id,
                made.created_at,
                **walk,
            )

    def _versions(self, asset: str) -> list[Version]:
        versions, faults = versions_of(self.lake, asset)
        self.unreadable += faults
        return versions

    def _read(self, version: Version, contract: Contract) -> pl.DataFrame:
        """A table's rows, each once, from itself or, where it was pruned, from the list that stayed."""
        place = version.folder / contract.file
        if place not in self._rows:
            rows = pl.DataFrame(schema={"row_id": pl.String})
            wanted = [name for name, column in contract.columns.items() if column.kept or name in _PLACE]
            try:
                file = rows_file(self.lake, version, contract)
                columns = read_parquet(file, n_rows=0).columns
                rows = read_parquet(file, [name for name in wanted if name in columns])
            except StoreError as error:
                self.unreadable.append(str(error))
            # A study's variant may take a row with several seeds, and a domain have one in both splits.
            several = [name for name in ("row_id", "split") if name in rows.columns]
            self._rows[place] = rows.unique(several, keep="first", maintain_order=True)
        return self._rows[place]

    def _is_current(self, version: Version) -> bool:
        try:
            current = self.lake.find(version.manifest.asset, version.manifest.partition)
        except StoreError:
            return False
        return current is not None and current.folder == version.folder
