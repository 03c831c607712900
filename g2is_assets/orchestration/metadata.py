"""What the Dagster UI shows of a version: standard keys first, then `g2is/...` numbers, the same on every run."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from g2is_assets.contracts.contract import Column, Contract, type_name
from g2is_assets.contracts.tables import main_table, view_of
from g2is_assets.store.version import Version


def table_metadata(asset: str) -> dict[str, Any]:
    """What is known of an asset's main table before anything is materialised: its view and its columns."""
    contract = main_table(asset)
    found = {"dagster/table_name": view_of(asset, contract.table), "dagster/column_schema": column_schema(contract)}
    lineage = column_lineage(contract)
    return found | ({"dagster/column_lineage": lineage} if lineage else {})


def column_schema(contract: Contract) -> dg.TableSchema:
    """A contract as Dagster's column schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                type_name(dtype),
                description=column.meaning,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=column.unique, other=_bounds(column)
                ),
            )
            for (name, column), dtype in zip(contract.columns.items(), contract.schema.values(), strict=True)
        ]
    )


def _bounds(column: Column) -> list[str]:
    bounds = (("at least", column.minimum), ("at most", column.maximum))
    return [f"{words} {bound:g}" for words, bound in bounds if bound is not None]


def column_lineage(contract: Contract) -> dg.TableColumnLineage | None:
    """Which columns of a table are row ids of an asset's: the one kind of column that is handed on as it is."""
    found = {
        name: [dg.TableColumnDep(dg.AssetKey(column.row_of.split("/")), "row_id")]
        for name, column in contract.columns.items()
        if column.row_of
    }
    return dg.TableColumnLineage(found) if found else None


def version_metadata(version: Version, written: bool, shown: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of a materialisation.

    Args:
        version: The version that now is current.
        written: Whether work was done, or equal inputs let an earlier version serve.
        shown: Markdown for people, by name.
    """
    manifest = version.manifest
    table = main_table(manifest.asset).table
    count = "dagster/row_count" if manifest.partition is None else "dagster/partition_row_count"
    metadata: dict[str, Any] = {
        "dagster/uri": str(version.folder),
        **table_metadata(manifest.asset),
        count: manifest.n_rows[table],
    }
    metadata |= {f"g2is/{name}": dg.MetadataValue.md(text) for name, text in shown.items()}
    metadata |= {f"g2is/n_rows_{name}": n_rows for name, n_rows in manifest.n_rows.items() if name != table}
    metadata |= {f"g2is/{name}": value for name, value in manifest.metrics.items()}
    return metadata | {
        "g2is/computed": int(written),
        "g2is/n_bytes": sum(record.n_bytes for record in manifest.files.values()),
        "g2is/version": version.folder.name,
        "g2is/manifest_sha256": version.as_input.manifest_sha256,
    }
