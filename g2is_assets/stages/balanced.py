"""Pure evaluator of a balanced walk: every step is made again from the vectors, against every row there was."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from g2is_assets.core.balance import node_weights, nodes_of
from g2is_assets.core.rows import FeatureSource, exact_rows, unit_rows
from g2is_assets.stages.evaluators import COSINE_TOLERANCE, Verdict, WalkRules

STEPS: Final = 512
"""Steps compared at a time: 16 MB of directions at 8,192 columns."""


def balance_was_kept(
    subset: pl.DataFrame,
    left: pl.DataFrame,
    row_ids: Sequence[str],
    source: FeatureSource,
    validation: NDArray[np.floating],
    redundancy: float,
    fair: bool,
    rules: WalkRules,
) -> Verdict:
    """Every row taken has the pull and redundancy that its record says, and no row that was allowed had a better score.

    Args:
        subset: Contract `selection/subset`.
        left: Contract `selection/subset left`, with what the rules on top refused.
        row_ids: (n,) ids of the rows of both.
        source: (n, d), their features.
        validation: (v, d), the domain's.
        redundancy: As set.
        fair: As set.
        rules: Those on top.
    """
    place = {row_id: number for number, row_id in enumerate(row_ids)}
    numbers = np.array([place[row_id] for row_id in subset["row_id"]])
    taken = exact_rows(unit_rows(source.rows(numbers)))
    sums = np.cumsum(taken, axis=0) - taken  # of the rows before
    nodes = nodes_of(validation, fair)
    targets = node_weights(nodes, sums) @ nodes
    weights = redundancy / np.arange(1, len(taken) + 1)
    pull, repeated = np.einsum("md,md->m", taken, targets), weights * np.einsum("md,md->m", taken, sums)
    said = subset.select("pull", "redundancy").to_numpy()
    misstated = int((~(np.abs(said - np.column_stack([pull, repeated])) <= COSINE_TOLERANCE).all(axis=1)).sum())
    until = _held_until(subset, left, place, rules)
    worst = np.zeros(len(taken))
    for start in range(0, len(taken), STEPS):
        steps = np.arange(start, min(start + STEPS, len(taken)))
        directions = (targets[steps] - weights[steps, None] * sums[steps]).astype(np.float32)
        scores = (pull - repeated)[steps]
        for rows, values in source.blocks():
            lead = unit_rows(values) @ directions.T - scores
            lead[steps >= until[rows, None]] = 0
            worst[steps] = np.maximum(worst[steps], lead.max(axis=0))
    passed_over = int((worst > COSINE_TOLERANCE).sum())
    return Verdict(
        misstated == passed_over == 0,
        f"of {len(taken)} steps {misstated} differ from their record, {passed_over} passed over a better row",
        {"n_misstated": misstated, "n_passed_over": passed_over, "largest_lead": float(worst.max(initial=0.0))},
    )


def _held_until(subset: pl.DataFrame, left: pl.DataFrame, place: dict[str, int], rules: WalkRules) -> NDArray[np.int64]:
    """(n,) up to which step, not included, a row may not have beaten the row taken.

    A row taken: up to its own; a row left: to the end, or until a row was taken that it conflicts with. A row that
    consistency or the floor may have refused is not compared.
    """
    steps = {row_id: order if rules.delta == 0 else 0 for order, row_id in enumerate(subset["row_id"])}
    floor = -np.inf if rules.min_core_cosine is None else rules.min_core_cosine + COSINE_TOLERANCE
    for row in left.select("row_id", "conflict_step", "n_inconsistent", "core_cosine").iter_rows(named=True):
        allowed = row["n_inconsistent"] == 0 and row["core_cosine"] >= floor
        end = len(subset) if row["conflict_step"] is None else row["conflict_step"] + 1
        steps[row["row_id"]] = end if allowed else 0
    until = np.zeros(len(place), dtype=np.int64)
    until[[place[row_id] for row_id in steps]] = list(steps.values())
    return until
