"""What follows from a withdrawal: where the row is used now, and which adapters have been trained on it."""

from dataclasses import dataclass

from g2is_assets.contracts.contract import Contract
from g2is_assets.contracts.gradients import INDEX
from g2is_assets.contracts.instructions import POOL, TARGET
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.contracts.warmup import SAMPLE
from g2is_assets.errors import StoreError
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.version import Version
from g2is_assets.store.versions import partitions_of
from g2is_assets.trail.exposure import BASELINE, TRAINED, Exposure, Exposures


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
    adapters: list[Exposure]
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
        said += [f"Trained on it: {adapter_line(adapter)}." for adapter in self.adapters] or [
            "No adapter was trained on it."
        ]
        if self.in_sample:
            said.append(
                "The warmup sample holds it, so a new warmup is due: launch warmup/sample with `redraw: true`. That "
                f"trains the checkpoint anew and computes all gradients again ({self.n_gradients} rows), and all that "
                "follows from them."
            )
        return said


def consequences(lake: Lake, row_id: str) -> Consequences:
    """Look a row up in what the lake holds; damaged versions are passed over."""

    def holding(contract: Contract) -> list[str]:
        (asset,) = contract.assets
        places = partitions_of(lake, asset)
        return [p or "" for p in places if (v := _current(lake, asset, p)) and row_id in _rows(v, contract)]

    indices = [
        version
        for asset in INDEX.assets
        if not asset.startswith("study/")  # embeddings are the base model's
        for partition in partitions_of(lake, asset)
        if (version := _current(lake, asset, partition))
    ]
    return Consequences(
        row_id=row_id,
        in_pool=bool(holding(POOL)),
        domains=holding(TARGET),
        subsets=holding(SUBSET),
        adapters=trained_on(lake, row_id),
        in_sample=bool(holding(SAMPLE)),
        n_gradients=sum(version.manifest.n_rows[INDEX.table] for version in indices),
    )


def trained_on(lake: Lake, row_id: str) -> list[Exposure]:
    """Every version of an adapter that was trained on a row, baselines and pruned ones too."""
    return [exposure for exposure in Exposures(lake).of([row_id]) if exposure.kind in (TRAINED, BASELINE)]


def adapter_line(exposure: Exposure) -> str:
    """An adapter's version in words."""
    return (
        f"{exposure.asset}[{exposure.domain}] {exposure.version.name}{'' if exposure.current else ' (an old version)'}"
    )


def _current(lake: Lake, asset: str, partition: str | None) -> Version | None:
    try:
        return lake.find(asset, partition)
    except StoreError:
        return None


def _rows(version: Version, contract: Contract) -> set[str]:
    try:
        return set(read_parquet(version.folder / contract.file, ["row_id"])["row_id"])
    except StoreError:
        return set()
