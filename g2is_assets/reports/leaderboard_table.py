"""The leaderboard in a terminal."""

from typing import Any

import polars as pl
from rich.markup import escape
from rich.table import Table

from g2is_assets.reports.leaderboard import RIVALS
from g2is_assets.reports.words import printable
from g2is_assets.settings.config import ALL_DOMAINS


def leaderboard_tables(board: pl.DataFrame) -> list[Table]:
    """One table per budget and domain, all domains together last.

    Args:
        board: Contract `study/leaderboard`, of one study and part.
    """
    groups = board.sort(pl.col("domain") == ALL_DOMAINS, "domain", maintain_order=True)
    return [
        _table(f"{domain}, budget {budget:g}", part)
        for (budget, domain), part in groups.group_by("budget", "domain", maintain_order=True)
    ]


def _table(title: str, part: pl.DataFrame) -> Table:
    seeds = part["n_seeds"].unique().sort().to_list()
    table = Table(title=f"{title}: NLL on {part['n_rows_scored'][0]} {part['part'][0]} rows, {_span(seeds)} seed(s)")
    several = part["domain"][0] == ALL_DOMAINS
    columns = ["rank", "variant", "NLL", *(f"minus {rival}" for rival in RIVALS)]
    columns += [f"domains better, like, worse than {rival}" for rival in RIVALS] if several else []
    for column in [*columns, "accuracy", "NLL on the pool", "tokens", "response", "selection"]:
        table.add_column(column, justify="left" if column == "variant" else "right")
    for row in part.iter_rows(named=True):
        cells = [str(row["rank"]), escape(printable(row["variant"])), f"{row['nll']:.4f}"]
        cells += [_difference(row, rival) for rival in RIVALS]
        cells += [_counts(row, rival) for rival in RIVALS] if several else []
        cells.append("" if row["accuracy"] is None else f"{100 * row['accuracy']:.1f} %")
        cells += ["" if row["general_nll"] is None else f"{row['general_nll']:.4f}", f"{row['n_tokens']:,.0f}"]
        length = row["mean_response_tokens"]
        cells += ["" if length is None else f"{length:.0f} tokens", f"{row['selection_s']:.1f} s"]
        table.add_row(*cells)
    return table


def _difference(row: dict[str, Any], rival: str) -> str:
    name = f"minus_{rival}"
    if row[name] is None:
        return ""
    return f"{row[name]:+.4f} \\[{row[f'{name}_low']:+.4f}, {row[f'{name}_high']:+.4f}]"


def _counts(row: dict[str, Any], rival: str) -> str:
    counts = [row[f"n_{how}_{rival}"] for how in ("better_than", "like", "worse_than")]
    return "" if counts[0] is None else " ".join(map(str, counts))


def _span(values: list[int]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"
