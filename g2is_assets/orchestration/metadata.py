"""What the Dagster UI shows of a version: standard keys first, then `g2is/...` numbers, the same on every run."""

from collections.abc import Mapping
from typing import Any, Final

import dagster as dg
import polars as pl

from g2is_assets.contracts.contract import Column, Contract
from g2is_assets.contracts.views import CONTRACTS, main_table, view_of
from g2is_assets.store.lake import Version

ROW_IDS_FROM: Final = {
    "graph/neighbors": ("instructions/pool", ("row_id", "duplicate_group")),
    "selection/subset": ("instructions/pool", ("row_id", "predecessor", "min_cosine_row")),
    "finetune/evaluation": ("instructions/target", ("row_id",)),
    "study/subset": ("instructions/pool", ("row_id",)),
    "study/score": ("instructions/target", ("row_id",)),
}
"""Where the row ids of a main table come from: the one kind of column that is handed on as it is."""


def table_metadata(asset: str) -> dict[str, Any]:
    """What is known of an asset's main table before anything is materialised: its columns and its view."""
    view = view_of(asset, main_table(asset))
    found: dict[str, Any] = {"dagster/table_name": view, "dagster/column_schema": column_schema(CONTRACTS[view])}
    lineage = column_lineage(asset)
    return found | ({"dagster/column_lineage": lineage} if lineage else {})


def column_schema(contract: Contract) -> dg.TableSchema:
    """A contract as Dagster's column schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                name,
                _type_name(pl.Schema({name: column.dtype})[name]),
                description=column.meaning,
                constraints=dg.TableColumnConstraints(
                    nullable=column.nullable, unique=column.unique, other=_bounds(column)
                ),
            )
            for name, column in contract.columns.items()
        ]
    )


def _type_name(dtype: pl.DataType) -> str:
    # How long a vector is depends on the settings.
    return f"Array({dtype.inner})" if isinstance(dtype, pl.Array) else str(dtype)


def _bounds(column: Column) -> list[str]:
    bounds = (("at least", column.minimum), ("at most", column.maximum))
    return [f"{words} {bound:g}" for words, bound in bounds if bound is not None]


def column_lineage(asset: str) -> dg.TableColumnLineage | None:
    """Which columns of an asset's main table are row ids of another's."""
    if asset not in ROW_IDS_FROM:
        return None
    upstream, columns = ROW_IDS_FROM[asset]
    source = [dg.TableColumnDep(dg.AssetKey(upstream.split("/")), "row_id")]
    return dg.TableColumnLineage(dict.fromkeys(columns, source))


def version_metadata(version: Version, written: bool, shown: Mapping[str, str]) -> dict[str, Any]:
    """Metadata of a materialisation.

    Args:
        version: The version that now is current.
        written: Whether work was done, or equal inputs let an earlier version serve.
        shown: Markdown for people, by name.
    """
    manifest = version.manifest
    table = main_table(manifest.asset)
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
