"""Which pool rows a domain may choose from, and how many: one rule for the subset and for studies."""

import polars as pl

from g2is_assets.contracts import selection as contracts
from g2is_assets.core.leakage import Text, find_leaks
from g2is_assets.errors import SettingsError


def excluded_rows(rows: pl.DataFrame, target: pl.DataFrame, nodes: pl.DataFrame, *, allow_leaks: bool) -> pl.DataFrame:
    """Contract `selection/subset excluded`, without the domain: repeats of the domain's rows, then near-duplicates.

    Args:
        rows: Contract `instructions/pool`.
        target: Contract `instructions/target`; test rows count as well.
        nodes: Contract `graph/neighbors`.
        allow_leaks: Whether repeats of the domain's rows may be chosen.
    """
    texts = [[Text(*pair) for pair in table.select("prompt", "response").rows()] for table in (rows, target)]
    leaks = [] if allow_leaks else find_leaks(*texts)
    found = pl.DataFrame(
        {
            "row_id": [rows["row_id"][leak.pool_row] for leak in leaks],
            "reason": [leak.reason for leak in leaks],
            "other_row_id": [target["row_id"][leak.domain_row] for leak in leaks],
            "split": [target["split"][leak.domain_row] for leak in leaks],
            "share": [leak.share for leak in leaks],
        },
        schema=pl.Schema({n: t for n, t in contracts.EXCLUDED.schema.items() if n != "domain"}),
    )
    # Of a group, the first row that repeats no row of the domain stands for all.
    rest = nodes.join(found, on="row_id", how="anti")
    doubles = rest.with_columns(first=pl.col("row_id").min().over("duplicate_group"))
    doubles = doubles.filter(pl.col("row_id") != pl.col("first"))
    return pl.concat(
        [
            found,
            doubles.select(
                "row_id",
                pl.lit("near-duplicate").alias("reason"),
                pl.col("first").alias("other_row_id"),
                pl.lit(None, pl.String).alias("split"),
                pl.lit(None, pl.Float64).alias("share"),
            ),
        ]
    ).sort("row_id")


def n_rows_of(budget: float, n_pool: int, n_eligible: int, domain: str) -> int:
    """A budget in rows: below 1 a share of the pool's rows with gradients, rounded, at least 1; else the count itself.

    Raises:
        SettingsError: It is more than the eligible rows.
    """
    total = max(1, round(budget * n_pool)) if budget < 1 else int(budget)
    if total > n_eligible:
        raise SettingsError(
            f"domain '{domain}': the budget of {total} rows is larger than the pool's {n_eligible} eligible rows "
            f"({n_pool} with gradients, near-duplicates counted once, repeats of the domain's rows left out); lower "
            "`budget`"
        )
    return total
