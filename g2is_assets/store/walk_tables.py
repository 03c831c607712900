"""A walk as tables: row ids instead of indices, one row per row taken and one per component and row left."""

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.contracts import selection as contracts
from g2is_assets.core.walk_state import Pulls, Walk


def subset_table(
    walk: Walk,
    ids: NDArray[np.str_],
    domain: str,
    pulls: tuple[NDArray[np.int64], NDArray[np.float64]],
    own_ids: NDArray[np.str_],
) -> pl.DataFrame:
    """Contract `selection/subset`.

    Args:
        walk: The walk.
        ids: (n,) ids of the rows that it walked over.
        domain: The domain.
        pulls: As `core.knowledge.strongest_pulls` gives them.
        own_ids: (v,) ids of the domain's validation rows.
    """
    pulled_by = [
        [{"row_id": str(own_ids[row]), "cosine": float(cosine)} for row, cosine in zip(*pair, strict=True)]
        for pair in zip(*pulls, strict=True)
    ]
    table = pl.DataFrame(
        {
            "domain": [domain] * len(walk.rows),
            "order": np.arange(len(walk.rows)),
            "row_id": _names(ids, walk.rows),
            "component": walk.component,
            "step": walk.step,
            "predecessor": _names(ids, walk.predecessor),
            "predecessor_cosine": walk.predecessor_cosine,
            "min_cosine": walk.min_cosine,
            "min_cosine_row": _names(ids, walk.min_cosine_row),
            "core_cosine": walk.core_cosine,
            "consistency_before": walk.consistency_before,
            "consistency": walk.consistency,
            "score": walk.score,
            "margin": walk.margin,
            "pull": walk.pull,
            "redundancy": walk.redundancy,
            "nearest_row": _names(ids, walk.nearest_row),
            "nearest_cosine": walk.nearest_cosine,
            "pulled_by": pulled_by,
        },
        schema=contracts.SUBSET.schema,
    )
    return table.with_columns(pl.col(pl.Float64).fill_nan(None))


def left_table(walk: Walk, ids: NDArray[np.str_], domain: str) -> pl.DataFrame:
    """Contract `selection/subset left`: eligible rows that no component took."""
    left = np.setdiff1d(np.arange(len(ids)), walk.rows)
    left = left[np.argsort(ids[left], kind="stable")]
    parts = [pl.DataFrame(schema=contracts.LEFT.schema)]
    for component, seen in enumerate(walk.refusals):
        if seen is None:
            continue
        part = pl.DataFrame(
            {
                "domain": [domain] * len(left),
                "component": [component] * len(left),
                "row_id": ids[left],
                "core_cosine": seen.core_cosine[left].astype(np.float64),
                "conflict_component": seen.first_conflict_component[left],
                "conflict_step": seen.first_conflict_step[left],
                "conflict_row": _names(ids, seen.first_conflict_row[left]),
                "conflict_cosine": seen.first_conflict_cosine[left].astype(np.float64),
                "n_inconsistent": seen.n_inconsistent[left],
                "rank": seen.rank[left],
                **_pulls(seen.pulls, ids, left),
            },
            schema=contracts.LEFT.schema,
        )
        numbers = [pl.col(name).replace(-1, None) for name in ("conflict_component", "conflict_step", "rank")]
        parts.append(part.with_columns(pl.col("conflict_cosine").fill_nan(None), *numbers))
    return pl.concat(parts)


def budgets_table(walk: Walk, domain: str, weights: NDArray[np.float64], budgets: NDArray[np.int64]) -> pl.DataFrame:
    """Contract `selection/subset budgets`, from the weights (c,) and budgets (c,) of the components."""
    return pl.DataFrame(
        {
            "domain": [domain] * len(budgets),
            "component": np.arange(len(budgets)),
            "weight": weights,
            "budget": budgets,
            "n_taken": np.bincount(walk.component, minlength=len(budgets)),
            "n_choices": [0 if seen is None else seen.n_choices for seen in walk.refusals],
            "ended": walk.ended,
        },
        schema=contracts.BUDGETS.schema,
    )


def count_refusals(
    left: pl.DataFrame, budgets: pl.DataFrame, min_core_cosine: float | None, distortion: float
) -> dict[str, int]:
    """How many candidates each rule refused, a candidate being a row left and a component.

    A conflict counts where a choice came after it: with the last row taken, none did. A row below the floor is refused
    by that alone.

    Args:
        left: Contract `selection/subset left`.
        budgets: Contract `selection/subset budgets`.
        min_core_cosine: The floor, if there is one.
        distortion: Standard error of a sketched cosine near 0.
    """
    floor = -np.inf if min_core_cosine is None else min_core_cosine
    above = left.filter(pl.col("core_cosine") >= floor).join(budgets.select("component", "n_choices"), on="component")
    earlier = pl.col("conflict_component") != pl.col("component")
    conflict = above.filter(earlier | (pl.col("conflict_step") < pl.col("n_choices")))
    return {
        "n_candidates": len(left),
        "n_refused_by_conflict": len(conflict),
        "n_refused_within_distortion": conflict.filter(pl.col("conflict_cosine") > -distortion).height,
        "n_refused_by_consistency": left.filter(pl.col("n_inconsistent") > 0).height,
        "n_refused_by_core_cosine": len(left) - len(above),
    }


def _pulls(pulls: Pulls | None, ids: NDArray[np.str_], left: NDArray[np.int64]) -> dict[str, Any]:
    """What only a balanced walk knows; nulls of other walks."""
    if pulls is None:
        return {name: [None] * len(left) for name in ("pull", "redundancy", "nearest_row", "nearest_cosine")}
    return {
        "pull": pulls.pull[left].astype(np.float64),
        "redundancy": pulls.redundancy[left].astype(np.float64),
        "nearest_row": _names(ids, pulls.nearest_row[left]),
        "nearest_cosine": pulls.nearest_cosine[left].astype(np.float64),
    }


def _names(ids: NDArray[np.str_], rows: NDArray[np.int64]) -> list[str | None]:
    return [str(ids[row]) if row >= 0 else None for row in rows]
