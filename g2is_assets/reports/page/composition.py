"""What the subset is made of beside the pool, and what was kept out of both, by reason."""

from dataclasses import dataclass
from typing import Final, Literal

import polars as pl

from g2is_assets.reports.page.material import Material
from g2is_assets.reports.words import printable

SHOWN: Final = 40
"""Sources or licences that are listed; the others are one line."""
QUANTILES: Final = {
    "least": 0.0,
    "25 %": 0.25,
    "median": 0.5,
    "75 %": 0.75,
    "most": 1.0,
}


@dataclass(frozen=True)
class Part:
    """A source or a licence.

    Attributes:
        name: The source or licence.
        n_taken, n_pool: Rows of the subset and of the pool that have it; a row may have several.
        taken_share, pool_share: The same as shares of all rows.
    """

    name: str
    n_taken: int
    n_pool: int
    taken_share: float
    pool_share: float


def mix(material: Material, column: Literal["sources", "licenses"]) -> list[Part]:
    """The subset by source or licence beside the pool, the most taken first."""
    taken = material.subset.select("row_id").join(material.pool, on="row_id")
    counts = [_counts(table, column, name) for table, name in ((taken, "n_taken"), (material.pool, "n_pool"))]
    both = counts[1].join(counts[0], on="name", how="left").fill_null(0)
    both = both.sort(["n_taken", "n_pool", "name"], descending=[True, True, False])
    rows = list(both.select("name", "n_taken", "n_pool").iter_rows())
    if len(rows) > SHOWN:
        rest = rows[SHOWN - 1 :]
        rows = [*rows[: SHOWN - 1], (f"{len(rest)} others", sum(r[1] for r in rest), sum(r[2] for r in rest))]
    n_taken, n_pool = max(len(taken), 1), max(len(material.pool), 1)
    return [Part(printable(name), n, m, n / n_taken, m / n_pool) for name, n, m in rows]


def _counts(table: pl.DataFrame, column: str, name: str) -> pl.DataFrame:
    return table.select(pl.col(column).explode().alias("name")).group_by("name").len(name)


@dataclass(frozen=True)
class Length:
    """Tokens of prompts or responses, of the subset and of the pool, by name of the quantile."""

    name: str
    taken: dict[str, int]
    pool: dict[str, int]


def lengths(material: Material) -> list[Length]:
    """Quartiles of prompt and response lengths."""
    taken = material.subset.select("row_id").join(material.pool, on="row_id")
    return [
        Length(name, _quantiles(taken[column]), _quantiles(material.pool[column]))
        for name, column in (("Prompt", "n_prompt_tokens"), ("Response", "n_response_tokens"))
    ]


def _quantiles(values: pl.Series) -> dict[str, int]:
    return {name: round(values.quantile(share, "nearest") or 0) for name, share in QUANTILES.items()}


@dataclass(frozen=True)
class KeptOut:
    """Rows that were kept out for one reason."""

    of: str
    reason: str
    n_rows: int


def kept_out(material: Material) -> list[KeptOut]:
    """What was kept out of pool, domain and subset, counted by reason, in the order in which it happens."""
    found = [
        *_rejected("rows of the pool's files", material.rejected),
        *_rejected("rows of the domain's files", material.target_rejected),
        *_withheld("pool", material.withheld),
        *_withheld("domain", material.target_withheld),
    ]
    merged = int(material.pool["n_merged"].sum()) - len(material.pool)
    unplaced = len(material.pool) - len(material.places)
    found.append(KeptOut("rows of the pool's files", "equal to another row, of which they are a part since", merged))
    found.append(KeptOut("pool rows", "no gradient: it is zero or not finite", unplaced))
    near = material.excluded.filter(pl.col("split").is_null())
    found.append(KeptOut("pool rows", "near-duplicate of another pool row", len(near)))
    for split in ("validation", "test"):
        leaks = material.excluded.filter(pl.col("split") == split)
        kinds = leaks["reason"].value_counts().sort("reason")
        found += [KeptOut("pool rows", f"leak: repeats a {split} row ({kind})", n) for kind, n in kinds.iter_rows()]
        found += [] if len(kinds) else [KeptOut("pool rows", f"leak: repeats a {split} row", 0)]
    return found


def _rejected(of: str, table: pl.DataFrame) -> list[KeptOut]:
    # Reasons with the numbers of one row would be one line each.
    reasons = (
        table["reason"].str.replace_all(r"\d+", "N").value_counts().sort(["count", "reason"], descending=[True, False])
    )
    return [KeptOut(of, f"unusable: {printable(reason)}", n) for reason, n in reasons.iter_rows()]


def _withheld(of: str, table: pl.DataFrame) -> list[KeptOut]:
    """By reason; of licences by name too, but why somebody asked for a withdrawal is for the store alone."""
    counts = (
        table.with_columns(pl.when(pl.col("reason") == "license").then("detail"))
        .group_by("reason", "detail")
        .len()
        .sort("reason", "detail")
    )
    words = {"withdrawn": "withdrawn on request", "license": "licence not allowed"}
    return [
        KeptOut(f"{of} rows", words.get(reason, reason) + (f": {printable(detail)}" if detail else ""), n)
        for reason, detail, n in counts.iter_rows()
    ]
