"""Tables of the stage `selection`: the chosen rows with the reason for each, and the budgets."""

from typing import Final

import polars as pl

from g2is_assets.contracts.contract import DOMAIN, Column, Contract, count, pool_row, row_id, share

SCREENED_OUT: Final = "screened out"
"""Reason of a row that a prescreen did not keep for the domain."""
PULLED_BY: Final = pl.List(pl.Struct({"row_id": pl.String(), "cosine": pl.Float64()}))

SUBSET: Final = Contract(
    ("selection/subset",),
    "subset",
    "The rows that the walk took, in order, with what it saw at each step; null where the kind of walk has none",
    {
        "domain": DOMAIN,
        "order": count("0 is the first row taken", unique=True),
        "row_id": row_id("The row in instructions/pool", of="instructions/pool", unique=True),
        "component": count("Component whose walk took it; a balanced walk has one, the mean"),
        "step": count("Step of that walk; 0 is its anchor"),
        "predecessor": pool_row("Row taken just before by the same walk", nullable=True),
        "predecessor_cosine": Column(pl.Float64, "Coherence: cosine to the predecessor", nullable=True),
        "min_cosine": Column(pl.Float64, "Smallest cosine to any row that it must not conflict with", nullable=True),
        "min_cosine_row": pool_row("The row with that smallest cosine", nullable=True),
        "core_cosine": Column(pl.Float64, "Cosine to the component, or of a balanced walk to the domain's mean"),
        "consistency_before": Column(pl.Float64, "Consistency that it was measured against", nullable=True),
        "consistency": Column(pl.Float64, "|cosine| of the walk's sum to the component, this row included"),
        "score": Column(
            pl.Float64, "What it had most of: coherence (an anchor: core cosine); balanced: pull less redundancy"
        ),
        "margin": Column(
            pl.Float64,
            "How far the best row then allowed that no walk ever took lay behind: by which it is in the subset at all",
            nullable=True,
            minimum=0,
        ),
        "error": Column(pl.Float64, "Standard error of such a margin, at most, that the sketch makes", minimum=0),
        "pull": Column(
            pl.Float64, "Balanced: mean cosine to the domain's validation rows, as weighed then", nullable=True
        ),
        "redundancy": Column(pl.Float64, "Balanced: taken off for resembling the rows taken before", nullable=True),
        "nearest_row": pool_row(
            "Balanced: the row taken before that it resembles most (neighbours_only: that it has an edge with)",
            nullable=True,
        ),
        "nearest_cosine": Column(pl.Float64, "The cosine to it", nullable=True),
        "pulled_by": Column(
            PULLED_BY, "Validation rows with the largest cosine to it, at most three, the largest first"
        ),
    },
    sorted_by=("order",),
    main=True,
    pruned="whole",
    exposure="trained on",
    quoted=True,
)

BUDGETS: Final = Contract(
    ("selection/subset",),
    "budgets",
    "How the domain's budget was split over its components (a balanced walk has one, the mean), and how much was used",
    {
        "domain": DOMAIN,
        "component": count("0 is the strongest", unique=True),
        "weight": share("Share of the budget: of variance among the kept directions, or equal"),
        "budget": count("Rows that its walk may take"),
        "n_taken": count("Rows that it took; more than its budget only where others' was given to it"),
        "n_choices": count("How often it looked for a next row, the anchor not counted"),
        "ended": Column(
            pl.String,
            "Why it ended: `budget` used, `no budget`, `no free row`, or the rule that refused every row left: "
            "`conflict`, `consistency`, `core cosine`",
        ),
    },
    sorted_by=("component",),
)

LEFT: Final = Contract(
    ("selection/subset",),
    "left",
    "What each walk saw of every eligible row that no walk took",
    {
        "domain": DOMAIN,
        "component": count("Core-knowledge component"),
        "row_id": row_id("The row in instructions/pool", of="instructions/pool"),
        "core_cosine": Column(pl.Float64, "Cosine to the component, or of a balanced walk to the domain's mean"),
        "conflict_component": Column(
            pl.Int32,
            "Component whose row was the first in conflict with it: another one only with conflicts_across",
            nullable=True,
            minimum=0,
        ),
        "conflict_step": Column(pl.Int32, "Step of that component which took that row", nullable=True, minimum=0),
        "conflict_row": pool_row("That row", nullable=True),
        "conflict_cosine": Column(pl.Float64, "The cosine to it", nullable=True, maximum=0),
        "n_inconsistent": Column(pl.Int32, "At how many choices consistency refused it", minimum=0),
        "rank": Column(
            pl.Int32,
            "Place by the next score among rows without conflict when the walk ended",
            nullable=True,
            minimum=1,
        ),
        "pull": Column(
            pl.Float64, "Balanced: mean cosine to the domain's validation rows, as weighed then", nullable=True
        ),
        "redundancy": Column(pl.Float64, "Balanced: what the next step would have taken off", nullable=True),
        "nearest_row": pool_row("Balanced: the row taken that it resembles most", nullable=True),
        "nearest_cosine": Column(pl.Float64, "The cosine to it", nullable=True),
    },
    sorted_by=("component", "row_id"),
    pruned="nothing",
)

EXCLUDED: Final = Contract(
    ("selection/subset",),
    "excluded",
    "Pool rows that were not eligible, each with its reason",
    {
        "domain": DOMAIN,
        "row_id": row_id("The row in instructions/pool", of="instructions/pool", unique=True),
        "reason": Column(
            pl.String,
            "`near-duplicate` of a pool row; or of a row of the domain: `equal`, `shared 13-gram`, `word trigrams`; or "
            "`screened out`, with its score in `gradients/pool screen`",
        ),
        "other_row_id": pool_row("The row that it repeats", nullable=True),
        "split": Column(pl.String, "Whether that is a `validation` or `test` row of the domain", nullable=True),
        "share": share("Share of that row's word trigrams found in it", nullable=True),
    },
    sorted_by=("row_id",),
    pruned="whole",
)
