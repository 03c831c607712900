"""Tables of the stage `graph`: the stored edges and the statistics of every node."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import Column, Contract

_LIMIT: Final = 1 + 1e-5  # float32 products of unit rows overshoot 1 a little

EDGES: Final = Contract(
    "graph/neighbors edges",
    "Every row's nearest rows and strongest conflicts, exact on the complete graph",
    {
        "row_id": Column(pl.String, "The row whose edge this is"),
        "other_row_id": Column(pl.String, "The row at the other end"),
        "relation": Column(pl.String, "`neighbor` (largest cosines) or `conflict` (smallest, negative ones only)"),
        "rank": Column(pl.Int64, "0 is the strongest", minimum=0),
        "cosine": Column(pl.Float64, "Cosine of the two features", minimum=-_LIMIT, maximum=_LIMIT),
    },
)

NODES: Final = Contract(
    "graph/neighbors",
    "Statistics of every row over the complete graph",
    {
        "row_id": Column(pl.String, "The row", unique=True),
        "mean_cosine": Column(pl.Float64, "Mean cosine to the other rows", minimum=-_LIMIT, maximum=_LIMIT),
        "conflict_share": Column(pl.Float64, "Share of the other rows with a negative cosine", minimum=0, maximum=1),
        "in_degree": Column(pl.Int64, "How many rows list this one among their nearest", minimum=0),
        "n_negative": Column(pl.Int64, "Number of other rows with a negative cosine", minimum=0),
        "duplicate_group": Column(pl.String, "First row id of its near-duplicate group; only that row is eligible"),
    },
    sorted_by=("row_id",),
)

DUPLICATES: Final = Contract(
    "graph/neighbors duplicates",
    "Pairs of rows that nearly equal each other",
    {
        "row_id": Column(pl.String, "The row that comes first"),
        "other_row_id": Column(pl.String, "The other row"),
        "reason": Column(pl.String, "`cosine` of the gradients, or `text` after normalisation"),
    },
    sorted_by=("row_id", "other_row_id", "reason"),
)
