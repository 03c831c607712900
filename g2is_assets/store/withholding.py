"""What is withheld from an instructions table: what decides it, as part of its recipe, and the rows that it hits."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from g2is_assets.contracts.instructions import POOL, WITHHELD
from g2is_assets.contracts.rows import Instruction
from g2is_assets.core.policy import REASONS, in_force, withhold
from g2is_assets.errors import StoreError
from g2is_assets.settings.config import LicensesSettings, Source
from g2is_assets.settings.project import Project
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import ROW_IDS
from g2is_assets.store.sources import read_rows
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of
from g2is_assets.store.withdrawals import read_withdrawals, require_kept


@dataclass(frozen=True)
class Withholding:
    """What keeps rows out of one table: a licence policy, and the reason of each withdrawal by row id."""

    policy: LicensesSettings
    withdrawn: Mapping[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """Its part of the recipe: nothing where it can withhold nothing, so that earlier versions serve on."""
        policy = {"allow": sorted(self.policy.allow), "deny": sorted(self.policy.deny), "unknown": self.policy.unknown}
        return ({"licenses": policy} if in_force(self.policy) else {}) | (
            {"withdrawn": dict(sorted(self.withdrawn.items()))} if self.withdrawn else {}
        )

    def part(self, rows: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], pl.DataFrame]:
        """The rows that may be used, and those that may not as a table of the contract `WITHHELD`."""
        used, withheld = withhold(rows, self.policy, self.withdrawn)
        return used, pl.DataFrame(withheld, schema=WITHHELD.schema).sort("row_id")


def pool_withholding(project: Project, lake: Lake) -> Withholding:
    """What keeps rows out of the pool: the licence policy and every withdrawal.

    Which withdrawals are of pool rows is known only when the sources have been read; all of them make the recipe, and
    the pool is read anew for one that is of a domain's row.

    Raises:
        SettingsError: The file of withdrawals is damaged, or lacks one that the current pool was made with.
    """
    withdrawals = read_withdrawals(project.withdrawn)
    try:
        current = lake.find("instructions/pool")
    except StoreError:
        current = None  # damaged: it will be made again
    recorded = current.manifest.settings.get("withdrawn", {}) if current else {}
    require_kept(withdrawals, recorded, project.withdrawn)
    return Withholding(project.settings.licenses, {row_id: entry.reason for row_id, entry in withdrawals.items()})


def target_withholding(project: Project, files: Iterable[Path]) -> Withholding:
    """What keeps rows out of a domain: the withdrawals of its own rows. The licence policy is the pool's alone.

    Raises:
        SettingsError: The file of withdrawals is damaged.
        SourceError: A file of rows is.
    """
    withdrawals = read_withdrawals(project.withdrawn)
    folder = project.path.parent
    rows = [row for f in files for row in read_rows(str(f), Source(path=f.name), folder)] if withdrawals else []
    own = {row.row_id for row in rows if isinstance(row, Instruction)}
    return Withholding(
        LicensesSettings(), {row_id: entry.reason for row_id, entry in withdrawals.items() if row_id in own}
    )


def licenses_of(lake: Lake, sample: Version) -> dict[str, list[str]]:
    """Licences by row id, of all rows of the current pool and of the pool that a sample was drawn from, also pruned.

    Args:
        lake: The lake.
        sample: A version of `warmup/sample`.
    """
    drawn_from = sample.manifest.inputs["instructions/pool"].data_version
    pools = lake.find_whole("instructions/pool", drawn_from), lake.find_whole("instructions/pool")
    found: dict[str, list[str]] = {}
    for version in versions_of(lake, "instructions/pool")[0]:
        stays = version.folder / ROW_IDS
        if version.manifest.data_version != drawn_from or not stays.exists():
            continue
        if "licenses" in read_parquet(stays, n_rows=0).columns:  # lists of old had ids alone
            found |= dict(read_parquet(stays, ["row_id", "licenses"]).iter_rows())
    for pool in filter(None, pools):
        for contract in (POOL, WITHHELD):
            if contract.file in pool.manifest.files:  # versions of old have no table of withheld rows
                found |= dict(pool.read(contract).select("row_id", "licenses").iter_rows())
    return found


def count_withheld(withheld: pl.DataFrame) -> dict[str, int]:
    """Metrics: how many rows were withheld, by reason."""
    return {f"n_withheld_{reason}": int((withheld["reason"] == reason).sum()) for reason in REASONS}


def say_withheld(withheld: pl.DataFrame) -> str:
    """Why rows were withheld, in brackets for an error message; empty if none was."""
    counts = (
        withheld.group_by("reason", "detail").len().sort("len", "reason", "detail", descending=[True, False, False])
    )
    said = [f"{reason} ({detail}): {n}" for reason, detail, n in counts.head(3).iter_rows()]
    return f" ({len(withheld)} withheld, see [licenses] and `withdrawn`; {'; '.join(said)})" if said else ""
