"""A chain as the tables of the asset audit/lineage, for the UI and for SQL."""

import json
from collections.abc import Sequence
from typing import Any

import polars as pl

from g2is_assets.contracts import audit as contracts
from g2is_assets.contracts.instructions import POOL
from g2is_assets.contracts.selection import SUBSET
from g2is_assets.errors import StoreError, command
from g2is_assets.store.files import read_parquet
from g2is_assets.store.lake import Lake
from g2is_assets.store.manifest import Manifest
from g2is_assets.trail.chain import Link, content_of, nearest, rows_file


def lineage_tables(lake: Lake, domain: str, chain: Sequence[Link]) -> dict[str, pl.DataFrame]:
    """A chain as the tables of the asset audit/lineage: contracts `LINEAGE`, `LINKS`, `ROWS`.

    Raises:
        StoreError: A table of the subset or the pool is damaged or gone.
    """
    versions = [link for link in chain if link.version is not None]
    lineage = [_record(link, link.version.manifest) for link in versions if link.version]
    links = [
        {
            "asset": link.asset,
            "manifest_sha256": link.said.manifest_sha256,
            "input": name,
            "input_data_version": said.data_version,
            "input_manifest_sha256": said.manifest_sha256,
        }
        for link in versions
        if link.version
        for name, said in link.version.manifest.inputs.items()
    ]
    behind = nearest(chain)
    subset, pool = (behind[asset].version for asset in ("selection/subset", "instructions/pool"))
    if subset is None or pool is None:
        raise StoreError(
            f"the chain is broken at the subset or its pool; see {command('audit verify')}, and refresh the domain"
        )
    taken = read_parquet(content_of(lake, subset) / SUBSET.file, ["order", "row_id"])
    origins = read_parquet(rows_file(lake, pool, POOL), ["row_id", "sources", "licenses"])
    rows = taken.join(origins, on="row_id")
    tables = (
        (contracts.LINEAGE, pl.DataFrame(lineage, infer_schema_length=None)),
        (contracts.LINKS, pl.DataFrame(links, infer_schema_length=None)),
        (contracts.ROWS, rows),
    )
    return {
        contract.table: table.with_columns(pl.lit(domain).alias("domain"))
        .select(*contract.columns)
        .cast(contract.schema)
        .sort(contract.sorted_by)
        for contract, table in tables
    }


def _record(link: Link, manifest: Manifest) -> dict[str, Any]:
    same = {"data_version", "input_digest", "code_version", "git_revision", "made_by", "run_id", "created_at"}
    return {
        "depth": link.depth,
        "asset": link.asset,
        "partition": manifest.partition,
        "version": link.place.name,
        "manifest_sha256": link.said.manifest_sha256,
        **manifest.model_dump(include=same),
        "seeds": _json({name: value for name, value in manifest.settings.items() if name.endswith("seed")}),
        "settings": _json(manifest.settings),
        "libraries": _json(manifest.libraries),
        "n_rows": _json(manifest.n_rows),
    }


def _json(value: object) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
