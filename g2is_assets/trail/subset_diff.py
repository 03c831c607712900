"""Two versions of a domain's subset: which rows came and went, and what changed behind them."""

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.selection import EXCLUDED, SUBSET
from g2is_assets.errors import SettingsError, StoreError, command
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, read_manifest
from g2is_assets.store.version import Metric, Version
from g2is_assets.store.versions import version_folders
from g2is_assets.trail.chain import Link, content_of, follow, nearest, rows_file

Metrics = Mapping[str, Metric]
RESULT: Final = "finetune/evaluation"


@dataclass(frozen=True)
class Change:
    """A row that is in one subset and not in the other.

    Attributes:
        row_id: The row.
        came: Whether it is in the second one.
        sources, words: Where it comes from, and what it asks; empty where its pool was pruned.
        why: `new in the pool`, `left the pool`, the reason for which it is now, or no longer, withheld or excluded, or
            `the walk's choice` where it was eligible both times: then `causes` tell.
    """

    row_id: str
    came: bool
    why: str
    sources: list[str] = field(default_factory=list)
    words: str = ""


@dataclass(frozen=True)
class Difference:
    """What is between two versions of a subset.

    Attributes:
        before, after: The two.
        n_kept: Rows in both.
        changes: The others, those that came first, in order of choice.
        causes: What differs in the versions behind them, in words: settings, code, checkpoint, rows.
        sources: Rows of the two by source.
        results: Metrics of the newest evaluation of an adapter trained on each; None where there is none.
    """

    before: Version
    after: Version
    n_kept: int
    changes: list[Change]
    causes: list[str]
    sources: dict[str, tuple[int, int]]
    results: tuple[Metrics | None, Metrics | None]


@dataclass(frozen=True)
class Chosen:
    """A version of a domain's subset and what became of it.

    Attributes:
        subset: The version.
        adapter: The newest one trained on it; None if there is none.
        metrics: Those of that adapter's newest evaluation; None if there is none.
    """

    subset: Version
    adapter: Version | None
    metrics: Metrics | None


def chosen_ever(lake: Lake, domain: str) -> list[Chosen]:
    """All versions of a domain's subset, the newest last; of those with equal content the newest alone."""

    def made(asset: str) -> list[Version]:
        folders = version_folders(lake, asset, domain)
        return sorted((Version(f, read_manifest(f)) for f in folders), key=lambda v: (v.manifest.created_at, v.name))

    def by_input(asset: str, name: str) -> dict[str, Version]:
        named = ((version.manifest.inputs.get(name), version) for version in made(asset))
        return {said.data_version: version for said, version in named if said}

    adapters, results = by_input("finetune/adapter", "selection/subset"), by_input(RESULT, "finetune/adapter")
    found = []
    for subset in {version.manifest.data_version: version for version in made("selection/subset")}.values():
        adapter = adapters.get(subset.manifest.data_version)
        result = results.get(adapter.manifest.data_version) if adapter else None
        found.append(Chosen(subset, adapter, result.manifest.metrics if result else None))
    return sorted(found, key=lambda one: one.subset.manifest.created_at)


def subset_of(lake: Lake, domain: str, name: str) -> Version:
    """The subset's version of that name, of the beginning of one, or behind the adapter of that name.

    Raises:
        SettingsError: None or several have that name.
    """
    found = {}
    for asset in ("selection/subset", "finetune/adapter"):
        for file in sorted(lake.place(asset, domain).glob(f"*/{MANIFEST}")):
            if file.parent.name.startswith(name):
                for link in follow(lake, [Version(file.parent, read_manifest(file.parent))]):
                    if link.asset == "selection/subset" and link.version:
                        found[link.version.folder] = link.version
    if len(found) != 1:
        known = ", ".join(f.parent.name for f in sorted(lake.place("selection/subset", domain).glob(f"*/{MANIFEST}")))
        count = "no version" if not found else "1 version" if len(found) == 1 else f"{len(found)} versions"
        raise SettingsError(f"'{name}' names {count} of the subset of '{domain}'; there are: {known or 'none'}")
    return next(iter(found.values()))


def compare(lake: Lake, before: Version, after: Version) -> Difference:
    """Compare two versions of a domain's subset.

    Raises:
        StoreError: A table that is never pruned is damaged.
    """
    ever = chosen_ever(lake, str(before.manifest.partition))
    metrics = {one.subset.manifest.data_version: one.metrics for one in ever}
    tables = (read_parquet(content_of(lake, version) / SUBSET.file) for version in (before, after))
    then, now = (table.sort("order") for table in tables)
    chains = [nearest(follow(lake, [version])) for version in (before, after)]
    ids_then, ids_now = set(then["row_id"]), set(now["row_id"])
    pools = [_pool(lake, chain, ids_then | ids_now) for chain in chains]
    kept_out_then, kept_out = (_kept_out(v, chain) for v, chain in zip((before, after), chains, strict=True))
    came = [row for row in now["row_id"] if row not in ids_then]
    went = [row for row in then["row_id"] if row not in ids_now]
    changes = []
    for row in came:
        new = "the walk's choice" if row in pools[0] else "new in the pool"
        why = f"no longer {kept_out_then[row]}" if row in kept_out_then else new
        changes.append(Change(row, True, why, *pools[1].get(row, ([], ""))))
    for row in went:
        gone = "left the pool" if row not in pools[1] else "the walk's choice"
        changes.append(Change(row, False, kept_out.get(row, gone), *pools[0].get(row, ([], ""))))
    counts = [
        Counter(source for row in table["row_id"] for source in pool.get(row, ([], ""))[0])
        for table, pool in ((then, pools[0]), (now, pools[1]))
    ]
    sources = {name: (counts[0][name], counts[1][name]) for name in sorted(counts[0] | counts[1])}
    results = metrics.get(before.manifest.data_version), metrics.get(after.manifest.data_version)
    return Difference(before, after, len(now) - len(came), changes, list(_causes(*chains)), sources, results)


def _pool(lake: Lake, chain: dict[str, Link], wanted: Collection[str]) -> dict[str, tuple[list[str], str]]:
    """Those of the pool that a subset was chosen from, with their sources and, unless it was pruned, words."""
    version = chain["instructions/pool"].version if "instructions/pool" in chain else None
    if version is None:
        raise StoreError(f"the chain is broken at instructions/pool; see {command('audit verify')}")
    file = rows_file(lake, version, POOL)
    words = ["prompt"] if file.name == POOL.file else []
    table = read_parquet(file, ["row_id", "sources", *words]).filter(pl.col("row_id").is_in(list(wanted)))
    return {row["row_id"]: (row.get("sources") or [], row.get("prompt") or "") for row in table.iter_rows(named=True)}


def _kept_out(subset: Version, chain: dict[str, Link]) -> dict[str, str]:
    """Why rows could not be taken: withheld from the pool, or excluded from this domain's selection."""
    reasons: dict[str, str] = {}
    pool = chain["instructions/pool"].version
    for version, contract in ((subset, EXCLUDED), (pool, WITHHELD)):
        if version and (file := version.folder / contract.file).exists():
            rows = read_parquet(file, ["row_id", "reason"])
            reasons |= {row_id: f"{contract.table}: {reason}" for row_id, reason in rows.iter_rows()}
    return reasons


def _causes(before: dict[str, Link], after: dict[str, Link]) -> Iterator[str]:
    """What differs along the two chains, from the sources on; an asset whose content is equal is passed over."""
    for asset in sorted(before.keys() & after.keys(), key=lambda name: -after[name].depth):
        then, now = before[asset].version, after[asset].version
        if then is None or now is None or then.manifest.data_version == now.manifest.data_version:
            continue
        yield f"{asset}: another version" + _words(then.manifest, now.manifest)


def _words(then: Any, now: Any) -> str:
    said = []
    if then.code_version != now.code_version:
        said.append(f"code {then.code_version} -> {now.code_version}")
    for name in sorted(then.settings.keys() | now.settings.keys()):
        old, new = then.settings.get(name), now.settings.get(name)
        if old != new:
            short = isinstance(old, dict | list) or isinstance(new, dict | list) or len(f"{old}{new}") > 60
            said.append(f"{name} changed" if short else f"{name} {old} -> {new}")
    for name in sorted(then.inputs.keys() | now.inputs.keys()):
        old, new = then.inputs.get(name), now.inputs.get(name)
        if (old and old.data_version) != (new and new.data_version):
            said.append(f"{name} {'changed' if old and new else 'is new' if new else 'is gone'}")
    return f" ({'; '.join(said)})" if said else ""
