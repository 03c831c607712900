"""Two versions of a domain's subset: which rows came and went, and what changed behind them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.selection import EXCLUDED, SUBSET
from g2is_assets.errors import SettingsError, StoreError, command
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import MANIFEST, read_manifest
from g2is_assets.store.version import Version
from g2is_assets.trail.chain import Link, content_of, follow, nearest, rows_file


@dataclass(frozen=True)
class Change:
    """A row that is in one subset and not in the other.

    Attributes:
        row_id: The row.
        came: Whether it is in the second one.
        why: `new in the pool`, `left the pool`, the reason for which it is now, or no longer, withheld or excluded, or
            `the walk's choice` where it was eligible both times: then `causes` tell.
    """

    row_id: str
    came: bool
    why: str


@dataclass(frozen=True)
class Difference:
    """What is between two versions of a subset.

    Attributes:
        before, after: The two.
        n_kept: Rows in both.
        changes: The others, those that came first, in order of choice.
        causes: What differs in the versions behind them, in words: settings, code, checkpoint, rows.
    """

    before: Version
    after: Version
    n_kept: int
    changes: list[Change]
    causes: list[str]


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
        count = "no version" if not found else f"{len(found)} versions"
        raise SettingsError(f"'{name}' names {count} of the subset of '{domain}'; there are: {known or 'none'}")
    return next(iter(found.values()))


def compare(lake: Lake, before: Version, after: Version) -> Difference:
    """Compare two versions of a domain's subset.

    Raises:
        StoreError: A table that is never pruned is damaged.
    """
    tables = (read_parquet(content_of(lake, version) / SUBSET.file) for version in (before, after))
    then, now = (table.sort("order") for table in tables)
    chains = [nearest(follow(lake, [version])) for version in (before, after)]
    pools = [_pool(lake, chain) for chain in chains]
    kept_out_then, kept_out = (_kept_out(v, chain) for v, chain in zip((before, after), chains, strict=True))
    came = [row for row in now["row_id"] if row not in set(then["row_id"])]
    went = [row for row in then["row_id"] if row not in set(now["row_id"])]
    changes = []
    for row in came:
        new = "the walk's choice" if row in pools[0] else "new in the pool"
        changes.append(Change(row, True, f"no longer {kept_out_then[row]}" if row in kept_out_then else new))
    for row in went:
        gone = "left the pool" if row not in pools[1] else "the walk's choice"
        changes.append(Change(row, False, kept_out.get(row, gone)))
    return Difference(before, after, len(now) - len(came), changes, list(_causes(*chains)))


def _pool(lake: Lake, chain: dict[str, Link]) -> set[str]:
    """The rows of the pool that a subset was chosen from."""
    version = chain["instructions/pool"].version if "instructions/pool" in chain else None
    if version is None:
        raise StoreError(f"the chain is broken at instructions/pool; see {command('audit verify')}")
    return set(read_parquet(rows_file(lake, version, POOL), ["row_id"])["row_id"])


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
