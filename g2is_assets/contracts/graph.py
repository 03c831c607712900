"""Tables of the stage `graph`: the stored edges and the statistics of every node."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import Column, Contract, count, pool_row, row_id, share

_LIMIT: Final = 1 + 1e-12  # of two roundings

EDGES: Final = Contract(
    ("graph/neighbors",),
    "edges",
    "Every row's nearest rows and strongest conflicts, exact on the complete graph",
    {
        "row_id": row_id("The row whose edge this is", of="instructions/pool"),
        "other_row_id": pool_row("The row at the other end"),
        "relation": Column(pl.String, "`neighbor` (largest cosines) or `conflict` (smallest, negative ones only)"),
        "rank": count("0 is the strongest"),
        "cosine": Column(pl.Float64, "Cosine of the two features", minimum=-_LIMIT, maximum=_LIMIT),
    },
)

SPARE: Final = Contract(
    ("graph/neighbors",),
    "spare",
    "Each row's next edges of either kind: they take the place of edges that go, so that few lists are made anew",
    EDGES.columns,
)

NODES: Final = Contract(
    ("graph/neighbors",),
    "neighbors",
    "Statistics of every row over the complete graph",
    {
        "row_id": row_id("The row", of="instructions/pool", unique=True),
        "mean_cosine": Column(pl.Float64, "Mean cosine to the other rows", minimum=-_LIMIT, maximum=_LIMIT),
        "conflict_share": share("Share of the other rows with a negative cosine"),
        "in_degree": count("How many rows list this one among their nearest"),
        "n_negative": count("Number of other rows with a negative cosine"),
    },
    sorted_by=("row_id",),
    main=True,
)

GROUPS: Final = Contract(
    ("graph/neighbors",),
    "groups",
    "Every row's near-duplicates: all rows that a selection is made from, and which of them count as one",
    {
        "row_id": row_id("The row", "instructions/pool", unique=True),
        "duplicate_group": pool_row("First row id of its near-duplicate group, of which one row is eligible"),
    },
    sorted_by=("row_id",),
)

MAP: Final = Contract(
    ("graph/neighbors",),
    "map",
    "A place in the plane for every row, to look at: neighbours lie near each other, the axes mean nothing",
    {
        "row_id": row_id("The row", of="instructions/pool", unique=True),
        "x": Column(pl.Float32, "From left to right"),
        "y": Column(pl.Float32, "From bottom to top"),
    },
    sorted_by=("row_id",),
)

COSINES: Final = Contract(
    ("graph/neighbors",),
    "cosines",
    "Histogram of the cosines of all pairs among some rows, of the features as they are and with the mean removed",
    {
        "features": Column(pl.String, "`raw` or `mean_removed`"),
        "low": Column(pl.Float64, "Lower edge of the bin", minimum=-1, maximum=1),
        "high": Column(pl.Float64, "Upper edge, part of the next bin but at 1", minimum=-1, maximum=1),
        "n_pairs": count("Pairs of rows in it"),
    },
    sorted_by=("features", "low"),
)

DUPLICATES: Final = Contract(
    ("graph/neighbors",),
    "duplicates",
    "Pairs of rows that nearly equal each other",
    {
        "row_id": row_id("The row that comes first", of="instructions/pool"),
        "other_row_id": pool_row("The other row"),
        "reason": Column(pl.String, "`cosine` of the gradients, or `text` after normalisation"),
    },
    sorted_by=("row_id", "other_row_id", "reason"),
)
