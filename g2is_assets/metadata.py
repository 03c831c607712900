"""What the Dagster UI shows of a version: standard keys first, then `g2is/...` numbers, the same on every run."""

from typing import Any

import dagster as dg
import polars as pl

from g2is_assets.contracts.contract import Contract
from g2is_assets.storage.lake import Version


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
    for name, n_rows in manifest.n_rows.items():
        if name != table:
            metadata[f"g2is/n_rows_{name}"] = n_rows
    metadata |= {f"g2is/{name}": value for name, value in manifest.metrics.items()}
    return metadata | {
        "g2is/computed": int(written),
        "g2is/version": version.folder.name,
        "g2is/manifest_sha256": version.as_input.manifest_sha256,
    }
