"""What the Dagster UI shows of a version: standard keys first, then `g2is/...` numbers, the same on every run."""

from typing import Any, Final

import dagster as dg
import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.storage.lake import Version

ROW_IDS_FROM: Final = {
    "graph/neighbors": ("instructions/pool", ("row_id", "duplicate_group")),
    "selection/subset": ("instructions/pool", ("row_id", "predecessor", "min_cosine_row")),
    "finetune/evaluation": ("instructions/target", ("row_id",)),
    "study/subset": ("instructions/pool", ("row_id",)),
    "study/score": ("instructions/target", ("row_id",)),
}
"""Where the row ids of a main table come from: the one kind of column that is handed on as it is."""


def column_schema(contract: Contract) -> dg.TableSchema:
    """A contract as Dagster's column schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                str(pl.Schema({name: column.dtype})[name]),
                description=column.meaning,
                constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=column.unique),
            )
            for name, column in contract.columns.items()
        ]
    )


def column_lineage(asset: str) -> dg.TableColumnLineage | None:
    """Which columns of an asset's main table are row ids of another's."""
    if asset not in ROW_IDS_FROM:
        return None
    upstream, columns = ROW_IDS_FROM[asset]
    source = [dg.TableColumnDep(dg.AssetKey(upstream.split("/")), "row_id")]
    return dg.TableColumnLineage(dict.fromkeys(columns, source))


def version_metadata(version: Version, contract: Contract | None, table: str, written: bool) -> dict[str, Any]:
    """Metadata of a materialisation.

    Args:
        version: The version that now is current.
        contract: Contract of the asset's main table, if it has one.
        table: That table's name.
        written: Whether work was done, or equal inputs let an earlier version serve.
    """
    manifest = version.manifest
    metadata: dict[str, Any] = {"dagster/uri": str(version.folder)}
    if contract is not None:
        metadata["dagster/column_schema"] = column_schema(contract)
        key = "dagster/row_count" if manifest.partition is None else "dagster/partition_row_count"
        metadata[key] = manifest.n_rows[table]
        if lineage := column_lineage(manifest.asset):
            metadata["dagster/column_lineage"] = lineage
    for name, n_rows in manifest.n_rows.items():
        if name != table:
            metadata[f"g2is/n_rows_{name}"] = n_rows
    metadata |= {f"g2is/{name}": value for name, value in manifest.metrics.items()}
    return metadata | {
        "g2is/computed": int(written),
        "g2is/version": version.folder.name,
        "g2is/manifest_sha256": version.as_input.manifest_sha256,
    }
