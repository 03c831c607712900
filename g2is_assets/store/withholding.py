"""Rows that may not be used: withdrawn ones and those under a denied licence; what decides it, and what it hits.

`withdrawn.jsonl` stands beside the settings, one record per line, to which lines are only ever added. It belongs to the
project, not to the lake: a lake made anew still leaves these rows out.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import polars as pl
from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from g2is_assets.contracts.instructions import POOL, WITHHELD, Instruction
from g2is_assets.errors import SettingsError, StoreError
from g2is_assets.settings.config import LicensesSettings
from g2is_assets.settings.project import Project
from g2is_assets.store.files import json_text, read_parquet, replacing
from g2is_assets.store.lake import Lake
from g2is_assets.store.pruning import ROW_IDS
from g2is_assets.store.sources import read_rows
from g2is_assets.store.version import Version
from g2is_assets.store.versions import versions_of


class Withdrawal(BaseModel):
    """One line: which row may not be used any more, or may again (`lifted`), why, when (UTC), by whose request."""

    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)

    row_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
    reason: Annotated[str, Field(min_length=1)]
    at: str
    by: Annotated[str, Field(min_length=1)]
    lifted: bool = False

    @field_validator("at")
    @classmethod
    def _utc(cls, value: str) -> str:
        moment = datetime.fromisoformat(value)
        if moment.utcoffset() is None or moment.utcoffset():
            raise ValueError("a time in UTC is needed, such as 2026-01-31T12:00:00+00:00")
        return value


def read_withdrawals(file: Path) -> dict[str, Withdrawal]:
    """The withdrawals in force by row id, in the file's order; of two of the same row the first. None without a file.

    Raises:
        SettingsError: A line is no withdrawal; the message names it.
    """
    found: dict[str, Withdrawal] = {}
    for entry in _entries(file):
        if entry.lifted:
            found.pop(entry.row_id, None)
        else:
            found.setdefault(entry.row_id, entry)
    return found


def _entries(file: Path) -> list[Withdrawal]:
    found = []
    for number, line in enumerate(_lines(file), start=1):
        try:
            found.append(Withdrawal.model_validate(json.loads(line)))
        except (ValueError, RecursionError) as error:
            raise SettingsError(
                f"{file}, line {number}: no withdrawal ({_fault(error)}); restore the line as it was "
                "written: a withdrawal stands for ever"
            ) from None
    return found


def add_withdrawals(file: Path, entries: Iterable[Withdrawal]) -> list[Withdrawal]:
    """Append those that change something, all at once or not at all; returns them.

    That is a withdrawal of a row that is not withdrawn, and the lifting of one that is. Lines are never taken away.

    Raises:
        SettingsError: The file has a damaged line, or cannot be written.
    """
    try:
        with FileLock(file.with_name(f".{file.name}.lock")):
            known, lines = read_withdrawals(file), _lines(file)
            asked: dict[str, Withdrawal] = {}
            for entry in entries:
                if (entry.row_id in known) == entry.lifted:
                    asked.setdefault(entry.row_id, entry)
            new = list(asked.values())
            lines += [json_text(entry.model_dump(exclude_defaults=True)) for entry in new]
            if new:
                text = "\n".join(lines) + "\n"
                with replacing(file, mend="nothing was withdrawn") as scratch, scratch.open("wb") as out:
                    out.write(text.encode())
                    out.flush()
                    os.fsync(out.fileno())  # a request to withdraw outlives a power cut
            return new
    except StoreError as error:
        raise SettingsError(str(error)) from error
    except OSError as error:
        raise SettingsError(f"{file} cannot be written: {error}; nothing was withdrawn") from error


def require_kept(lines: Mapping[str, Withdrawal], recorded: Iterable[str], file: Path) -> None:
    """Refuse a file without a line of what the pool's manifest records: rows may have been erased on its word."""
    missing = sorted(set(recorded) - lines.keys())
    if missing:
        raise SettingsError(
            f"{file}: the withdrawal of {', '.join(missing[:3])}{' and others' if missing[3:] else ''} is missing, "
            "with which the current pool was made; restore the lines: a withdrawal stands for ever"
        )


def _lines(file: Path) -> list[str]:
    try:
        text = file.read_text(encoding="utf-8-sig").removesuffix("\n")
        return text.split("\n") if text else []
    except FileNotFoundError:
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} cannot be read: {error}; restore it from a backup") from error


def _fault(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'the line'}: {first['msg'].removeprefix('Value error, ')}"
    return f"not valid JSON: {error}"


@dataclass(frozen=True)
class Withholding:
    """What keeps rows out of one table: a licence policy, and the reason of each withdrawal by row id."""

    policy: LicensesSettings
    withdrawn: Mapping[str, str]

    @property
    def settings(self) -> dict[str, Any]:
        """Its part of the recipe: nothing where it can withhold nothing, so that earlier versions serve on."""
        policy = {"allow": sorted(self.policy.allow), "deny": sorted(self.policy.deny), "unknown": self.policy.unknown}
        return ({"licenses": policy} if self.policy.in_force else {}) | (
            {"withdrawn": dict(sorted(self.withdrawn.items()))} if self.withdrawn else {}
        )

    def part(self, rows: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
        """The rows that may be used, and those that may not as a table of the contract `WITHHELD`.

        Rows have the columns of that contract, but for reason and detail. One that is both withdrawn and denied counts
        as withdrawn.
        """
        reasons = [
            ("withdrawn", self.withdrawn[row_id])
            if row_id in self.withdrawn
            else ("license", ", ".join(refused))
            if (refused := self.policy.denied(licenses))
            else (None, None)
            for row_id, licenses in rows.select("row_id", "licenses").iter_rows()
        ]
        said = rows.hstack(pl.DataFrame(reasons, {"reason": pl.String, "detail": pl.String}, orient="row"))
        withheld = said.filter(pl.col("reason").is_not_null()).select(*WITHHELD.columns).sort("row_id")
        return rows.filter(said["reason"].is_null()), withheld


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
    require_kept({entry.row_id: entry for entry in _entries(project.withdrawn)}, recorded, project.withdrawn)
    return Withholding(project.settings.licenses, {row_id: entry.reason for row_id, entry in withdrawals.items()})


def target_withholding(project: Project, files: Iterable[Path]) -> Withholding:
    """What keeps rows out of a domain: the withdrawals of its own rows. The licence policy is the pool's alone.

    Raises:
        SettingsError: The file of withdrawals is damaged.
        SourceError: A file of rows is.
    """
    withdrawals = read_withdrawals(project.withdrawn)
    folder = project.path.parent
    rows = [row for f in files for row in read_rows(str(f), project.rows_of(f), folder)] if withdrawals else []
    own = {row.row_id for row in rows if isinstance(row, Instruction)}
    return Withholding(
        LicensesSettings(), {row_id: entry.reason for row_id, entry in withdrawals.items() if row_id in own}
    )


def licenses_of(lake: Lake, sample: Version) -> dict[str, list[str]]:
    """Licences by row id, of all rows of the current pool and of that which a sample was drawn from, also pruned."""
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
    return {f"n_withheld_{reason}": int((withheld["reason"] == reason).sum()) for reason in ("withdrawn", "license")}


def say_withheld(withheld: pl.DataFrame) -> str:
    """Why rows were withheld, in brackets for an error message; empty if none was."""
    counts = (
        withheld.group_by("reason", "detail").len().sort("len", "reason", "detail", descending=[True, False, False])
    )
    said = [f"{reason} ({detail}): {n}" for reason, detail, n in counts.head(3).iter_rows()]
    return f" ({len(withheld)} withheld, see [licenses] and `withdrawn`; {'; '.join(said)})" if said else ""
