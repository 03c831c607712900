"""What follows from a withdrawal: where the row is used now, and which adapters have been trained on it."""

from dataclasses import dataclass
from typing import Final

from g2is_assets.errors import StoreError
from g2is_assets.storage.lake import Lake, Version, read_parquet
from g2is_assets.storage.pruning import ROW_IDS
from g2is_assets.storage.versions import partitions_of, versions_of

ROWS_OF: Final = {"finetune/adapter": "subset.parquet", "finetune/baseline": "rows.parquet"}
"""Where the rows are listed that an adapter was trained on; such lists outlast pruning."""


@dataclass(frozen=True)
class Trained:
    """A version of an adapter that was trained on the row."""

    asset: str
    domain: str
    version: str
    current: bool

    def __str__(self) -> str:
        return f"{self.asset}[{self.domain}] {self.version}{'' if self.current else ' (an old version)'}"


@dataclass(frozen=True)
class Consequences:
    """Where a row is used.

    Attributes:
        row_id: The row.
        in_pool: Whether it is in the current pool.
        domains: Domains of whose own rows it is one.
        subsets: Domains whose current subset contains it.
        adapters: Adapters trained on it, baselines too, in any version.
        in_sample: Whether the current checkpoint was warmed up with it.
        n_gradients: Rows whose gradients a new warmup would compute anew.
    """

    row_id: str
    in_pool: bool
    domains: list[str]
    subsets: list[str]
    adapters: list[Trained]
    in_sample: bool
    n_gradients: int

    @property
    def lines(self) -> list[str]:
        """The same in words."""
        said = [
            "It leaves the pool at the next refresh_pool." if self.in_pool else "The current pool does not hold it."
        ]
        if self.domains:
            said.append(
                "It leaves the own rows of these domains, whose selection it steers or measures, at their next "
                f"refresh_domain: {', '.join(self.domains)}."
            )
        if self.subsets:
            said.append(
                f"Stale until their next refresh_domain, since their subset holds it: {', '.join(self.subsets)}."
            )
        said += [f"Trained on it: {adapter}." for adapter in self.adapters] or ["No adapter was trained on it."]
        if self.in_sample:
            said.append(
                "The warmup sample holds it, so a new warmup is due: launch warmup/sample with `redraw: true`. That "
                f"trains the checkpoint anew and computes all gradients again ({self.n_gradients} rows), and all that "
                "follows from them."
            )
        return said


def consequences(lake: Lake, row_id: str) -> Consequences:
    """Look a row up in what the lake holds; damaged versions are passed over."""

    def holding(asset: str, table: str) -> list[str]:
        places = partitions_of(lake, asset)
        return [p or "" for p in places if (v := _current(lake, asset, p)) and row_id in _rows(v, table)]

    indices = [
        version
        for asset in ("gradients/pool", "gradients/target")
        for partition in partitions_of(lake, asset)
        if (version := _current(lake, asset, partition))
    ]
    return Consequences(
        row_id=row_id,
        in_pool=bool(holding("instructions/pool", "pool.parquet")),
        domains=holding("instructions/target", "target.parquet"),
        subsets=holding("selection/subset", "subset.parquet"),
        adapters=trained_on(lake, row_id),
        in_sample=bool(holding("warmup/sample", "sample.parquet")),
        n_gradients=sum(version.manifest.n_rows["index"] for version in indices),
    )


def trained_on(lake: Lake, row_id: str) -> list[Trained]:
    """Every version of an adapter that was trained on a row, pruned ones too."""
    subsets = {
        (subset.manifest.partition, subset.manifest.data_version): subset
        for subset in versions_of(lake, "selection/subset")[0]
    }
    found = []
    for asset, table in ROWS_OF.items():
        for version in versions_of(lake, asset)[0]:
            manifest, domain = version.manifest, version.manifest.partition or ""
            made_from = manifest.inputs["selection/subset"].data_version
            listed = subsets.get((manifest.partition, made_from)) if asset == "finetune/adapter" else version
            if listed and row_id in _rows(listed, table):
                current = _current(lake, asset, domain)
                name = version.folder.name
                found.append(Trained(asset, domain, name, current is not None and current.folder.name == name))
    return found


def _current(lake: Lake, asset: str, partition: str | None) -> Version | None:
    try:
        return lake.find(asset, partition)
    except StoreError:
        return None


def _rows(version: Version, table: str) -> set[str]:
    for name in (table, ROW_IDS):
        try:
            return set(read_parquet(version.folder / name, ["row_id"])["row_id"])
        except StoreError:
            continue
    return set()
