"""The chain behind the adapter, from the tables of `audit/lineage`."""

import json
from dataclasses import dataclass
from typing import Any

import polars as pl

from g2is_assets.errors import StoreError
from g2is_assets.reports.words import printable


@dataclass(frozen=True)
class Behind:
    """One version behind the adapter.

    Attributes:
        asset: With its partition in brackets.
        record: Its row in the lineage table.
        n_rows: Rows of its tables, in words.
        settings: By dotted name; of withdrawals only how many there are.
        inputs: Name and digest of what it was made from: of a manifest where the input is an asset, else of content.
        libraries: In words; empty where they are those of the version before it in the list.
    """

    asset: str
    record: dict[str, Any]
    n_rows: str
    settings: list[tuple[str, str]]
    inputs: list[tuple[str, str]]
    libraries: str


def head_of(lineage: pl.DataFrame) -> dict[str, Any]:
    """The adapter's own row.

    Raises:
        StoreError: The lineage does not have it.
    """
    found = lineage.filter((pl.col("asset") == "finetune/adapter") & (pl.col("depth") == 0)).to_dicts()
    if len(found) != 1:
        raise StoreError("audit/lineage names no adapter; materialise it again")
    return found[0]


def versions_behind(lineage: pl.DataFrame, links: pl.DataFrame) -> list[Behind]:
    """Every version of the chain, the nearest to the adapter first."""
    found, libraries = [], ""
    for record in lineage.iter_rows(named=True):
        made_from = links.filter(pl.col("manifest_sha256") == record["manifest_sha256"])
        said = _listed(json.loads(record["libraries"]))
        found.append(
            Behind(
                asset=record["asset"] + (f"[{record['partition']}]" if record["partition"] else ""),
                record=record,
                n_rows=_listed(json.loads(record["n_rows"])),
                settings=[(printable(name), printable(value)) for name, value in _flat(json.loads(record["settings"]))],
                inputs=[
                    (printable(row["input"]), row["input_manifest_sha256"] or row["input_data_version"])
                    for row in made_from.iter_rows(named=True)
                ],
                libraries="" if said == libraries else said,
            )
        )
        libraries = said
    return found


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in settings.items():
        if name == "withdrawn":  # who asked for it, and why, is for the store alone
            flat.append((prefix + name, f"{len(value)} in number"))
        elif isinstance(value, dict):
            flat += _flat(value, f"{prefix}{name}.")
        else:
            flat.append((prefix + name, value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)))
    return flat


def _listed(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())
