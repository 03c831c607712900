"""Pure evaluators of stored tables and arrays: each returns whether it passed, with the numbers behind it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

COSINE_TOLERANCE: Final = 1e-6
"""Slack for cosines of float32 vectors."""
FP16_NORM_TOLERANCE: Final = 1e-3
"""Slack for norms of unit vectors stored in half precision."""


@dataclass(frozen=True)
class Verdict:
    """Outcome of a check: whether it passed, one sentence, and numbers for the UI."""

    passed: bool
    description: str
    numbers: Mapping[str, float | int]


def features_are_unit(features: NDArray[np.float16]) -> Verdict:
    """Every stored vector is finite and has norm 1 within half precision."""
    norms = np.linalg.norm(features.astype(np.float32), axis=1)
    worst = float(np.abs(norms - 1).max(initial=0.0)) if np.isfinite(norms).all() else float("inf")
    bad = int((~(np.abs(norms - 1) <= FP16_NORM_TOLERANCE)).sum())
    numbers = {"n_vectors": len(norms), "n_bad": bad, "largest_deviation": min(worst, 1e30)}
    return Verdict(bad == 0, f"{bad} of {len(norms)} vectors are not finite or not of norm 1", numbers)


def components_are_orthonormal_and_oriented(directions: NDArray[np.float32], mean: NDArray[np.float32]) -> Verdict:
    """Directions are orthonormal and none points away from the mean validation feature."""
    gram = directions.astype(np.float64) @ directions.T.astype(np.float64)
    deviation = float(np.abs(gram - np.eye(len(gram))).max())
    towards = float((directions @ mean).min())
    passed = deviation <= 1e-5 and towards >= -COSINE_TOLERANCE
    numbers = {"n_components": len(gram), "largest_deviation": deviation, "smallest_product_with_mean": towards}
    return Verdict(passed, f"deviation from orthonormality {deviation:.1e}, towards the mean {towards:.1e}", numbers)


def subset_keeps_the_rules(subset: pl.DataFrame, features: NDArray[np.float16], delta: float) -> Verdict:
    """No two rows of a component conflict, and each step kept the consistency that it was held to.

    Args:
        subset: Contract `selection/subset`.
        features: (n, d), the subset's vectors in its order; cosines are taken anew, in float64.
        delta: The consistency threshold in force.
    """
    rows = features.astype(np.float64)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    conflicts, smallest = 0, 1.0
    for (_,), part in subset.group_by("component", maintain_order=True):
        own = rows[part["order"].to_numpy()]
        pairs = (own @ own.T)[np.triu_indices(len(own), 1)]
        conflicts += int((~(pairs >= -COSINE_TOLERANCE)).sum())  # NaN counts too
        smallest = min(smallest, float(pairs.min(initial=1.0)))
    walked = subset.filter(pl.col("step") > 0)
    broken = walked.filter(pl.col("consistency") < delta * pl.col("consistency_before") - COSINE_TOLERANCE)
    numbers = {"n_conflicts": conflicts, "smallest_cosine": smallest, "n_inconsistent": len(broken)}
    return Verdict(
        conflicts == 0 and len(broken) == 0,
        f"{conflicts} pairs in conflict, {len(broken)} steps below their consistency",
        numbers,
    )


def budgets_add_up(budgets: pl.DataFrame, n_rows: int, total: int) -> Verdict:
    """The components' budgets sum to the domain's, and together they took the subset's rows."""
    allotted, taken = int(budgets["budget"].sum()), int(budgets["n_taken"].sum())
    exceeded = int((budgets["n_taken"] > budgets["budget"]).sum())
    passed = allotted == total and taken == n_rows and exceeded == 0
    numbers = {"budget": total, "allotted": allotted, "taken": taken, "short": total - taken}
    return Verdict(passed, f"{allotted} of {total} rows allotted, {taken} taken, {n_rows} in the subset", numbers)


def tuned_beats(metrics: Mapping[str, int | float | str]) -> Verdict:
    """The G2IS adapter has a lower mean test NLL than the base model and than the random subset of the same size."""
    names = [f"minus_{other}{end}" for other in ("base", "random") for end in ("", "_low", "_high")]
    numbers = {name: float(metrics[name]) for name in names}
    said = []
    for other in ("base", "random"):
        mean, low, high = (numbers[f"minus_{other}{end}"] for end in ("", "_low", "_high"))
        said.append(f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] against {other}")
    covers = "95 % interval over rows, one training seed, one random subset"
    return Verdict(
        numbers["minus_base"] < 0 and numbers["minus_random"] < 0,
        f"nats per token: {', '.join(said)} ({covers}; {metrics['split']} rows)",
        numbers,
    )
